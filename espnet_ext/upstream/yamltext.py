# SPDX-License-Identifier: Apache-2.0
"""YAML as ESPnet3's recipes write it: banners over sections, short lists on one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

WIDTH = 58


@dataclass(frozen=True)
class Section:
    """A section of a configuration.

    Attributes:
        title: Of its banner; empty: none.
        values: Top-level keys.
        comments: Lines above the keys.
    """

    title: str
    values: dict[str, Any]
    comments: Sequence[str] = ()


class _Dumper(yaml.SafeDumper):
    """Indents lists below their key; shares nothing by anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: yaml.SafeDumper, values: list) -> yaml.Node:
    short = all(isinstance(v, int | float) or (isinstance(v, str) and len(v) < 9) for v in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=short)


def _none(dumper: yaml.SafeDumper, value: None) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


def _float(dumper: yaml.SafeDumper, value: float) -> yaml.Node:
    # '1e-06' would be read back as text.
    text = f"{value:.10f}".rstrip("0") if 1e-9 < abs(value) < 1e-3 else repr(value)
    return dumper.represent_scalar("tag:yaml.org,2002:float", text)


_Dumper.add_representer(list, _list)
_Dumper.add_representer(type(None), _none)
_Dumper.add_representer(float, _float)


def dumped(values: dict[str, Any]) -> str:
    """Return ``values`` as YAML."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=False, width=100)


def wrapped(text: str, width: int = 84) -> list[str]:
    """Return comment lines without their ``#``."""
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "  " + word
        else:
            line = f"{line} {word}" if line else word
    return [*lines, line] if line else lines


def rendered(head: Sequence[str], sections: Sequence[Section]) -> str:
    """Return a configuration file."""
    parts = ["".join(f"# {line}".rstrip() + "\n" for line in head)] if head else []
    for section in sections:
        text = banner(section.title) if section.title else ""
        for comment in section.comments:
            text += "".join(f"# {line}\n" for line in wrapped(comment))
        parts.append(text + dumped(section.values))
    return "\n".join(parts)


def banner(title: str) -> str:
    """Return three lines that name a section."""
    return f"{'#' * WIDTH}\n#{title:^{WIDTH - 2}}#\n{'#' * WIDTH}\n"
