# SPDX-License-Identifier: Apache-2.0
"""The lines of text files, each with its number: what is wrong with one is told with its place."""

import re
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.errors import DataError

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # all but the tab


def decoded(raw: bytes, path: Path | str, number: int) -> str:
    """Return a line as text, with its end.

    Raises:
        DataError: The line is not UTF-8.
    """
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        how = "convert the file to UTF-8"
        raise DataError("the line is not UTF-8", f"{path}:{number}", how) from None


def utf8_lines(path: Path, blank: bool = False) -> Iterator[tuple[int, str]]:
    """Yield ``(number from 1, line)`` without a BOM and surrounding white space.

    Args:
        path: Of the file.
        blank: Yield blank lines as well, for files whose lines belong to those of others.

    Raises:
        DataError: The file is missing, or a line is not UTF-8.
    """
    for number, line in _lines(path):
        if (line := line.strip()) or blank:
            yield number, line


def table_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield ``(number from 1, line)`` of a table with tabs: only the line's end is taken off.

    Blank lines and a BOM are left out.

    Raises:
        DataError: The file is missing, or a line is not UTF-8 or holds a control character.
    """
    for number, line in _lines(path):
        line = line.rstrip("\r\n")
        if bad := _CONTROL.search(line):
            what, how = f"the line holds the control character {bad[0]!r}", "remove it"
            raise DataError(what, f"{path}:{number}", f"{how}; lines end in \\n or \\r\\n")
        if line.strip():
            yield number, line


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path, "check that the copy is complete")
    with open(path, "rb") as f:
        for number, raw in enumerate(f, 1):
            line = decoded(raw, path, number)
            if number == 1:
                line = line.removeprefix("\ufeff")
            if line:  # a BOM alone is no line
                yield number, line
