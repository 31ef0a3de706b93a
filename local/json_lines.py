# SPDX-License-Identifier: Apache-2.0
"""Manifests that people write: one JSON object a line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from espnet_ext.data.lines import utf8_lines
from espnet_ext.errors import DataError


def objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield ``(number from 1, object)`` of the lines that are not blank.

    Raises:
        DataError: A line is no JSON object, or names a key twice.
    """
    for number, line in utf8_lines(path):
        where = f"{path}:{number}"
        try:
            found = json.loads(line, object_pairs_hook=_once)
        except ValueError as e:
            how = "write one JSON object a line, text in double quotes"
            raise DataError(f"the line is not JSON: {e}", where, how) from None
        if not isinstance(found, dict):
            raise DataError("the line is no JSON object", where, "write {...}, one object a line")
        yield number, found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; JSON itself would take the last of two equal keys."""
    keys = [key for key, _ in pairs]
    if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
        raise ValueError(f"the key '{twice[0]}' stands twice")
    return dict(pairs)
