# SPDX-License-Identifier: Apache-2.0
"""Agreement of two alignments of the same speech.

Frames: a common grid (that of the alignment directory with the finer frames, else every 10 ms)
runs to the later of the two ends; a frame has the phone or word whose interval its centre lies in,
and silence where there is none. "Without silence" drops the frames that are silence in both.
Classes are compared only where both have the same inventory: A's frames with B's of the nearest
centre.

Boundaries: the sequences without silence are aligned by Levenshtein distance; pairs with one name
(stress digits and word positions taken off) are matched. A boundary is the start of a matched
phone, or the end of a matched phone that is followed by silence or nothing in both alignments; so
each one counts once. Its difference is B's time minus A's. The kind is "onset" (start after
silence in both), "offset" (such an end), "pause" (start after silence in one only), else
"word" (start of a word of A, where A has words) or "inside". Words are matched and compared alike.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from rapidfuzz.distance import Levenshtein

from espnet_ext.align.evaluate.compare_text import WITHIN_MS, table
from espnet_ext.align.formats.ctm import frames_of
from espnet_ext.align.formats.directory import AlignmentDir, Header
from espnet_ext.align.formats.sources import Source, open_alignment
from espnet_ext.align.formats.textgrid import NO_WORD
from espnet_ext.align.formats.tiers import Interval, Tier
from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.files import write_json
from espnet_ext.lang.manner import manners, plain
from espnet_ext.lang.phones import is_silence
from espnet_ext.scoring.significance import bootstrap_interval

BOOTSTRAP_MS = 20
TOUCH_S = 1e-4  # intervals nearer than this touch
SLACK_MS = 1e-3  # times are decimal fractions: 20 ms must count as within 20 ms


@dataclass
class Frames:
    """Counted frames: all, and those that are not silence in both."""

    frames: int = 0
    equal: int = 0
    speech_frames: int = 0
    speech_equal: int = 0

    def add(self, same: np.ndarray, silence: np.ndarray) -> None:
        """Count ``(T,)`` equal frames; ``silence`` ``(T,)`` are those silent in both."""
        self.frames += len(same)
        self.equal += int(same.sum())
        self.speech_frames += int((~silence).sum())
        self.speech_equal += int((same & ~silence).sum())

    def shares(self) -> dict[str, float | int | None]:
        """Return counts and shares; None where nothing was counted."""
        return {
            **asdict(self),
            "agreement": _share(self.equal, self.frames),
            "agreement_speech": _share(self.speech_equal, self.speech_frames),
        }


@dataclass
class Boundaries:
    """Differences of matched boundaries, B minus A, in seconds; with what they belong to.

    About 60 bytes are held for a boundary: 2 GB for a thousand hours.
    """

    units_a: int = 0
    units_b: int = 0
    matched: int = 0
    diffs_s: list[float] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    per_utt: list[int] = field(default_factory=list)

    def add(self, a: Sequence[Interval], b: Sequence[Interval], word_starts: np.ndarray) -> None:
        """Add an utterance's intervals without silence, with plain names."""
        pairs = list(matches([i.name for i in a], [i.name for i in b]))
        self.units_a, self.units_b = self.units_a + len(a), self.units_b + len(b)
        self.matched += len(pairs)
        before = len(self.diffs_s)
        gaps_a, gaps_b = _gaps(a), _gaps(b)
        for i, j in pairs:
            silent = int(gaps_a[i]) + int(gaps_b[j])
            at_word = len(word_starts) and np.abs(word_starts - a[i].start_s).min() < TOUCH_S
            kind = ("word" if at_word else "inside", "pause", "onset")[silent]
            self._row(b[j].start_s - a[i].start_s, a[i].name, kind)
            if gaps_a[i + 1] and gaps_b[j + 1]:
                self._row(b[j].end_s - a[i].end_s, a[i].name, "offset")
        self.per_utt.append(len(self.diffs_s) - before)

    def _row(self, diff_s: float, name: str, kind: str) -> None:
        self.diffs_s.append(diff_s)
        self.names.append(sys.intern(name))
        self.kinds.append(kind)

    def interval(self) -> tuple[float, float] | None:
        """Return the 95 % bootstrap interval over utterances of the share within 20 ms."""
        counts = np.asarray(self.per_utt, dtype=np.int64)
        if np.count_nonzero(counts) < 2:
            return None
        near = np.abs(np.asarray(self.diffs_s)) * 1000 <= BOOTSTRAP_MS + SLACK_MS
        ends = np.cumsum(counts)
        total = np.concatenate([[0], np.cumsum(near)])
        low, high = bootstrap_interval(total[ends] - total[ends - counts], counts)
        return low / 100, high / 100

    def summary(self) -> dict[str, object]:
        """Return counts, all differences, and those by class and by kind."""
        diffs = np.asarray(self.diffs_s)
        manner = manners(self.names)
        groups = {"by_class": [manner[n] for n in self.names], "by_kind": self.kinds}
        return {
            "a": self.units_a, "b": self.units_b, "matched": self.matched,
            "within_20_ms_interval_95": self.interval(), **describe(diffs),
            **{
                key: {g: describe(diffs[np.asarray(of) == g]) for g in sorted(set(of))}
                for key, of in groups.items()
            },
        }  # fmt: skip


@dataclass
class Comparison:
    """Two alignments compared; see the head of the module for what is counted.

    Args:
        a: Name of the first.
        b: Name of the second.
        shared: Number of utterances in both.
        only_a: Utterances that B lacks.
        only_b: Utterances that A lacks.
        agreement: "phones", "words", "labels" to counted frames, where both have them.
        boundaries: "phones", "words" to differences, where both have them.
        notes: What could not be compared, and why.
    """

    a: str
    b: str
    shared: int
    only_a: list[str]
    only_b: list[str]
    agreement: dict[str, Frames] = field(default_factory=dict)
    boundaries: dict[str, Boundaries] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, object]:
        """Return everything as plain data; milliseconds, shares in 0..1."""
        return {
            "a": self.a, "b": self.b, "shared": self.shared,
            "only_a": self.only_a, "only_b": self.only_b, "notes": self.notes,
            "agreement": {k: v.shares() for k, v in self.agreement.items()},
            "boundaries": {k: v.summary() for k, v in self.boundaries.items()},
        }  # fmt: skip

    def as_text(self, *, by_class: bool = False) -> str:
        """Return a table for the terminal."""
        return "\n".join(table(self.as_json(), by_class=by_class))


def matches(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Yield the index pairs of equal elements in an optimal Levenshtein alignment."""
    for op in Levenshtein.opcodes(a, b):
        if op.tag == "equal":
            length = op.src_end - op.src_start
            yield from zip(
                range(op.src_start, op.src_start + length),
                range(op.dest_start, op.dest_start + length),
                strict=True,
            )


def compare(a: Path | str | AlignmentDir, b: Path | str | AlignmentDir) -> Comparison:
    """Compare two alignments of any form that :func:`open_alignment` knows.

    Raises:
        DataError: They share no utterance or no tier, or a file is not usable.
        UsageError: The form of one is not known.
    """
    x, y = open_alignment(a), open_alignment(b)
    in_x, in_y = set(x.utts), set(y.utts)
    shared = [u for u in x.utts if u in in_y]
    if not shared:
        raise DataError(
            f"the alignments share no utterance: {x.utts[:1]} here, {y.utts[:1]} there",
            f"{x.name} and {y.name}", "the utterances must have equal names",
        )  # fmt: skip
    only = [[u for u in p.utts if u not in q] for p, q in ((x, in_y), (y, in_x))]
    out = Comparison(x.name, y.name, len(shared), *only)
    tiers = [t for t in ("phones", "words") if _tier(x, t) is not None and _tier(y, t) is not None]
    labels = _labels_fit(x, y, out.notes)
    if not tiers:
        raise DataError("one has only phones, the other only words", f"{x.name} and {y.name}")
    out.agreement = {t: Frames() for t in (*tiers, *(["labels"] if labels else []))}
    out.boundaries = {t: Boundaries() for t in tiers}
    unreadable: list[DataError] = []
    for utt in shared:
        try:
            _count(out, x, y, utt)
        except DataError as e:  # of one utterance, such as a truncated archive: the rest goes on
            unreadable.append(e)
    if len(unreadable) == len(shared):
        raise unreadable[0]
    if unreadable:
        more = ", ..." if len(unreadable) > 5 else ""
        out.notes.append(
            f"{len(unreadable)} utterances cannot be read and are left out: "
            + "; ".join(f"{e.what} ({e.where})" for e in unreadable[:5]) + more
        )  # fmt: skip
        out.shared -= len(unreadable)
    return out


def _tier(source: Source, tier: str) -> Tier | None:
    return {"phones": source.phones, "words": source.words}[tier]


def _spoken(intervals: Sequence[Interval], tier: str) -> list[Interval]:
    """Return the intervals that are not silence, phones with plain names."""
    if tier == "words":
        return [i for i in intervals if i.name.lower() not in NO_WORD]
    return [replace(i, name=plain(i.name)) for i in intervals if not is_silence(i.name)]


def _count(out: Comparison, x: Source, y: Source, utt: str) -> None:
    pair = {t: (_tier(x, t)[utt], _tier(y, t)[utt]) for t in out.boundaries}
    same = _same_labels(x.directory, y.directory, utt) if "labels" in out.agreement else None
    end = max((i.end_s for both in pair.values() for part in both for i in part), default=0.0)
    headers = sorted((h for h in (x.header, y.header) if h), key=lambda h: h.frame_shift_s)
    grid = headers[0] if headers else Header("phone", 1)
    count = np.ceil((end - grid.first_frame_centre_s) / grid.frame_shift_s - 1e-6)
    centres = grid.centres_s(max(int(count), 0))
    words = x.words[utt] if x.words is not None else []
    word_starts = np.asarray([w.start_s for w in words])
    for tier, both in pair.items():
        a, b = (_spoken(part, tier) for part in both)
        ids = {n: k for k, n in enumerate(sorted({i.name for i in (*a, *b)}))}
        rows = [frames_of(p, [ids[i.name] for i in p], centres, -1) for p in (a, b)]
        out.agreement[tier].add(rows[0] == rows[1], (rows[0] < 0) & (rows[1] < 0))
        out.boundaries[tier].add(a, b, word_starts)
    if same is not None:
        out.agreement["labels"].add(*same)


def _labels_fit(x: Source, y: Source, notes: list[str]) -> bool:
    """Tell whether classes can be compared; say why not."""
    if not (x.header and y.header):
        return False
    keys = ("unit", "num_classes", "silence_ids")
    differ = [k for k in keys if getattr(x.header, k) != getattr(y.header, k)]
    if x.header.unit == "phone" and x.header.phones != y.header.phones:
        differ.append("phones")
    if differ:
        notes.append(f"classes are not compared: {', '.join(differ)} differ")
    return not differ


def _same_labels(x: AlignmentDir, y: AlignmentDir, utt: str) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(T,)`` equal classes, and silence in both, for A's frames that B has too."""
    a, b, h = x.labels(utt), y.labels(utt), y.header
    near = (x.header.centres_s(len(a)) - h.first_frame_centre_s) / h.frame_shift_s
    near = np.rint(near).astype(np.int64)
    inside = (near >= 0) & (near < len(b))
    a, b = a[inside], b[near[inside]]
    silent = list(h.silence_ids)
    return a == b, np.isin(a, silent) & np.isin(b, silent)


def _gaps(intervals: Sequence[Interval]) -> np.ndarray:
    """Return ``(N + 1,)``: whether silence or nothing stands before interval n, and at the end."""
    gaps = np.ones(len(intervals) + 1, dtype=bool)
    for n, (i, j) in enumerate(pairwise(intervals), 1):
        gaps[n] = j.start_s - i.end_s > TOUCH_S
    return gaps


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def describe(diffs_s: np.ndarray) -> dict[str, object]:
    """Return count, signed mean and median, absolute mean and median (ms), shares within N ms."""
    if not len(diffs_s):
        return {"boundaries": 0}
    ms, size = 1000 * diffs_s, np.abs(1000 * diffs_s)
    return {
        "boundaries": len(ms),
        "mean_ms": float(ms.mean()), "median_ms": float(np.median(ms)),
        "mean_abs_ms": float(size.mean()), "median_abs_ms": float(np.median(size)),
        "within": {f"{n}_ms": float((size <= n + SLACK_MS).mean()) for n in WITHIN_MS},
    }  # fmt: skip


def main_compare(argv: list[str]) -> int:
    """Run ``espnet-ext align compare A B [--json FILE] [--by-class]``; return the exit code."""
    p = argparse.ArgumentParser(
        prog="espnet-ext align compare",
        description="Compare two alignments: frames that agree, and how far boundaries differ.",
        epilog="Each is an alignment directory, an alignment in a format of 'align export' (a CTM "
        "file has phones or words in its name), or the manifest.jsonl of the synthetic corpus.",
        allow_abbrev=False,
    )
    p.add_argument("a", metavar="A")
    p.add_argument("b", metavar="B")
    p.add_argument("--json", metavar="FILE", help="write all figures to this file")
    p.add_argument("--by-class", action="store_true", help="also by manner of articulation")
    args = p.parse_args(argv)
    try:
        result = compare(args.a, args.b)
        print(result.as_text(by_class=args.by_class))
        if args.json:
            write_json(args.json, result.as_json())
    except EspnetExtError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    return 0
