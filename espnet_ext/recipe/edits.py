# SPDX-License-Identifier: Apache-2.0
"""Questions that a recipe made from a template leaves open: values that still are EDIT."""

import re
from pathlib import Path

from espnet_ext.errors import DataError

OPEN = "EDIT"
_LINE = re.compile(rf"""\s*(?:- )?([\w.-]+):\s*["']?{OPEN}["']?\s*(?:#\s*(?:{OPEN}:? )?(.*))?""")


def open_edits(folder: Path) -> list[str]:
    """Return ``file:line: key: what to write`` of each value in recipe.yaml and conf/ that is EDIT.

    EDIT in a comment marks a value that has an answer already; it is not counted.
    """
    found = []
    for file in (folder / "recipe.yaml", *sorted(folder.glob("conf/*.yaml"))):
        if not file.is_file():
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if match := _LINE.fullmatch(line):
                hint = f": {match[2]}" if match[2] else ""
                found.append(f"{file.relative_to(folder)}:{number}: {match[1]}{hint}")
    return found


def check(folder: Path) -> None:
    """Raise if questions are open.

    Raises:
        DataError: It lists all of them.
    """
    if found := open_edits(folder):
        values = "1 value is" if len(found) == 1 else f"{len(found)} values are"
        what = "\n    ".join([f"{values} still {OPEN}:", *found])
        raise DataError(what, None, f"write the answer in place of {OPEN}")
