# SPDX-License-Identifier: Apache-2.0
"""Corpora of long recordings with time marks: segments out of them, and what is left out, why."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.data.audio import info
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.errors import DataError
from espnet_ext.files import write_text

OVERSHOOT_S = 0.5  # an end beyond the audio by this much is cut, as Kaldi's extract-segments does
SHORTEST_S = 0.01

Lexicon = dict[str, list[tuple[str, ...]]]


@dataclass
class Segment:
    """A stretch ``[start_s, end_s)`` of a recording with its text; ``where`` is file:line."""

    utt: str
    recording: str
    speaker: str
    start_s: float
    end_s: float
    text: str
    where: str = ""


@dataclass
class SegmentedSet:
    """A data set in the making: ``read == len(segments) + len(skipped)``.

    Args:
        name: Folder below ``data/``.
        audio: ``{recording: audio file}``, absolute.
        length_s: ``{recording: seconds}``.
        segments: ``{utterance: segment}``.
        skipped: ``(file:line, reason, detail)``.
    """

    name: str
    audio: dict[str, str] = field(default_factory=dict)
    length_s: dict[str, float] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    skipped: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def read(self) -> int:
        """Segments that the corpus lists."""
        return len(self.segments) + len(self.skipped)

    def skip(self, where: object, reason: str, detail: str = "") -> None:
        """Leave a segment out."""
        self.skipped.append((str(where), reason, detail))

    def open(self, recording: str, path: Path) -> None:
        """Take a recording; its audio must be readable.

        Raises:
            DataError: Missing, truncated, compressed with shorten, or no audio at all.
        """
        self.length_s[recording] = info(path).duration_s
        self.audio[recording] = os.path.abspath(path)

    def add(self, s: Segment) -> None:
        """Take a segment of a recording, or skip it.

        Raises:
            DataError: The id is that of another segment, or the segment ends before it starts.
        """
        length_s = self.length_s[s.recording]
        if s.end_s < s.start_s:
            raise DataError(f"the segment ends at {s.end_s:g} s, before its start at "
                            f"{s.start_s:g} s", s.where, "correct the times")  # fmt: skip
        if not s.text:
            self.skip(s.where, "no words")
        elif s.end_s - s.start_s < SHORTEST_S:
            self.skip(s.where, "no duration", s.utt)
        elif s.start_s + SHORTEST_S > length_s or s.end_s > length_s + OVERSHOOT_S:
            times = f"[{s.start_s:g}, {s.end_s:g}) s of {length_s:.3f} s"
            self.skip(s.where, "beyond the audio", times)
        elif (old := self.segments.get(s.utt)) is not None:
            if (old.start_s, old.text) != (s.start_s, s.text):
                raise DataError(f"'{s.utt}' would be the id of two segments",
                                f"{old.where} and {s.where}", "correct the times")  # fmt: skip
            self.skip(s.where, "repeated line", s.utt)
        else:
            s.end_s = min(s.end_s, length_s)
            self.segments[s.utt] = s

    def write(self, out: Path, expected: int | None = None) -> None:
        """Write folder ``out/name`` and tell the numbers; a set without segments is an error."""
        folder, rows = out / self.name, self.segments
        if not rows:
            raise DataError(f"{self.name} has no segment with words ({self.read} read)",
                            self.skipped[0][0] if self.skipped else self.name,
                            "check that the copy of the corpus is complete")  # fmt: skip
        used = {s.recording for s in rows.values()}
        write_table(folder / "wav.scp", {r: p for r, p in self.audio.items() if r in used})
        times = {u: f"{s.recording} {s.start_s:.3f} {s.end_s:.3f}" for u, s in rows.items()}
        write_table(folder / "segments", times)
        write_table(folder / "text", {u: s.text for u, s in rows.items()})
        utt2spk = {u: s.speaker for u, s in rows.items()}
        write_table(folder / "utt2spk", utt2spk)
        write_spk2utt(folder, utt2spk)
        self._tell(expected)

    def _tell(self, expected: int | None) -> None:
        reasons = Counter(reason for _, reason, _ in self.skipped)
        why = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items()))
        hours = sum(s.end_s - s.start_s for s in self.segments.values()) / 3600
        note = ""
        if expected is not None and expected != len(self.segments):
            note = f" (note: the whole corpus has {expected})"
        print(
            f"{self.name}: {self.read} segments read, {len(self.segments)} written ({hours:.2f} h, "
            f"{len({s.speaker for s in self.segments.values()})} speakers), "
            f"{len(self.skipped)} skipped{': ' + why if why else ''}{note}"
        )


def write_skipped(out: Path, sets: list[SegmentedSet]) -> None:
    """Write ``skipped.tsv``: set, file:line, reason, detail."""
    lines = ["set\twhere\treason\tdetail"]
    lines += ["\t".join((s.name, *row)) for s in sets for row in s.skipped]
    write_text(out / "skipped.tsv", "\n".join(lines) + "\n")


def write_corpus(
    out: Path,
    sets: list[SegmentedSet],
    lexicon: Lexicon,
    expected: dict[str, int] | None = None,
    note: str = "",
) -> None:
    """Write sets, skipped.tsv and Kaldi's lexicon.txt, ``word phone phone ...``; tell the numbers.

    Args:
        out: Folder of the sets.
        sets: Each with segments.
        lexicon: ``{word: pronunciations}``.
        expected: ``{set: segments}`` of the whole corpus, where known.
        note: What else to tell of the lexicon.
    """
    for made in sets:
        made.write(out, (expected or {}).get(made.name))
    write_skipped(out, sets)
    rows = [(word, " ".join(phones)) for word, prons in lexicon.items() for phones in prons]
    lines = write_table(out / "lexicon.txt", rows)
    print(f"lexicon: {len(lexicon)} words, {lines} pronunciations{note}")
    for made in sets:
        _tell_coverage(made.name, [s.text for s in made.segments.values()], lexicon)


def _tell_coverage(name: str, texts: list[str], lexicon: Lexicon) -> None:
    """Print how many running words have no pronunciation, and the most frequent of them."""
    words = Counter(word for text in texts for word in text.split())
    missing = Counter({w: n for w, n in words.items() if w not in lexicon})
    total, lost = sum(words.values()), sum(missing.values())
    most = ", ".join(w for w, _ in missing.most_common(5))
    print(f"{name}: {lost} of {total} running words have no pronunciation"
          f"{': ' + most if most else ''}")  # fmt: skip
