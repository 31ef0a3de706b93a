# SPDX-License-Identifier: Apache-2.0
"""The one reader of YAML: what PyYAML lets pass in silence is refused with its line.

Plain data only, as ``yaml.safe_load``. Beyond that, refused are a key that stands twice (PyYAML
keeps the last), nesting deeper than :data:`MAX_DEPTH` (PyYAML ends in a RecursionError), and an
alias inside its own anchor (anything that walks the value would never end).
"""

import copy
import functools
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import EspnetExtError, UsageError

MAX_DEPTH = 40
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """See the module's text."""

    def __init__(self, stream: str):
        super().__init__(stream)
        self._open: list[str | None] = []  # anchors of the nodes around the current one

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        anchor = getattr(event, "anchor", None)
        if isinstance(event, yaml.AliasEvent):
            if anchor in self._open:
                raise _refused(f"the alias *{anchor} stands inside its own anchor", event)
            return super().compose_node(parent, index)
        if len(self._open) >= MAX_DEPTH:
            raise _refused(f"nested more than {MAX_DEPTH} levels deep", event)
        self._open.append(anchor)
        try:
            node = super().compose_node(parent, index)
        finally:
            self._open.pop()
        if isinstance(node, yaml.MappingNode):  # before '<<' is merged in, which may override
            self._check_keys(node)
        return node

    def _check_keys(self, mapping: yaml.MappingNode) -> None:
        first: dict[Any, int] = {}
        for node, _ in mapping.value:
            if not isinstance(node, yaml.ScalarNode) or node.tag == _MERGE:
                continue
            key = self.construct_object(node)
            line = node.start_mark.line + 1
            if key in first:
                what = f"the key '{node.value}' stands twice, first in line {first[key]}"
                raise yaml.MarkedYAMLError(problem=what, problem_mark=node.start_mark)
            first[key] = line


def _refused(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


def parse(text: str, where: object, error: type[EspnetExtError] = UsageError) -> Any:
    """Return the value of a YAML text.

    Args:
        text: One YAML document.
        where: File or option, for the message; the line is added.
        error: Class of what is raised.

    Raises:
        EspnetExtError: Of class ``error``: not valid YAML, or refused (see the module's text).
    """
    try:
        return copy.deepcopy(_load(text))
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        reason = getattr(e, "problem", None) or " ".join(str(e).split())
        place = f"{where}:{mark.line + 1}" if mark else where
        raise error(f"not valid YAML: {reason}", place) from None
    except (ValueError, RecursionError) as e:  # a date that does not exist; '[[[[' in the scanner
        raise error(f"not valid YAML: {e}", where) from None


@functools.lru_cache(maxsize=32)
def _load(text: str) -> Any:
    """Read a text once: planning a run asks for the same few files a hundred times."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)


def read(path: Path | str, error: type[EspnetExtError] = UsageError) -> Any:
    """Return the value of a YAML file in UTF-8; see :func:`parse`.

    Raises:
        EspnetExtError: Of class ``error``: the file cannot be read, or is not valid YAML.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as e:
        raise error(f"the file cannot be read: {e.strerror}", path, _beside(Path(path))) from None
    except OSError as e:
        raise error(f"the file cannot be read: {e.strerror}", path) from None
    except UnicodeDecodeError as e:
        raise error(f"not valid YAML: not UTF-8 at byte {e.start}", path) from None
    return parse(text, path, error)


def _beside(path: Path) -> str | None:
    have = sorted(str(p) for p in path.parent.glob("*.yaml"))
    return f"there are: {', '.join(have[:8])}" if have else None


def read_section(
    path: Path | str, what: str, error: type[EspnetExtError] = UsageError, empty: bool = True
) -> dict[str, Any]:
    """Return the ``key: value`` lines of a YAML file.

    Args:
        path: The file.
        what: What the file is, for the message: ``an executor file``.
        error: Class of what is raised.
        empty: An empty file is an empty section; else it is refused.

    Raises:
        EspnetExtError: Of class ``error``: see :func:`read`, or the file has something else.
    """
    value = read(path, error)
    if value is None and empty:
        return {}
    if not isinstance(value, dict):
        raise error(f"{what} must hold key: value lines", path)
    return value


def read_extended(
    path: Path | str, what: str, error: type[EspnetExtError] = UsageError, empty: bool = True
) -> dict[str, Any]:
    """Return the lines of a YAML file over those of the file that its key ``extends`` names.

    That file is found from the folder of the first, and may extend another one. Sections are
    merged key by key; any other value, a list or null too, replaces the one it stands over.

    Raises:
        EspnetExtError: Of class ``error``: see :func:`read_section`; ``extends`` names no file, or
            files extend one another in a circle.
    """
    value, chain = read_section(path, what, error, empty), [Path(path).resolve()]
    first = value.get("extends")
    name, where = first, Path(path)
    while name:
        if not isinstance(name, str):
            raise error(f"'extends' must be the path of a file, not {name!r}", where)
        where = where.parent / name
        if where.resolve() in chain:
            raise error(f"{what} extends itself", where, "take one 'extends' out")
        chain.append(where.resolve())
        below = read_section(where, what, error, empty)
        name = below.get("extends")
        value = _merged(below, value)
    return {**value, "extends": first} if first else value


def _merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    out = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(below.get(key), dict)
        out[key] = _merged(below[key], value) if both else value
    return out
