# SPDX-License-Identifier: Apache-2.0
"""VoxCeleb2 as Kaldi-style folders av_train and av_dev: clips of interviews, split by speaker.

usage: python local/voxceleb2.py OUT [--part dev] [--dev-share 0.01]

VOXCELEB2=/path names the folder that holds dev (and test), unpacked from vox2_dev_mp4: the layout
is dev/mp4/idNNNNN/VIDEO/NNNNN.mp4. The sound is that of the clip; where it has none, that of
dev/aac/idNNNNN/VIDEO/NNNNN.m4a, from the corpus's audio archive.
"""

import argparse
import re
import sys
from pathlib import Path

import av_clips
from av_clips import Clip, ClipSet, corpus_root, hold_out, split

from espnet_ext.errors import DataError, exit_code

PARTS = ("dev", "test")
SPEAKER = re.compile(r"id\d+")


def find_root() -> Path:
    """Return the folder of the corpus.

    Raises:
        DataError: VOXCELEB2 is not set, or names another folder.
    """
    return corpus_root("VOXCELEB2", "dev/mp4")


def read(args: argparse.Namespace) -> list[ClipSet]:
    """Return av_train and av_dev, of different speakers.

    Raises:
        DataError: The corpus is not there.
    """
    root = find_root() / args.part
    files = sorted((root / "mp4").glob("*/*/*.mp4"))
    if not files:
        how = "set VOXCELEB2 to the folder that holds dev; join the archive's parts first"
        raise DataError(f"there is no {args.part}/mp4/SPEAKER/VIDEO/NUMBER.mp4", root.parent, how)
    clips, others = [], []
    for path in files:
        speaker, video = path.parts[-3:-1]
        if SPEAKER.fullmatch(speaker):
            sound = root / "aac" / speaker / video / f"{path.stem}.m4a"
            clips.append(Clip(f"{speaker}-{video}-{path.stem}", path, speaker, sound=sound))
        else:
            others.append(path)
    sets = split(clips, hold_out((c.speaker for c in clips), args.dev_share, args.split_seed),
                 ("av_train", "av_dev"))  # fmt: skip
    for path in others:
        sets[0].skip(path, "the folder is not idNNNNN")
    return sets


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this reader."""
    parser.add_argument("--part", choices=PARTS, default=PARTS[0], help="of VoxCeleb2")
    av_clips.add_arguments(parser, dev_share=0.01)


def main() -> None:
    """Write the sets."""
    av_clips.run("voxceleb2.py", __doc__, read, add_arguments)


if __name__ == "__main__":
    sys.exit(exit_code(main))
