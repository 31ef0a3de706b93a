# SPDX-License-Identifier: Apache-2.0
"""GRID as Kaldi-style folders train, dev and test with sound, video and words.

usage: python local/grid.py OUT [--by auto|speaker|clip] [--dev-share 0.1] [--test-share 0.2]

GRID=/path names a folder with clips COMMAND.mpg anywhere below it; a speaker's clips are in a
folder s1, s2 and so on (without one, all clips are of one speaker). Words are those of the
alignment COMMAND.align, else those that the six letters of the name stand for: 'bbaf2n' is 'bin
blue at f two now'. The sets have different speakers where there are three or more, else
different clips of the same ones.
"""

import argparse
import re
import sys
from pathlib import Path

import av_clips
from av_clips import Clip, ClipSet, corpus_root, hold_out

from espnet_ext.data.lines import utf8_lines
from espnet_ext.errors import DataError, exit_code

SETS = ("train", "dev", "test")
ENDINGS = (".mpg", ".mpeg", ".mp4", ".avi")
UNITS_PER_S = 25000  # of an alignment's times
CLIP_S = 2.98  # of sound in each released clip
PAUSES = ("sil", "sp")
SPEAKER = re.compile(r"s\d+")
ONE_SPEAKER = "s0"
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
WORDS = (
    {"b": "bin", "l": "lay", "p": "place", "s": "set"},
    {"b": "blue", "g": "green", "r": "red", "w": "white"},
    {"a": "at", "b": "by", "i": "in", "w": "with"},
    {x: x for x in "abcdefghijklmnopqrstuvxyz"},
    dict(zip("z123456789", DIGITS, strict=True)),
    {"a": "again", "n": "now", "p": "please", "s": "soon"},
)


def words_of_name(name: str) -> str:
    """Return what a clip of this name says; empty if it is no name of GRID."""
    if len(name) != len(WORDS):
        return ""
    words = [known.get(letter, "") for known, letter in zip(WORDS, name, strict=True)]
    return " ".join(words) if all(words) else ""


def read_alignment(path: Path) -> tuple[str, float]:
    """Return the words of an alignment, without pauses, and the second at which it ends.

    Raises:
        DataError: A line is not ``START END WORD``.
    """
    words, end = [], 0
    for number, line in utf8_lines(path):
        fields = line.split()
        if len(fields) != 3 or not all(x.isdigit() for x in fields[:2]):
            how = "copy or download the file again"
            raise DataError("the line is not 'START END WORD'", f"{path}:{number}", how)
        words.append(fields[2].lower())
        end = max(end, int(fields[1]))
    return " ".join(w for w in words if w not in PAUSES), end / UNITS_PER_S


def speaker_of(path: Path, root: Path) -> str:
    """Return the speaker of a file: the last folder that is named as one."""
    folders = (root.name, *path.relative_to(root).parts[:-1])
    return next((x for x in reversed(folders) if SPEAKER.fullmatch(x)), ONE_SPEAKER)


def find_clips(root: Path, listed: ClipSet) -> list[Clip]:
    """Return the clips below a folder; what is none goes to the skipped ones of ``listed``.

    Raises:
        DataError: There is no clip, or an alignment is not readable.
    """
    alignments: dict[str, dict[str, Path]] = {}
    for path in sorted(root.rglob("*.align")):
        alignments.setdefault(path.stem, {})[speaker_of(path, root)] = path
    clips: dict[str, Clip] = {}
    for path in sorted(p for p in root.rglob("*") if p.suffix.lower() in ENDINGS):
        speaker, name = speaker_of(path, root), path.stem.lower()
        said = words_of_name(name)
        alignment = alignments.get(path.stem, {}).get(speaker)
        text, end_s = read_alignment(alignment) if alignment else (said, CLIP_S)
        utt = f"{speaker}_{name}"
        if not text:
            listed.skip(path, "the name is none of GRID's", "and there is no alignment")
        elif said and text != said:
            listed.skip(path, "alignment and name differ", f"'{text}' and '{said}'")
        elif utt in clips:  # the corpus has each clip in two qualities
            listed.skip(path, "repeated clip", str(clips[utt].video))
        else:
            clips[utt] = Clip(utt, path, speaker, text, end_s=end_s)
    if not clips:
        how = "set GRID to the folder that holds the speakers' folders"
        raise DataError("there is no clip such as bbaf2n.mpg", root, how)
    return list(clips.values())


def groups(clips: list[Clip], by: str) -> dict[str, str]:
    """Return what must not be in two sets, by clip: its speaker, or the clip itself.

    Raises:
        DataError: There are too few for three sets.
    """
    speakers = len({c.speaker for c in clips})
    if by == "auto":
        by = "speaker" if speakers >= len(SETS) else "clip"
        if by == "clip":
            print(
                f"{speakers} speaker{'s' if speakers > 1 else ''}: train, dev and test have clips "
                f"of the same ones (from {len(SETS)} speakers on, each set has its own), "
                "so scores say nothing about new speakers"
            )
    out = {c.utt: c.speaker if by == "speaker" else c.utt for c in clips}
    if len(found := set(out.values())) < len(SETS):
        what = f"{len(found)} {by}{'s' if len(found) > 1 else ''} cannot be split into three sets"
        how = "--prepare.args '[--by, clip]'" if by == "speaker" else "more clips are needed"
        raise DataError(what, ", ".join(sorted(found)), how)
    return out


def read(args: argparse.Namespace) -> list[ClipSet]:
    """Return train, dev and test.

    Raises:
        DataError: The corpus is not there, or too small to be split.
    """
    sets = [ClipSet(name) for name in SETS]
    clips = find_clips(corpus_root("GRID", "the speakers' folders s1, s2, ..."), sets[0])
    group = groups(clips, args.by)
    test = hold_out(group.values(), args.test_share, args.split_seed)
    # The share of dev is one of the whole corpus.
    share = args.dev_share / max(1e-9, 1 - args.test_share)
    dev = hold_out(set(group.values()) - test, share, args.split_seed)
    for clip in clips:
        where = group[clip.utt]
        sets[2 if where in test else 1 if where in dev else 0].add(clip)
    return sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this reader."""
    parser.add_argument("--by", choices=("auto", "speaker", "clip"), default="auto",
                        help="sets of different speakers, or of different clips")  # fmt: skip
    parser.add_argument("--test-share", type=float, default=0.2)
    av_clips.add_arguments(parser, dev_share=0.1)


def main() -> None:
    """Write the sets."""
    av_clips.run("grid.py", __doc__, read, add_arguments)


if __name__ == "__main__":
    sys.exit(exit_code(main))
