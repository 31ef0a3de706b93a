# SPDX-License-Identifier: Apache-2.0
"""CTM files: ``utterance channel start duration name [confidence [type [speaker]]]``, in seconds.

A folder has ``words.ctm``, ``phones.ctm``, and the lengths of utterances in ``utt2dur``.

Reading is lazy: an index of where each utterance begins is held in memory, its lines are parsed
when they are asked for. Lines that begin with ``;;`` are comments.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise, takewhile
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from espnet_ext.align.formats.tiers import (
    DECIMALS,
    LENGTHS,
    TIERS,
    Interval,
    Losses,
    Utterance,
    Utterances,
    last_end_s,
)
from espnet_ext.data.lines import decoded
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_path

ENDING = ".ctm"


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
        score = "" if i.score is None else f" {float(i.score)!r}"
        lines.append(f"{utt} 1 {format_s(start)} {format_s(end - start)} {i.name}{score}\n")
    return "".join(lines)


def render(u: Utterance, losses: Losses) -> dict[str, str]:
    """Return the lines of an utterance, by file.

    Raises:
        DataError: The utterance's name has a space, or a time is not usable.
    """
    if len(u.name.split()) != 1 or u.name.startswith(";;"):
        raise DataError(f"'{u.name}' cannot be the name of an utterance in a CTM file", u.name)
    return {
        tier + ENDING: ctm_lines(u.name, [_one_token(u.name, i, losses) for i in rows])
        for tier, rows in u.tiers.items()
    }


def _one_token(utt: str, i: Interval, losses: Losses) -> Interval:
    name = "_".join(i.name.split()) or "_"
    if name == i.name:
        return i
    losses.tell("a name must be one word in a CTM file, written with _", utt, i)
    return replace(i, name=name)


def read(path: Path) -> Mapping[str, Utterance]:
    """Return the utterances of a CTM file, or of the CTM files of a folder.

    Raises:
        UsageError: Whether a file holds phones or words is not in its name.
        DataError: A file is not usable.
    """
    if path.is_file():
        lengths, files = {}, {tier_of(path): Ctm(path)}
    else:
        about = path / LENGTHS
        lengths = read_table(about) if about.is_file() else {}
        files = {t: Ctm(path / f"{t}{ENDING}") for t in TIERS if (path / f"{t}{ENDING}").is_file()}
    utts = dict.fromkeys([*lengths, *(u for ctm in files.values() for u in ctm)])

    def load(utt: str, _: None) -> Utterance:
        tiers = {t: ctm.get(utt, []) for t, ctm in files.items()}
        length_s = float(lengths.get(utt, 0.0))
        return Utterance(utt, max(length_s, last_end_s(tiers)), tiers)

    return Utterances(utts, load)


def tier_of(path: Path) -> str:
    """Return which tier a CTM file holds, by its name."""
    kinds = [t for t in TIERS if t[:-1] in path.name.lower()]
    if len(kinds) != 1:
        raise UsageError(
            "does this CTM file hold phones or words?", path, "name it phones.ctm or words.ctm"
        )
    return kinds[0]


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
        rows: list[_Line] = []
        with open(self.path, "rb") as f:
            for offset, number in self._runs.get(utt, ()):
                f.seek(offset)
                lines = _lines(f, self.path, number)
                rows += [_parse(*x) for x in takewhile(lambda line: line[0][0] == utt, lines)]
        return _tier(rows, self.path)

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
                        utt = decoded(fields[0], self.path, number)
                        runs.setdefault(utt, []).append((offset, number))
                    last = fields[0]
                offset += len(raw)
        return runs


def iter_ctm(path: Path | str) -> Iterator[tuple[str, list[Interval]]]:
    """Yield utterances and their intervals in the order of a file; memory holds one of them.

    Raises:
        DataError: A line is not usable.
    """
    with open(path, "rb") as f:
        for utt, lines in groupby(_lines(f, Path(path), 1), key=lambda line: line[0][0]):
            yield utt, _tier([_parse(*line) for line in lines], Path(path))


class _Line(NamedTuple):
    utt: str
    channel: str
    interval: Interval
    digits: int  # after the point of its times


def _tier(lines: list[_Line], path: Path) -> list[Interval]:
    """Return the intervals of an utterance's lines, sorted by time."""
    if (channels := len({line.channel for line in lines})) > 1:
        what = f"'{lines[0].utt}' has {channels} channels"
        raise DataError(what, path, "write one file per channel")
    rows = sorted((line.interval for line in lines), key=lambda i: (i.start_s, i.end_s))
    return _met(rows, max((line.digits for line in lines), default=0))


def _lines(f: IO[bytes], path: Path, number: int) -> Iterator[tuple[list[str], str]]:
    """Yield columns and places of the lines from here on; the first has this number."""
    for n, raw in enumerate(f, number):
        if raw.strip() and not raw.startswith(b";;"):
            yield decoded(raw, path, n).split(), f"{path}:{n}"


def _parse(fields: list[str], where: str) -> _Line:
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
    score = _score(fields[5]) if len(fields) > 5 else None
    interval = Interval(start, round(start + duration, DECIMALS + 2), fields[4], score)
    return _Line(fields[0], fields[1], interval, max(map(_decimals, fields[2:4])))


def _score(text: str) -> float | None:
    """Return a confidence; "NA" and the like are none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


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
