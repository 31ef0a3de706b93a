# SPDX-License-Identifier: Apache-2.0
"""CTM files: ``utterance channel start duration name [confidence [type [speaker]]]``, in seconds.

Reading is lazy: an index of where each utterance begins is held in memory, its lines are parsed
when they are asked for. Lines that begin with ``;;`` are comments.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import IO

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path

DECIMALS = 7  # a multiple of 1/16000 s has at most 7 decimals and stands exactly


@dataclass(frozen=True)
class Interval:
    """A named stretch of time ``[start_s, end_s)``."""

    start_s: float
    end_s: float
    name: str


def format_s(seconds: float) -> str:
    """Return a time with 3 to 7 decimals, as short as it is exact."""
    whole, _, decimals = f"{seconds:.{DECIMALS}f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<3}"


def ctm_lines(utt: str, intervals: Iterable[Interval]) -> str:
    """Return the lines of one utterance; times are rounded to 7 decimals.

    Raises:
        DataError: A name is empty or holds white space, a time is negative or not finite, or an
            interval ends before it starts.
    """
    lines = []
    for i in intervals:
        start, end = round(i.start_s, DECIMALS), round(i.end_s, DECIMALS)
        if len(i.name.split()) != 1 or i.name != i.name.strip():
            raise DataError(f"'{i.name}' cannot stand in a CTM file", f"utterance {utt}")
        if not 0 <= start <= end < math.inf:
            raise DataError(
                f"'{i.name}' lasts from {i.start_s} to {i.end_s} s", f"utterance {utt}",
                "times must be finite, not negative, and in order",
            )  # fmt: skip
        lines.append(f"{utt} 1 {format_s(start)} {format_s(end - start)} {i.name}\n")
    return "".join(lines)


def write_ctm(path: Path | str, rows: Iterable[tuple[str, Iterable[Interval]]]) -> None:
    """Write ``(utterance, intervals)`` atomically; see :func:`ctm_lines`."""
    with atomic_path(path) as tmp, open(tmp, "w", encoding="utf-8", newline="\n") as f:
        for utt, intervals in rows:
            f.write(ctm_lines(utt, intervals))


class Ctm(Mapping[str, list[Interval]]):
    """A CTM file as a read-only dictionary from utterance to its intervals, sorted by time.

    Args:
        path: The file.
        utts: Names that the dictionary has; those without a line get ``[]``. Default: the
            utterances of the file, in its order.

    Raises:
        DataError: The file is missing, not UTF-8, or (also when an utterance is read) a line is
            not usable.
    """

    def __init__(self, path: Path | str, utts: Iterable[str] | None = None):
        self.path = Path(path)
        self._runs = self._index()
        self._utts = dict.fromkeys(self._runs if utts is None else utts)

    def __getitem__(self, utt: str) -> list[Interval]:
        if utt not in self._utts:
            raise KeyError(utt)
        rows, self._digits = [], 0
        with open(self.path, "rb") as f:
            for offset, number in self._runs.get(utt, ()):
                f.seek(offset)
                rows += self._run(f, utt, number)
        channels = {channel for channel, _ in rows}
        if len(channels) > 1:
            raise DataError(
                f"'{utt}' has {len(channels)} channels", self.path, "write one file per channel"
            )
        return _met(sorted((i for _, i in rows), key=lambda i: (i.start_s, i.end_s)), self._digits)

    def __iter__(self) -> Iterator[str]:
        return iter(self._utts)

    def __len__(self) -> int:
        return len(self._utts)

    def __contains__(self, utt: object) -> bool:
        return utt in self._utts  # the inherited one would read the intervals

    def _index(self) -> dict[str, list[tuple[int, int]]]:
        """Return where each run of lines of an utterance begins: byte offset, line number."""
        if not self.path.is_file():
            raise DataError(f"{self.path.name} is missing", self.path)
        runs: dict[str, list[tuple[int, int]]] = {}
        offset, last = 0, None
        with open(self.path, "rb") as f:
            for number, raw in enumerate(f, 1):
                fields = raw.split(None, 1)
                if fields and not raw.startswith(b";;"):
                    if fields[0] != last:
                        utt = self._decode(fields[0], number)
                        runs.setdefault(utt, []).append((offset, number))
                    last = fields[0]
                offset += len(raw)
        return runs

    def _run(self, f: IO[bytes], utt: str, number: int) -> Iterator[tuple[str, Interval]]:
        """Yield channel and interval of lines up to the next utterance."""
        for n, raw in enumerate(f, number):
            if not raw.strip() or raw.startswith(b";;"):
                continue
            fields = self._decode(raw, n).split()
            if fields[0] != utt:
                return
            yield fields[1] if len(fields) > 1 else "", self._parse(fields, n)

    def _decode(self, raw: bytes, number: int) -> str:
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError("the line is not UTF-8", f"{self.path}:{number}") from None

    def _parse(self, fields: list[str], number: int) -> Interval:
        where = f"{self.path}:{number}"
        if not 5 <= len(fields) <= 8:
            raise DataError(
                f"the line has {len(fields)} columns", where,
                "write: utterance channel start duration name [confidence [type [speaker]]]",
            )  # fmt: skip
        try:
            start, duration = float(fields[2]), float(fields[3])
        except ValueError:
            raise DataError(f"'{fields[2]}' or '{fields[3]}' is not a time", where) from None
        if not (0 <= start < math.inf and math.isfinite(duration)):
            raise DataError(f"start {fields[2]}, duration {fields[3]}: not times", where)
        if duration < 0:
            raise DataError("the interval ends before it starts", where)
        self._digits = max(self._digits, *map(_decimals, fields[2:4]))
        return Interval(start, round(start + duration, DECIMALS + 2), fields[4])


def _decimals(number: str) -> int:
    """Return the number of decimals of a number as written."""
    mantissa, _, exponent = number.lower().partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def _met(rows: list[Interval], digits: int) -> list[Interval]:
    """Let intervals meet that overlap by one unit of the last digit.

    Start and duration were rounded apart, so their sum is off by as much.
    """
    unit = 10.0**-digits if digits else 0.0
    for i, (a, b) in enumerate(pairwise(rows)):
        if a.start_s < b.start_s < a.end_s <= b.start_s + unit * 1.01:
            rows[i] = replace(a, end_s=b.start_s)
    return rows


def frames_of(
    intervals: Sequence[Interval], values: Sequence[int], centres_s: np.ndarray, fill: int
) -> np.ndarray:
    """Return ``(T,)`` int32: the value of the interval that a frame's centre lies in.

    Args:
        intervals: Sorted by time, without overlaps.
        values: One for each interval.
        centres_s: ``(T,)`` centres of the frames in seconds.
        fill: Value of frames in no interval.
    """
    starts = np.asarray([i.start_s for i in intervals])
    ends = np.asarray([i.end_s for i in intervals])
    if not len(starts):
        return np.full(len(centres_s), fill, dtype=np.int32)
    index = np.searchsorted(starts, centres_s, side="right") - 1
    inside = (index >= 0) & (centres_s < ends[index])
    return np.where(inside, np.asarray(values)[index], fill).astype(np.int32)
