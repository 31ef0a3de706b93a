# SPDX-License-Identifier: Apache-2.0
"""A table as a mapping whose memory does not grow with it: lines are found on disk by bisection."""

import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import iter_table, read_table
from espnet_ext.errors import DataError

_GAP = re.compile(rb"[ \t]")


class TableLookup(Mapping[str, str]):
    """``{key: value}`` of a Kaldi table in byte order, as all tables in ``dump/`` are.

    A table in another order is held in memory. Processes that fork, and copies by pickle, share
    the pages of the file.

    Args:
        path: Of the table; it must not change while it is in use.

    Raises:
        DataError: It is missing.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path.name} is missing", self.path)
        self._count = _count_sorted(self.path)
        self._held = read_table(self.path) if self._count is None else None
        self._map: mmap.mmap | bytes | None = None

    def __getitem__(self, key: str) -> str:
        if self._held is not None:
            return self._held[key]
        if self._map is None:
            self._map = _mapped(self.path)
        value = _search(self._map, key.encode("utf-8", "surrogateescape"))
        if value is None:
            raise KeyError(key)
        return value.decode("utf-8", "surrogateescape").strip()

    def __iter__(self) -> Iterator[str]:
        if self._held is not None:
            return iter(self._held)
        return (key for key, _ in iter_table(self.path))

    def __len__(self) -> int:
        return len(self._held) if self._held is not None else self._count or 0

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_map": None}


def _count_sorted(path: Path) -> int | None:
    """Return the number of lines; None where their keys are not in byte order, each once."""
    last, count = b"", 0
    with open(path, "rb") as f:
        for line in f:
            key = _GAP.split(line.rstrip(b"\r\n"), maxsplit=1)[0]
            if key <= last:
                return None
            last, count = key, count + 1
    return count


def _mapped(path: Path) -> mmap.mmap | bytes:
    with open(path, "rb") as f:
        if not path.stat().st_size:  # nothing to map
            return b""
        return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)


def _search(lines: mmap.mmap | bytes, key: bytes) -> bytes | None:
    """Return what follows ``key`` in its line."""
    low, high = 0, len(lines)  # beginnings of lines
    while low < high:
        middle = (low + high) // 2
        start = lines.rfind(b"\n", low, middle) + 1 or low
        end = lines.find(b"\n", middle, high)
        end = high if end < 0 else end
        found, *value = _GAP.split(lines[start:end], maxsplit=1)
        if found == key or found == key + b"\r":
            return value[0] if value else b""
        low, high = (end + 1, high) if found < key else (low, start)
    return None
