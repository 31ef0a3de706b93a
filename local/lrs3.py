# SPDX-License-Identifier: Apache-2.0
"""LRS3 as Kaldi-style folders av_train and av_dev: clips of talks, split by talk.

usage: python local/lrs3.py OUT [--parts pretrain trainval] [--dev-share 0.01] [--words]

LRS3=/path names the folder that holds pretrain, trainval and test. The layout is
PART/TALK/NUMBER.mp4 with NUMBER.txt beside it. A talk is a speaker, and all of its clips, of every
part, are in one set. ``--words`` writes the words, too, and leaves clips without them out.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import av_clips
from av_clips import Clip, ClipSet, corpus_root, hold_out, split

from espnet_ext.errors import DataError, UsageError, exit_code, nearest

PARTS = ("pretrain", "trainval", "test")
MARK = "{LG}"  # laughter, in one text of the corpus


def find_root() -> Path:
    """Return the folder of the corpus.

    Raises:
        DataError: LRS3 is not set, or names another folder.
    """
    return corpus_root("LRS3", "pretrain, trainval and test")


def read_words(path: Path) -> str:
    """Return the words of a clip, as the corpus has them: capitals, apostrophes.

    The files are in ISO-8859-1; some lack the table of word times that follows.

    Raises:
        DataError: The first line is not ``Text:  WORDS``.
    """
    first = path.read_text(encoding="iso-8859-1").partition("\n")[0]
    if not first.startswith("Text:"):
        raise DataError("the first line is not 'Text:  WORDS'", f"{path}:1", "copy the file again")
    return " ".join(first.removeprefix("Text:").replace(MARK, " ").split())


def find_clips(root: Path, part: str, with_words: bool) -> Iterator[Clip | tuple[Path, str]]:
    """Yield the clips of a part, and ``(file, reason)`` of what is no clip.

    Raises:
        DataError: The part is missing or has no clip.
    """
    files = sorted((root / part).glob("*/*.mp4"))
    if not files:
        how = "set LRS3 to the folder that holds pretrain, trainval and test; see --parts"
        raise DataError(f"there is no {part}/TALK/NUMBER.mp4", root, how)
    for path in files:
        words = ""
        if with_words:
            if not path.with_suffix(".txt").is_file():
                yield path, "no text"
                continue
            words = read_words(path.with_suffix(".txt"))
            if not words:
                yield path, "no words"
                continue
        talk = path.parent.name
        yield Clip(f"{talk}_{part}_{path.stem}", path, talk, words)
    clips = {p.with_suffix("") for p in files}
    for path in sorted((root / part).glob("*/*.txt")):
        if path.with_suffix("") not in clips:
            yield path, "text without a clip"


def read(args: argparse.Namespace) -> list[ClipSet]:
    """Return av_train and av_dev.

    Raises:
        UsageError: There is no such part.
        DataError: The corpus is not there, or a text is not readable.
    """
    root = find_root()
    for part in args.parts:
        if part not in PARTS:
            raise UsageError(f"LRS3 has no part '{part}'", "--parts", nearest(part, PARTS))
    found = [x for part in dict.fromkeys(args.parts) for x in find_clips(root, part, args.words)]
    clips = [x for x in found if isinstance(x, Clip)]
    held = hold_out((c.speaker for c in clips), args.dev_share, args.split_seed)
    train, dev = split(clips, held, ("av_train", "av_dev"))
    for path, reason in (x for x in found if not isinstance(x, Clip)):
        (dev if path.parent.name in held else train).skip(path, reason)
    return [train, dev]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this reader."""
    parser.add_argument("--parts", nargs="+", default=list(PARTS[:2]), help="of LRS3")
    parser.add_argument("--words", action="store_true", help="write the words, too")
    av_clips.add_arguments(parser, dev_share=0.01)


def main() -> None:
    """Write the sets."""
    av_clips.run("lrs3.py", __doc__, read, add_arguments)


if __name__ == "__main__":
    sys.exit(exit_code(main))
