# SPDX-License-Identifier: Apache-2.0
"""Which data folders become which sets of a new recipe (``espnet-ext new --from``)."""

import re
from pathlib import Path

from espnet_ext.data.sets_from import FILES, TEXTS, check_folder
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.paths import absolute
from espnet_ext.recipe import config
from espnet_ext.recipe.schema import Data

VALID = ("dev", "valid", "val", "validation")
FURTHER = re.compile(r"(test|eval)[\w.-]*")
MADE = ("utt2spk", "plain")  # by local/data.sh, where they are not there
HELD_OUT = "bl_just1"  # takes development and test set out of the labelled one where they lack


def read(given: list[str], template: Path) -> dict[str, Path]:
    """Return ``{set of the recipe: folder}`` in the order of the recipe.

    Args:
        given: ``[NAME=]DIR``, as options have them.
        template: Folder of the method's template.

    Raises:
        UsageError: A name is no set of the method, stands twice, or a set is missing.
        DataError: A folder does not exist, is no data folder, or lacks a table of the method.
    """
    data, found = config.load(template / "recipe.yaml").data, {}
    known = [data.train, data.valid, *data.test, *data.also]
    for text in given:
        for name, folder in _folders(text, known):
            if name in found:
                raise UsageError(f"the set '{name}' stands twice", "--from", "name each set once")
            check_folder(folder)
            found[name] = folder
    needed = [data.train, *data.also]
    if template.name != HELD_OUT:
        needed += [data.valid, *([] if tests(found, data) else data.test)]
    if missing := [name for name in needed if name not in found]:
        how = f"add {' '.join(f'{name}=DIR' for name in missing)}"
        raise UsageError(f"{template.name} needs the set {', '.join(missing)}", "--from", how)
    for name, folder in found.items():
        if name not in data.also:
            _check_tables(name, folder, template.name, data)
    order = [*known, *tests(found, data)]
    return dict(sorted(found.items(), key=lambda item: order.index(item[0])))


def _check_tables(name: str, folder: Path, method: str, data: Data) -> None:
    """Raise if a set lacks a table that the method trains on or is tested by."""
    needed = [file for file in data.files if file not in MADE]
    if missing := [file for file in needed if not (folder / file).is_file()]:
        what = f"the set '{name}' has no {', '.join(missing)}"
        how = f"{method} needs {', '.join(needed)}; see egs2/TEMPLATE/{method}/README.md"
        raise DataError(what, folder, how)


def tests(names: dict[str, Path], data: Data) -> list[str]:
    """Return those of the sets that are test sets, the usual ones first."""
    others = (data.train, data.valid, *data.also)
    return sorted((n for n in names if n not in others), key=lambda n: (n not in data.test, n))


def _folders(text: str, known: list[str]) -> list[tuple[str, Path]]:
    """Return set and folder of an argument; several of a folder that holds the sets."""
    name, equals, path = text.partition("=")
    name, path = (name, path) if equals else ("", text)
    folder = absolute(path)
    inside = [] if equals or _is_set(folder) else [p for p in folder.glob("*") if _is_set(p)]
    if chosen := [(n, p) for p in sorted(inside) if (n := _known(p.name, known))]:
        return chosen
    set_name = _known(name or folder.name, known)
    if not set_name:
        hint = nearest(name or folder.name, known)
        raise UsageError(f"no set is called '{name or folder.name}'", f"--from {text}",
                         f"NAME=DIR; {hint}; further test sets: test_NAME")  # fmt: skip
    return [(set_name, folder)]


def _is_set(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (FILES[0], TEXTS[0]))


def _known(name: str, known: list[str]) -> str:
    """Return what the recipe calls a set; empty if it has none of this name."""
    train, valid = known[:2]
    if name in known:
        return name
    if name in VALID:
        return valid
    return train if name == "train" else name if FURTHER.fullmatch(name) else ""
