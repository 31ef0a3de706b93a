# SPDX-License-Identifier: Apache-2.0
"""Manifests of cuts: a JSON object a line, compressed or not, read and written line by line."""

import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_path

ENDINGS = (".jsonl", ".jsonl.gz")
EVERY = 100_000  # rows: some ten seconds


def check_name(path: Path) -> None:
    """Refuse a file whose name is not that of such a manifest.

    Raises:
        UsageError: Its name has another ending.
    """
    if not path.name.endswith(ENDINGS):
        how = f"name it .jsonl.gz; another kind becomes one by: lhotse copy {path.name} x.jsonl.gz"
        raise UsageError("a manifest of cuts is .jsonl or .jsonl.gz", path, how)


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``(file:line, object)``; memory holds one line.

    Raises:
        DataError: The file is missing or cut off, or a line is no JSON object.
    """
    if not path.is_file():
        raise DataError("there is no such manifest", path)
    number, opener = 0, gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as f:
        try:
            for number, line in enumerate(f, 1):
                yield f"{path}:{number}", _object(line, f"{path}:{number}")
        except (EOFError, zlib.error, gzip.BadGzipFile) as e:
            what = f"the manifest is damaged or cut off after line {number} ({e})"
            raise DataError(what, path, "copy or make it again") from None


def counted[Row](rows: Iterable[Row], progress: Callable[[int], None] | None) -> Iterator[Row]:
    """Yield rows, and tell now and then how many there were."""
    for n, row in enumerate(rows, 1):
        yield row
        if progress and n % EVERY == 0:
            progress(n)


def _object(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as e:
        raise DataError(f"the line is not JSON ({e})", where, "make the manifest again") from None
    if not isinstance(found, dict):
        raise DataError("the line is no JSON object", where, "give a manifest of cuts")
    return found


@contextmanager
def write_lines(path: Path) -> Iterator[IO[str]]:
    """Yield a text file that appears as ``path`` when all went well; equal rows, equal bytes."""
    with atomic_path(path) as tmp, open(tmp, "wb") as raw:
        if path.suffix != ".gz":
            with io.TextIOWrapper(raw, "utf-8", newline="\n") as f:
                yield f
            return
        with (
            gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
            io.TextIOWrapper(packed, "utf-8", newline="\n") as f,
        ):
            yield f
