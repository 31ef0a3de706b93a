# SPDX-License-Identifier: Apache-2.0
"""Kaldi tables: one ``key value`` a line, sorted by the bytes of the key."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from espnet_ext.data.lines import decoded
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path


def iter_table(path: Path | str) -> Iterator[tuple[str, str]]:
    """Yield ``(key, value)`` line by line; the value may be empty.

    A space or a tab ends the key. Memory does not grow with a table in byte order.

    Raises:
        DataError: The file is missing, not UTF-8, or a line has no key or repeats one.
    """
    path, last = Path(path), ""
    seen: set[str] | None = None  # keys so far, from where the order of bytes is broken
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path)
    with open(path, "rb") as f:
        for number, raw in enumerate(f, 1):
            key, value = _split(decoded(raw, path, number).rstrip("\r\n"))
            if not key:
                raise DataError(
                    "the line has no key",
                    f"{path}:{number}",
                    f"espnet-ext doctor --data {path.parent} --fix",
                )
            if seen is None and key.encode() <= last.encode():
                seen = _keys(path, number)
            if seen is not None and key in seen:
                raise DataError(f"'{key}' stands twice", f"{path}:{number}", "remove one of them")
            if seen is not None:
                seen.add(key)
            last = key
            yield key, value.strip()


def _split(line: str) -> tuple[str, str]:
    if "\t" in line:
        key, *value = re.split("[ \t]", line, maxsplit=1)
        return key, value[0] if value else ""
    key, _, value = line.partition(" ")
    return key, value


def _keys(path: Path, end: int) -> set[str]:
    """Return the keys of the lines before line ``end`` (from 1)."""
    with open(path, "rb") as f:
        return {_split(raw.decode().rstrip("\r\n"))[0] for raw in islice(f, end - 1)}


def read_table(path: Path | str) -> dict[str, str]:
    """Read a whole table; see :func:`iter_table`."""
    return dict(iter_table(path))


def write_table(path: Path | str, rows: Mapping[str, object] | Iterable[tuple[str, object]]) -> int:
    """Write a table atomically, in byte order of the keys as Kaldi sorts; return its length."""
    items = rows.items() if isinstance(rows, Mapping) else rows
    ordered = sorted(items, key=lambda kv: kv[0].encode())
    with atomic_path(path) as tmp, open(tmp, "w", encoding="utf-8", newline="\n") as f:
        for key, value in ordered:
            f.write(f"{key} {value}".rstrip() + "\n")
    return len(ordered)


def write_spk2utt(data_dir: Path | str, utt2spk: Mapping[str, str]) -> None:
    """Write ``spk2utt``, the inverse of ``utt2spk``."""
    spk2utt: dict[str, list[str]] = {}
    for utt in sorted(utt2spk, key=str.encode):
        spk2utt.setdefault(utt2spk[utt], []).append(utt)
    write_table(Path(data_dir) / "spk2utt", {s: " ".join(u) for s, u in spk2utt.items()})


def write_set(folder: Path | str, rows: Mapping[str, tuple[str, str, str]]) -> None:
    """Write a set's folder from ``{utterance: (audio file, text, speaker)}``."""
    folder = Path(folder)
    for column, file in enumerate(("wav.scp", "text", "utt2spk")):
        write_table(folder / file, {utt: row[column] for utt, row in rows.items()})
    write_spk2utt(folder, {utt: speaker for utt, (_, _, speaker) in rows.items()})
