# SPDX-License-Identifier: Apache-2.0
"""A table as a mapping whose memory does not grow with it: lines are read when asked for."""

import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import iter_table, read_table
from espnet_ext.errors import DataError

_GAP = re.compile(rb"[ \t]")
_PLACES = 4096  # lines whose places are remembered, evenly spread


class TableLookup(Mapping[str, str]):
    """``{key: value}`` of a Kaldi table in byte order, as all tables in ``dump/`` are.

    A table in another order is held in memory. The file is read by position, so forked workers may
    share one that is open.

    Args:
        path: Of the table; it must not change while it is in use.

    Raises:
        DataError: It is missing.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError(f"{self.path.name} is missing", self.path)
        self._keys, self._places, self._count = _places(self.path)
        self._held = None if self._places else read_table(self.path)
        self._fd = -1
        self._block: tuple[int, bytes] = (-1, b"")  # the last one; tables are often read in order

    def __getitem__(self, key: str) -> str:
        if self._held is not None:
            return self._held[key]
        wanted = key.encode("utf-8", "surrogateescape")
        at = bisect_right(self._keys, wanted) - 1
        if at < 0 or (value := _find(self._read(at), wanted)) is None:
            raise KeyError(key)
        return value.decode("utf-8", "surrogateescape").strip()

    def _read(self, at: int) -> bytes:
        """Return the lines from place ``at`` to the next one, between two ends of line."""
        block = self._block  # another thread may set it to its own
        if block[0] != at:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            start, end = self._places[at : at + 2]
            block = (at, b"\n" + os.pread(self._fd, end - start, start) + b"\n")
            self._block = block
        return block[1]

    def __iter__(self) -> Iterator[str]:
        if self._held is not None:
            return iter(self._held)
        return (key for key, _ in iter_table(self.path))

    def __len__(self) -> int:
        return self._count if self._held is None else len(self._held)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_fd": -1}

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


def _places(path: Path) -> tuple[list[bytes], list[int], int]:
    """Return keys and places of some lines, the end as the last place, and how many there are.

    No places where keys are not in byte order, each once.
    """
    keys: list[bytes] = []
    places: list[int] = []
    last, count, place, every = b"", 0, 0, 1
    with open(path, "rb") as f:
        for line in f:
            key = _key(line)
            if key <= last:
                return [], [], 0
            if count % every == 0:
                keys.append(key)
                places.append(place)
                if len(keys) > _PLACES:
                    every, keys, places = 2 * every, keys[::2], places[::2]
            last, count, place = key, count + 1, place + len(line)
    return keys, [*places, place], count


def in_order(path: Path) -> bool:
    """Whether the lines of a file are in byte order of their first word, which may be repeated."""
    last = b""
    with open(path, "rb") as f:
        for line in f:
            if (key := _key(line)) < last:
                return False
            last = key
    return True


def _key(line: bytes) -> bytes:
    return _GAP.split(line.rstrip(b"\r\n"), maxsplit=1)[0]


def _find(lines: bytes, key: bytes) -> bytes | None:
    """Return what follows ``key`` in its line, of lines between two ends of line."""
    for after in (b" ", b"\t", b"\n", b"\r"):  # a space but for odd tables and empty values
        if (at := lines.find(b"\n" + key + after)) >= 0:
            at += len(key) + 1
            return lines[at : lines.index(b"\n", at)]
    return None
