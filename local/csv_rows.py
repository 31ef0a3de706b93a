# SPDX-License-Identifier: Apache-2.0
"""Rows of a corpus' CSV table, with where each stands."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from espnet_ext.errors import DataError


def csv_rows(
    path: Path, columns: Sequence[str], what: str, how: str
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield ``(file:line, row)``.

    Args:
        path: Of the table; UTF-8, a byte order mark is skipped.
        columns: That it must have.
        what: The table is called in the error.
        how: To mend one that lacks a column.

    Raises:
        DataError: A column is missing.
    """
    with open(path, encoding="utf-8-sig", newline="") as f:
        rows = csv.DictReader(f)
        if missing := [c for c in columns if c not in (rows.fieldnames or ())]:
            raise DataError(f"the {what} has no column {missing[0]}", f"{path}:1", how)
        for row in rows:
            yield f"{path}:{rows.line_num}", row
