# SPDX-License-Identifier: Apache-2.0
"""MuST-C (English speech, translated text) as Kaldi-style folders st_train, st_dev and st_test.

usage: python local/must_c.py OUT [--pair en-de] [--st-text translation|transcript]
                                  [--st-test tst-COMMON ...]

MUSTC=/path names the folder that holds en-de and so on. Version 1 and version 2 are read. ``text``
of a set is the translation, ``plain`` the English transcript; with ``--st-text transcript`` it is
the transcript as well (ASR in place of translation). Utterance ids are those of ESPnet's recipe,
talk_start_end in milliseconds; a talk is a speaker. A segment shorter than 0.2 s is widened, the
second of two segments with the times of one talk is left out; both are counted. Texts are neither
tokenised nor lower-cased.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

from segmented import Segment, SegmentedSet, write_skipped

from espnet_ext.data.lines import utf8_lines
from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, UsageError, exit_code, nearest

LINE = re.compile(r"-\s*\{(?P<fields>[^{}]*)\}")
FIELD = re.compile(r"(\w+)\s*:\s*(\"[^\"]*\"|'[^']*'|[^,\s]+)\s*(?:,|$)")
NEEDED = ("duration", "offset", "wav")
TALK = re.compile(r"ted_(\d+)")
PAIR = re.compile(r"en-[a-z]{2,3}")
SHORTEST_S = 0.2
TEXTS = ("translation", "transcript")


class Mark(NamedTuple):
    """A line of the YAML file: a stretch ``[start_s, end_s)`` of a talk's audio."""

    wav: str
    start_s: float
    end_s: float
    where: str


def find_pair(root: Path, pair: str) -> Path:
    """Return ``root/pair/data``.

    Raises:
        DataError: The corpus has no such pair; those that it has are named.
    """
    if (root / pair / "data").is_dir():
        return root / pair / "data"
    if root.name == pair and (root / "data").is_dir():
        return root / "data"
    have = sorted(p.name for p in root.glob("en-*") if (p / "data").is_dir())
    how = f"--pair {' or '.join(have)}" if have else "set MUSTC to the folder that holds en-de etc."
    raise DataError(f"the language pair {pair} is not in this copy of MuST-C", root, how)


def read_marks(path: Path) -> Iterator[Mark]:
    """Yield the segments of a YAML file, in its order.

    A line is read by the names of its fields, as version 2 has more of them than version 1. A YAML
    parser would take minutes for the 230,000 lines of a training set.

    Raises:
        DataError: A line is not ``- {duration: D, offset: O, ..., wav: FILE}``.
    """
    for number, line in utf8_lines(path):
        where = f"{path}:{number}"
        match = LINE.fullmatch(line)
        found = {k: v.strip("\"'") for k, v in FIELD.findall(match["fields"] if match else "")}
        try:
            start_s, length_s = float(found["offset"]), float(found["duration"])
            yield Mark(found["wav"], start_s, start_s + length_s, where)
        except (KeyError, ValueError):
            what = "the line is not '- {duration: SECONDS, offset: SECONDS, ..., wav: FILE}'"
            raise DataError(what, where, "copy or download the file again") from None


def lines_of(path: Path) -> Iterator[str]:
    """Yield the lines of a text file; an empty line counts, as lines belong to segments.

    Raises:
        DataError: The file is missing, or a line is not UTF-8.
    """
    if not path.is_file():
        raise DataError("the text file is missing", path, "complete the copy of the corpus")
    for _, line in utf8_lines(path, blank=True):
        yield " ".join(line.split())


class Translations:
    """One set of MuST-C in the making.

    Args:
        data: Folder ``en-XX/data``.
        split: Its part: train, dev, tst-COMMON, tst-HE.
        name: Of the set that is made.
        text: What becomes ``text``: translation or transcript.
    """

    def __init__(self, data: Path, split: str, name: str, text: str = TEXTS[0]):
        self.made = SegmentedSet(name)
        self.plain: dict[str, str] = {}
        self.widened = 0
        self._wav = data / split / "wav"
        txt, language = data / split / "txt", data.parent.name.rpartition("-")[2]
        source, target = txt / f"{split}.en", txt / f"{split}.{language}"
        if not (txt / f"{split}.yaml").is_file():
            raise DataError(f"there is no {split}.yaml", txt, "complete the copy of the corpus")
        seen: set[tuple[str, float, float]] = set()
        for mark, english, foreign in _together(txt / f"{split}.yaml", source, target):
            if mark[:3] in seen:
                self.made.skip(mark.where, "repeated segment", mark.wav)
                continue
            seen.add(mark[:3])
            self._add(mark, english, english if text == TEXTS[1] else foreign)

    def _add(self, mark: Mark, plain: str, text: str) -> None:
        talk = Path(mark.wav).stem
        if match := TALK.fullmatch(talk):
            talk = f"ted_{int(match[1]):05d}"
        if talk not in self.made.audio:
            self.made.open(talk, self._wav / Path(mark.wav).name)
        utt = f"{talk}_{round(mark.start_s * 1000):07d}_{round(mark.end_s * 1000):07d}"
        if not plain:
            self.made.skip(mark.where, "no transcript", utt)
            return
        if utt in self.made.segments:  # times that differ by less than a millisecond
            self.made.skip(mark.where, "repeated segment", utt)
            return
        start_s, end_s = self._widen(mark, self.made.length_s[talk])
        self.made.add(Segment(utt, talk, talk, start_s, end_s, text, mark.where))
        if utt in self.made.segments:
            self.plain[utt] = plain
            self.widened += (start_s, end_s) != (mark.start_s, mark.end_s)

    @staticmethod
    def _widen(mark: Mark, length_s: float) -> tuple[float, float]:
        """Return at least 0.2 s from the start on; at the end of the audio, back from there."""
        if not 0 <= mark.end_s - mark.start_s < SHORTEST_S or mark.end_s > length_s:
            return mark.start_s, mark.end_s
        end_s = min(mark.start_s + SHORTEST_S, length_s)
        return max(0.0, min(mark.start_s, end_s - SHORTEST_S)), end_s

    def write(self, out: Path) -> None:
        """Write the folder; tell the numbers."""
        self.made.write(out)
        write_table(out / self.made.name / "plain", self.plain)
        if self.widened:
            print(f"{self.made.name}: {self.widened} segments widened to {SHORTEST_S} s")


def _together(marks: Path, source: Path, target: Path) -> Iterator[tuple[Mark, str, str]]:
    """Yield segment, transcript and translation of each line.

    Raises:
        DataError: The three files do not have as many lines.
    """
    files = (read_marks(marks), lines_of(source), lines_of(target))
    for row in zip_longest(*files):
        if None in row:
            counts = [sum(1 for _ in read_marks(marks)), *(sum(1 for _ in lines_of(p))
                                                           for p in (source, target))]  # fmt: skip
            what = ", ".join(
                f"{p.name} has {n}" for p, n in zip((marks, source, target), counts, strict=True)
            )
            raise DataError(f"the files do not have as many lines: {what}", marks.parent,
                            "copy or download them again")  # fmt: skip
        yield row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this reader."""
    parser.add_argument("--pair", default="en-de", help="language pair, e.g. en-it")
    parser.add_argument("--st-text", choices=TEXTS, default=TEXTS[0], help="what becomes text")
    parser.add_argument("--st-test", nargs="+", default=["tst-COMMON"], help="parts to test on")


def find_data(pair: str) -> Path:
    """Return the folder ``data`` of a language pair of the corpus in MUSTC.

    Raises:
        UsageError: No language pair of MuST-C.
        DataError: MUSTC is not set, no folder, or lacks the pair.
    """
    if not PAIR.fullmatch(pair):
        raise UsageError(f"'{pair}' is no pair of MuST-C", "--pair", "as en-de, en-it or en-nl")
    given = os.environ.get("MUSTC")
    if not given or not Path(given).is_dir():
        what = f"not a folder: {given}" if given else "MUSTC is not set"
        raise DataError(what, "MUSTC", "MUSTC=/path/to/MuST-C ./run.sh; see README.md")
    return find_pair(Path(given), pair)


def make_sets(data: Path, args: argparse.Namespace, out: Path) -> list[SegmentedSet]:
    """Write st_train, st_dev, st_test (further tests by their name); return them.

    Raises:
        UsageError: A part that the corpus does not have.
        DataError: What is read is not usable.
    """
    have = sorted(p.name for p in data.iterdir() if (p / "txt").is_dir())
    names = {"train": "st_train", "dev": "st_dev"}
    for part in args.st_test:
        if part not in have or part == "train":
            how = nearest(part, set(have) - {"train"})
            raise UsageError(f"no part of MuST-C to test on: {part}", "--st-test", how)
        own = "st_test" if part == args.st_test[0] else f"st_{part.lower().replace('-', '_')}"
        names.setdefault(part, own)
    made = []
    for split, name in names.items():
        translations = Translations(data, split, name, args.st_text)
        translations.write(out)
        made.append(translations.made)
    return made


def main() -> None:
    """Write the sets and the list of what is left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    add_arguments(parser)
    args = parser.parse_args()
    write_skipped(args.out, make_sets(find_data(args.pair), args, args.out))


if __name__ == "__main__":
    sys.exit(exit_code(main))
