# SPDX-License-Identifier: Apache-2.0
"""The lines of text files, each with its number: what is wrong with one is told with its place."""

import re
from collections.abc import Iterator, Sequence
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


def table_rows(
    path: Path, needed: Sequence[str], optional: Sequence[str] = ()
) -> tuple[list[str], Iterator[tuple[int, dict[str, str]]]]:
    """Read a table with tabs between its columns, without quoting, named by its first line.

    Args:
        path: Of the file.
        needed: Columns that must be there.
        optional: Further ones, for the message; any other may be there as well.

    Returns:
        The names of the columns, and ``(number of the line, {column: cell})`` of each further line
        that is not blank; cells are without surrounding white space.

    Raises:
        DataError: The file or a needed column is missing, a column stands twice, or a line is not
            UTF-8, holds a control character or has more or fewer cells than the first.
    """
    lines = _table_lines(path)
    _, header = next(lines, (1, ""))
    columns, where = _cells(header), f"{path}:1"
    if missing := [name for name in needed if name not in columns]:
        also = f"; {', '.join(optional)} if there are any" if optional else ""
        how = f"it needs {', '.join(needed)}, tabs between them{also}"
        raise DataError(f"the first line names no column {', '.join(missing)}", where, how)
    if twice := [name for name in columns if columns.count(name) > 1]:
        raise DataError(f"the column {twice[0]} stands twice", where, "remove one")
    return columns, _rows(path, lines, columns)


def _rows(
    path: Path, lines: Iterator[tuple[int, str]], columns: list[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    for number, line in lines:
        cells = _cells(line)
        if len(cells) != len(columns):
            what = f"the line has {len(cells)} columns, the first line {len(columns)}"
            raise DataError(what, f"{path}:{number}", "separate columns by one tab each")
        yield number, dict(zip(columns, cells, strict=True))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split("\t")]


def _table_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines that are not blank, only their end taken off."""
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
