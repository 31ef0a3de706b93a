# SPDX-License-Identifier: Apache-2.0
"""Clips, translations and transcripts of a manifest as Kaldi-style folders.

usage: python local/av_manifest.py OUT [--env VARIABLE] [--pair en-it]
                                   [--st-text translation|transcript]

MANIFEST=/path (--env: another variable) names a file of JSON lines, or a folder whose files *.jsonl
are read together. Each line is one object; ``set`` says what it is for, and what else it must have:

    av_train, av_dev                    id, video; audio where the clip has no sound of its own
    st_train, st_dev, st_test, st_test_*  id, audio, translation; text (what is said) is optional
    train, dev, test, test_*            id, audio, text

Speech without ``audio`` is the sound of its ``video``. ``speaker`` is optional; ``start_s`` and
``end_s`` name a part of ``audio``; ``pair``, e.g. en-it, the languages of a translation. ``set``
may be a list: one line then serves several sets. What is wrong with a line stops the preparation;
what is wrong with sound or picture of a clip leaves that clip out: lines of a set = utterances of
the set + lines of skipped.tsv.
"""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from av_clips import Clip, ClipSet
from av_clips import add_arguments as add_clip_arguments
from av_rows import CLIPS, TRANSLATIONS, Row, find_files, read
from must_c import TEXTS
from segmented import Segment, SegmentedSet, write_skipped

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, UsageError, exit_code, nearest
from espnet_ext.recipe.steps.prepare import NEEDED


def clip_set(name: str, rows: list[Row]) -> ClipSet:
    """Return a set of clips; its sound is not yet taken out."""
    made = ClipSet(name)
    for row in rows:
        sound = Path(row.audio) if row.audio else None
        made.add(Clip(row.id, Path(row.video), row.speaker or row.id, row.text, sound, row.where))
    return made


def take_sound(made: SegmentedSet, rows: list[Row], args: argparse.Namespace) -> list[Row]:
    """Take the sound of those rows that have a clip alone; return the rows that have sound.

    Raises:
        DataError: None of these clips can be used.
    """
    clips = clip_set(made.name, [row for row in rows if not row.audio])
    if clips.clips:
        clips.take_audio(args.audio, args.jobs)
        made.skipped += clips.skipped
    taken = [replace(row, audio=row.audio or clips.audio.get(row.id, "")) for row in rows]
    return [row for row in taken if row.audio]


def speech_set(
    name: str, rows: list[Row], args: argparse.Namespace
) -> tuple[SegmentedSet, dict[str, str]]:
    """Return a set of utterances, and what is said in them.

    Raises:
        DataError: Audio cannot be read, translations of several pairs of languages, or one of
            them is wanted as a transcript and has none.
    """
    made = SegmentedSet(name)
    plain: dict[str, str] = {}
    names: dict[str, str] = {}  # of recordings: the first utterance of a file
    translated = name.startswith("st_")
    if translated:
        rows = of_pair(made, rows, args.pair)
    for row in take_sound(made, rows, args):
        if translated and args.st_text == TEXTS[1] and not row.text:
            raise DataError("text is missing or empty", row.where, "--st-text transcript needs it")
        recording = names.setdefault(row.audio, row.id)
        if recording not in made.audio:
            try:
                made.open(recording, Path(row.audio))
            except DataError as e:
                raise DataError(f"{e.what} ({row.audio})", row.where, e.how) from None
        length_s, start_s = made.length_s[recording], row.start_s or 0.0
        end_s = max(start_s, length_s) if row.end_s is None else row.end_s
        said = row.translation if translated and args.st_text == TEXTS[0] else row.text
        speaker = row.speaker or row.id
        if start_s >= length_s:  # else a part without an end would have no duration
            made.skip(row.where, "beyond the audio", f"from {start_s:g} s of {length_s:.3f} s")
            continue
        made.add(Segment(row.id, recording, speaker, start_s, end_s, said, row.where))
        if row.id in made.segments:
            plain[row.id] = row.text
    return made, plain


def of_pair(made: SegmentedSet, rows: list[Row], pair: str) -> list[Row]:
    """Return the rows of a pair of languages; the others are listed as skipped.

    Raises:
        DataError: There are several pairs and none is chosen: a decoder writes one language.
    """
    for row in rows:
        if pair and row.pair != pair:
            made.skip(row.where, "another pair of languages", row.pair or "(none given)")
    first = {row.pair: row.where for row in reversed(rows)}
    if not pair and len(first) > 1:
        what = ", ".join(name or "(none given)" for name in first)
        how = "--prepare.args '[--pair, en-it]' takes one of them"
        raise DataError(f"{made.name} has translations of several pairs of languages: {what}",
                        " and ".join(first.values()), how)  # fmt: skip
    return [row for row in rows if not pair or row.pair == pair]


def make(out: Path, rows: list[Row], args: argparse.Namespace) -> list[SegmentedSet | ClipSet]:
    """Write all sets that the manifest has, speech before clips, as these take longer.

    Raises:
        DataError: See :func:`speech_set`; or no clip of a set can be used.
    """
    sets: dict[str, list[Row]] = {}
    for row in rows:
        for name in row.sets:
            sets.setdefault(name, []).append(row)
    made: list[SegmentedSet | ClipSet] = []
    for name in sorted(set(sets) - set(CLIPS)):
        speech, plain = speech_set(name, sets[name], args)
        speech.write(out)
        if name.startswith("st_") and all(plain.values()):
            write_table(out / name / "plain", plain)
        made.append(speech)
    clips = [clip_set(name, sets[name]) for name in CLIPS if name in sets]
    for each in clips:
        each.take_audio(args.audio, args.jobs)
    for each in clips:
        each.write(out)
    return [*clips, *made]


def check_sets(have: set[str], needed: set[str], manifest: str | None = None) -> None:
    """Compare the sets of the manifest with those that the recipe reads, before audio is read.

    Args:
        have: Names of the manifest's sets.
        needed: Those of the recipe; empty where this script runs by itself.
        manifest: Where they stand, for messages.

    Raises:
        DataError: One is missing.
    """
    missing = needed - have
    if missing:
        parts = {"clips": CLIPS, "translations": TRANSLATIONS}
        lacks = [part for part, names in parts.items() if not have & {*names}]
        preset = "transcripts_only" if len(lacks) == 2 else f"without_{''.join(lacks)}"
        what = f"the manifest has no line of set {', '.join(sorted(missing))}"
        how = "add some, a tenth of the training lines for example"
        if lacks and missing <= {n for part in lacks for n in parts[part]}:
            how = f"--preset {preset} does without {' and '.join(lacks)}"
        raise DataError(what, manifest, how)
    unread = sorted(have - needed) if needed else []
    tests = [name for name in unread if name.startswith("test_")]
    if tests:
        names = ", ".join(tests)
        print(f"not read by this experiment: {names}; --data.test '[test, {names}]' takes them in")
    if other := [name for name in unread if name not in tests]:
        print(f"not read by this experiment, see data.also: {', '.join(other)}")


def main() -> None:
    """Read options and environment; write the sets and what is left out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--env", default="MANIFEST", metavar="VARIABLE")
    parser.add_argument("--pair", default="", help="languages of the translations, e.g. en-it")
    parser.add_argument("--st-text", choices=TEXTS, default=TEXTS[0],
                        help="what becomes text of the sets st_*")  # fmt: skip
    add_clip_arguments(parser)
    args = parser.parse_args()
    manifest = os.environ.get(args.env)
    rows = read(find_files(manifest, args.env))
    known = {row.pair for row in rows if row.pair}
    if args.pair and args.pair not in known:
        how = nearest(args.pair, known) if known else "no line has the key pair"
        raise UsageError(f"no translation is of the pair '{args.pair}'", "--pair", how)
    have = {name for row in rows for name in row.sets}
    check_sets(have, set(os.environ.get(NEEDED, "").split()), manifest)
    write_skipped(args.out, make(args.out, rows, args))


if __name__ == "__main__":
    sys.exit(exit_code(main))
