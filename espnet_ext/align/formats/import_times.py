# SPDX-License-Identifier: Apache-2.0
"""Import an alignment that has times of phones only, in any format of :mod:`sources`.

There are no HMM states in it, so classes are phones in context; see :mod:`context_classes`.
Frame t covers ``[t, t + 1) * frame_shift_s`` and has the phone at its centre.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from espnet_ext.align.formats.ctm import ENDING, Ctm, frames_of
from espnet_ext.align.formats.directory import AlignmentWriter, Header
from espnet_ext.align.formats.import_common import (
    TOLERANCE_FRAMES,
    ImportSummary,
    check_out,
    durations_s,
)
from espnet_ext.align.formats.segmented import Segmented, by_utterance, read_segments
from espnet_ext.align.formats.sources import open_alignment
from espnet_ext.align.formats.textgrid import NO_WORD
from espnet_ext.align.formats.tiers import Interval, Tier, Utterance
from espnet_ext.align.tree.context_classes import ContextClasses, contexts
from espnet_ext.errors import DataError, UsageError
from espnet_ext.lang.phones import SILENCE, SILENCE_ID, is_silence

OVERLAP_S = 0.001  # more than rounding of times to milliseconds explains
MIN_COUNT = 100
PLACES = ("_B", "_E", "_I", "_S")


class UtteranceError(Exception):
    """An utterance that cannot be used; ``reason`` is the kind of trouble."""

    def __init__(self, reason: str, detail: str):
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class _Source:
    """What is imported: phones and words by utterance, and lengths to check against."""

    name: Path
    phones: Tier
    words: Tier | None
    utterances: Mapping[str, Utterance] | None  # where they tell their own lengths
    lengths: dict[str, float] | None
    shift_s: float
    ends_with_silence: bool

    def load(self, utt: str) -> tuple[list[Interval], int]:
        """Return phones without gaps, and T.

        Raises:
            UtteranceError: They cannot be used.
        """
        try:
            rows = self.phones[utt]
        except DataError as e:
            raise UtteranceError("unusable", f"{e.what} ({e.where})") from None
        rows = [Interval(r.start_s, r.end_s, _phone_name(r.name)) for r in rows]
        if not rows:
            raise UtteranceError("no phones", "nothing in its tier")
        for a, b in pairwise(rows):
            if b.start_s < a.end_s - OVERLAP_S:
                raise UtteranceError("phones overlap", f"'{a.name}' and '{b.name}' at {b.start_s}")
        end_s = rows[-1].end_s
        if self.utterances is not None:
            end_s = max(end_s, self.utterances[utt].length_s)
        frames = int(end_s / self.shift_s + 1e-6)
        if self.lengths is not None:
            frames = self._checked(utt, frames)
        if frames < 1:
            raise UtteranceError("too short", f"{end_s} s")
        return _filled(rows, frames * self.shift_s), frames

    def _checked(self, utt: str, frames: int) -> int:
        if utt not in self.lengths:
            raise UtteranceError(
                "not in the data folder",
                "it has no such utterance; if this is a recording, give its segments",
            )
        if math.isinf(self.lengths[utt]):  # a segment to the end of its recording
            return frames
        expected = int(self.lengths[utt] / self.shift_s + 1e-6)
        short = self.ends_with_silence and frames < expected - TOLERANCE_FRAMES
        if short or frames > expected + TOLERANCE_FRAMES:
            raise UtteranceError("another segmentation", f"{frames} frames, {expected} in the data")
        return expected

    def load_words(self, utt: str, end_s: float) -> list[Interval]:
        """Return words without silence."""
        rows = self.words[utt] if self.words is not None and utt in self.words else []
        rows = [r for r in rows if r.name.lower() not in NO_WORD and r.start_s < end_s]
        return [replace(r, end_s=min(r.end_s, end_s), name=_one_token(r.name)) for r in rows]


def import_times(
    source: Path | str,
    out: Path | str,
    *,
    form: str = "",
    words: Path | str | None = None,
    data: Path | str | None = None,
    segments: Path | str | None = None,
    unit: str = "triphone",
    min_count: int = MIN_COUNT,
    classes: Path | str | None = None,
    frame_shift_s: float = 0.01,
    textgrid: bool = False,
) -> ImportSummary:
    """Write an alignment directory from times of phones.

    Args:
        source: Folder or file of one of the formats.
        out: Alignment directory to write; ``classes.txt`` there names the classes.
        form: Its name in :data:`espnet_ext.align.formats.sources.FORMATS`; default: the one that
            it looks like. A file of "ctm" holds phones, whatever its name.
        words: CTM file of words.
        data: Kaldi-style folder whose lengths the alignment must have (within 3 frames);
            without it an utterance ends where the source says, or its last interval ends.
        segments: Kaldi's segments, which cut times within recordings into utterances (default:
            that of ``data``).
        unit: "triphone" or "phone".
        min_count: Frames that a class with context must have.
        classes: Alignment directory or classes.txt whose classes are used: for a further set.
        frame_shift_s: Frame shift of the labels.
        textgrid: Write TextGrids too.

    Raises:
        UsageError: ``out`` holds something else than an alignment, or what is read.
        DataError: Nothing can be imported, or a file is unusable as a whole.
    """
    if not frame_shift_s > 0 or min_count < 1:
        raise UsageError(f"a frame shift of {frame_shift_s} s, classes of {min_count} frames")
    check_out(out, source, words, data, segments, classes)
    src = _open(Path(source), form, words, data, segments, frame_shift_s)
    if classes is not None:
        inventory = ContextClasses.read(classes)
    else:
        inventory = ContextClasses.from_counts(_count(src), unit, min_count)
    summary = ImportSummary(Path(out), inventory.unit, len(inventory))
    with AlignmentWriter(out, _header(src, inventory), textgrid=textgrid) as writer:
        _add_all(writer, summary, src, inventory)
    inventory.write(Path(out) / "classes.txt")
    return summary


def _header(src: _Source, inventory: ContextClasses) -> Header:
    return Header(
        unit=inventory.unit,
        num_classes=len(inventory),
        frame_shift_s=src.shift_s,
        first_frame_centre_s=src.shift_s / 2,
        silence_ids=(SILENCE_ID,),
        source=f"times of phones in {src.name.resolve().name}",
        phones=inventory.phones,
    )


def _add_all(
    writer: AlignmentWriter, summary: ImportSummary, src: _Source, inventory: ContextClasses
) -> None:
    for utt in sorted(src.phones, key=str.encode):
        try:
            _add(writer, summary, src, inventory, utt)
        except UtteranceError as e:
            summary.skip(writer, utt, e.reason, str(e))
    for utt in src.lengths or ():
        if utt not in src.phones:
            summary.skip(writer, utt, "no alignment", "not in the source")
    if not summary.utterances:
        reasons = ", ".join(f"{reason} ({n})" for reason, n in summary.skipped.items())
        first = f"; the first: {summary.first_skipped}" if summary.first_skipped else ""
        what = f"no utterance can be imported: {reasons or 'the source has none'}{first}"
        raise DataError(what, src.name)


def _open(
    source: Path,
    form: str,
    words: Path | str | None,
    data: Path | str | None,
    segments: Path | str | None,
    shift_s: float,
) -> _Source:
    phones, own_words, utterances = _tiers(source, form)
    if segments is None and data is not None and (Path(data) / "segments").is_file():
        segments = Path(data) / "segments"
    cuts = None if segments is None else read_segments(segments)
    lengths = None if data is None else durations_s(data)
    if lengths is None and cuts and isinstance(by_utterance(phones, cuts), Segmented):
        lengths = {u: b - a for u, (_, a, b) in cuts.items()}
    all_words = Ctm(words) if words is not None else own_words
    phones = by_utterance(phones, cuts)
    all_words = None if all_words is None else by_utterance(all_words, cuts)
    # An utterance cut from a recording may end after its last phone, silence written or not.
    to_the_end = not isinstance(phones, Segmented) and _has_silence(phones)
    if isinstance(phones, Segmented):
        utterances = None
    return _Source(source, phones, all_words, utterances, lengths, shift_s, to_the_end)


def _tiers(source: Path, form: str) -> tuple[Tier, Tier | None, Mapping[str, Utterance] | None]:
    """Return phones, words, and the utterances that tell their lengths."""
    if source.is_file() and form in ("", "ctm") and (form or source.suffix == ENDING):
        return Ctm(source), None, None
    found = open_alignment(source, form)
    if found.phones is None:
        raise DataError(
            "there are only words, and classes are made of phones", source,
            "align the data instead: espnet-ext align train, or apply",
        )  # fmt: skip
    return found.phones, found.words, found.utterances


def _has_silence(phones: Tier) -> bool:
    """Tell whether silence is written down; else the end of speech says nothing of the audio's."""
    for utt in phones:
        try:
            if any(is_silence(i.name) or _phone_name(i.name) == SILENCE for i in phones[utt]):
                return True
        except DataError:
            continue
    return False


def _count(src: _Source) -> Counter:
    """Return the frames of each phone in context."""
    counts: Counter = Counter()
    for utt in src.phones:
        try:
            phones, frames = src.load(utt)
        except UtteranceError:
            continue
        index = _frame_index(phones, frames, src.shift_s)
        lengths = np.bincount(index, minlength=len(phones))
        for context, n in zip(contexts([p.name for p in phones]), lengths, strict=True):
            counts[context] += int(n)
    return counts


def _add(
    writer: AlignmentWriter, summary: ImportSummary, src: _Source, inventory: ContextClasses,
    utt: str,
) -> None:  # fmt: skip
    phones, frames = src.load(utt)
    ids = {name: i for i, name in enumerate(inventory.phones)}
    try:
        phone_ids = np.asarray([ids[p.name] for p in phones])
    except KeyError as e:
        raise UtteranceError("phone without class", str(e)) from None
    of_phone = [inventory.of(c) for c in contexts([p.name for p in phones])]
    index = _frame_index(phones, frames, src.shift_s)
    frame_phones = phone_ids[index].astype(np.int32)
    try:
        writer.add(
            utt, np.asarray(of_phone)[index].astype(np.int32), phones,
            src.load_words(utt, phones[-1].end_s), frame_phones=frame_phones,
        )  # fmt: skip
    except DataError as e:
        raise UtteranceError("unusable", f"{e.what} ({e.where})") from None
    summary.utterances += 1
    summary.frames += frames
    summary.silence_frames += int((frame_phones == SILENCE_ID).sum())


def _frame_index(phones: list[Interval], frames: int, shift_s: float) -> np.ndarray:
    """Return ``(T,)`` which phone each frame's centre lies in."""
    centres = shift_s * (np.arange(frames) + 0.5)
    return frames_of(phones, range(len(phones)), centres, len(phones) - 1)


def _phone_name(name: str) -> str:
    base = name[:-2] if name[-2:] in PLACES else name
    return SILENCE if is_silence(base) else _one_token(name)


def _one_token(name: str) -> str:
    return "_".join(name.split())


def _filled(rows: list[Interval], end_s: float) -> list[Interval]:
    """Return intervals that cover ``[0, end_s)``: silence in gaps, silences side by side as one."""
    out: list[Interval] = []
    at = 0.0

    def put(end: float, name: str) -> None:
        if out and name == SILENCE == out[-1].name:
            out[-1] = Interval(out[-1].start_s, end, name)
        else:
            out.append(Interval(at, end, name))

    for row in _joined(rows):
        start = min(max(row.start_s, at), end_s)
        end = min(max(row.end_s, start), end_s)
        if start > at + 1e-9:
            put(start, SILENCE)
            at = start
        if end > at + 1e-9:
            put(end, row.name)
            at = end
    if at < end_s - 1e-9:
        put(end_s, SILENCE)
    return out


def _joined(rows: list[Interval]) -> Iterator[Interval]:
    """Yield intervals; a gap below OVERLAP_S is rounding, and the phone before it goes on."""
    for row, after in zip(rows, [*rows[1:], None], strict=True):
        if after is not None and 0 < after.start_s - row.end_s < OVERLAP_S:
            yield Interval(row.start_s, after.start_s, row.name)
        else:
            yield row
