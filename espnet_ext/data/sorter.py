# SPDX-License-Identifier: Apache-2.0
"""Rows in byte order of their keys, sorted on disk, so that any number of them fits."""

import heapq
import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

_BYTES, _ROWS, _RUNS = 8 << 20, 10_000, 400  # held in memory; files that are merged at once


class Sorter:
    """Collects rows, then yields them sorted; rows of one key stay in the order they came in.

    Args:
        folder: For temporary files; its owner removes it.
        name: Begins their names.
        rows: How many rows are held in memory; None: 10,000, and not more than 8 MB.
    """

    def __init__(self, folder: Path, name: str, rows: int | None = None):
        self._folder, self._name, self._rows = folder, name, rows or _ROWS
        self._held: list[tuple[bytes, bytes]] = []
        self._bytes, self._made = 0, 0
        self._runs: list[Path] = []

    def add(self, key: str, value: Any) -> None:
        """Add a row; a key without white space, and a value that JSON can hold."""
        line = json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()
        self._held.append((key.encode("utf-8", "surrogateescape"), line))
        self._bytes += len(line)
        if len(self._held) >= self._rows or self._bytes >= _BYTES:
            self._spill()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        self._spill()
        with ExitStack() as stack:
            for key, line in self._merged(stack):
                yield key.decode("utf-8", "surrogateescape"), json.loads(line)

    def _spill(self) -> None:
        if self._held:
            self._held.sort(key=_key)
            self._write(iter(self._held))
            self._held, self._bytes = [], 0
        if len(self._runs) >= _RUNS:
            old = self._runs
            with ExitStack() as stack:
                merged = self._merged(stack)
                self._runs = []
                self._write(merged)
            for path in old:
                path.unlink()

    def _write(self, rows: Iterator[tuple[bytes, bytes]]) -> None:
        path = self._folder / f"{self._name}.{self._made}"
        self._made += 1
        with open(path, "wb") as f:
            f.writelines(b"%s\t%s\n" % row for row in rows)
        self._runs.append(path)

    def _merged(self, stack: ExitStack) -> Iterator[tuple[bytes, bytes]]:
        files = [stack.enter_context(open(path, "rb")) for path in self._runs]  # noqa: SIM115
        return heapq.merge(*map(_rows, files), key=_key)


def _rows(lines: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for line in lines:
        key, _, value = line.partition(b"\t")
        yield key, value.removesuffix(b"\n")


def _key(row: tuple[bytes, bytes]) -> bytes:
    return row[0]
