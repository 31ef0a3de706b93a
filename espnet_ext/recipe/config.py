# SPDX-License-Identifier: Apache-2.0
"""recipe.yaml and ``--section.field value`` overrides into a checked :class:`Recipe`."""

import contextlib
import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe.schema import Recipe
from espnet_ext.settings import build, strip_none

EXPERIMENT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def load(path: Path, overrides: list[tuple[str, str]] = ()) -> Recipe:
    """Read recipe.yaml, apply overrides, check every key and type.

    Args:
        path: The YAML file.
        overrides: ``(dotted key, text)`` in the order of the command line; the last wins.

    Raises:
        UsageError: No such file, broken YAML, unknown key (the nearest valid one is named),
            or a value of the wrong type.
    """
    if not path.exists():
        raise UsageError("there is no recipe.yaml here", path, "enter egs2/<corpus>/<method>1")
    raw = yamlfile.read_extended(path, "recipe.yaml", empty=False)
    for key, text in overrides:
        if key == "extends":
            raise UsageError("'extends' is no option", "--extends", f"write it into {path.name}")
        _override(raw, key.split("."), text, f"--{key}")
    recipe = build(Recipe, raw, str(path), "")
    if not EXPERIMENT_NAME.fullmatch(recipe.name):
        raise UsageError(
            f"'{recipe.name}' cannot name an experiment (it names a folder below exp/)",
            "name",
            "use letters, digits, '.', '_' and '-'",
        )
    return recipe


def _override(raw: dict, keys: list[str], text: str, option: str) -> None:
    cls: Any = Recipe
    node = raw
    for depth, key in enumerate(keys):
        if dataclasses.is_dataclass(cls):
            fields = typing.get_type_hints(cls)
            if key not in fields:
                raise UsageError(f"unknown option {option}", None, nearest(key, fields))
            cls = strip_none(fields[key])
        else:  # below a free dictionary anything goes
            args = typing.get_args(cls)
            cls = args[1] if len(args) == 2 else Any
        if depth == len(keys) - 1:
            node[key] = _parse(text, cls, option)
            return
        if not isinstance(node.get(key), dict):
            node[key] = {}
        node = node[key]


def _parse(text: str, cls: Any, option: str) -> Any:
    """Turn the text of an option into the field's type; text stays text, whatever it holds."""
    if cls is str:
        return text
    plain = "\n" not in text and not text.rstrip().endswith(":")
    if text in ("null", "none", "") or (plain and text[:1] in "[{") or cls in (int, float, bool):
        try:
            return yamlfile.parse(text, option) if text != "none" else None
        except UsageError as e:
            shown = text if len(text) < 80 else f"{text[:77]}..."
            raise UsageError(f"'{shown}' is not a value for {option}", option, e.what) from None
    if typing.get_origin(cls) is list or cls is list:
        return [text]
    if dataclasses.is_dataclass(cls):
        raise UsageError(f"{option} is a section, not a value", option, f"{option}.FIELD VALUE")
    if text in ("true", "false"):
        return text == "true"
    if re.fullmatch(r"[-+]?[0-9.][0-9.eE+-]*", text):
        for number in (int, float):  # YAML 1.1 would read 1e-3 as text and 010 as 8
            with contextlib.suppress(ValueError):
                return number(text)
    return text
