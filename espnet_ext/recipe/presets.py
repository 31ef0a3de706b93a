# SPDX-License-Identifier: Apache-2.0
"""Named sets of options in recipe.yaml (``presets``), one of which ``--preset NAME`` takes.

A preset is ``{KEY: VALUE}`` with the keys of the command line. It stands between the file and the
command line: its values replace those of the file, and an option replaces its values. Plans of
``espnet-ext evidence`` and ``sweep`` take one by the key ``preset``.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.errors import EspnetExtError, UsageError, nearest

KEY, SECTION = "preset", "presets"
NOT_IN_A_PRESET = (KEY, SECTION, "extends")


def chosen(raw: Mapping[str, Any], overrides: list[tuple[str, str]]) -> str:
    """Return the preset that is asked for, on the command line or else in the file.

    Args:
        raw: The content of recipe.yaml.
        overrides: Options of the command line; the last one wins.

    Raises:
        UsageError: There is no such preset; the nearest is named.
    """
    asked = [text for key, text in overrides if key == KEY]
    name = asked[-1] if asked else raw.get(KEY) or ""
    known = raw.get(SECTION) or {}
    if not name or name in known or not isinstance(known, Mapping):
        return name
    how = nearest(str(name), known) if known else "this recipe has none"
    raise UsageError(f"there is no preset '{name}'", "--preset" if asked else KEY, how)


def values(raw: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any, str]]:
    """Yield each option of a preset: its key, its value, and where it stands.

    Raises:
        UsageError: The preset sets a key that none may set.
    """
    known = raw.get(SECTION)
    section = known.get(name) if isinstance(known, Mapping) else None
    if not isinstance(section, Mapping):
        return  # the check of types tells
    for key, value in section.items():
        where = f"{SECTION}.{name}.{key}"
        if str(key).partition(".")[0] in NOT_IN_A_PRESET:
            raise UsageError(f"a preset cannot set '{key}'", where, "leave it out")
        yield str(key), value, where


def names(path: Path) -> list[str]:
    """Return the presets of a recipe.yaml, for help and completion; none if it cannot be read."""
    with suppress(EspnetExtError):
        found = yamlfile.read_extended(path, "recipe.yaml").get(SECTION)
        if isinstance(found, dict):
            return [str(name) for name in found]
    return []


def line(found: list[str]) -> str:
    """Return the line that lists them."""
    return f"presets (--preset NAME): {', '.join(found)}"
