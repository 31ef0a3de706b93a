# SPDX-License-Identifier: Apache-2.0
"""Kinetics-600 as Kaldi-style folders av_train and av_dev: its training and validation clips.

usage: python local/kinetics600.py OUT [--train-folder train] [--dev-folder val]

KINETICS600=/path names the folder that holds train and val, with clips VIDEO_START_END.mp4 (START
and END in seconds, six digits) in them or in a folder for each class. A list of the corpus,
PART.csv or annotations/PART.csv, is not needed; where there is one, its clips that are not there
are counted as skipped. Many clips have no sound: they are skipped, too. A source video is a group.
"""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import av_clips
from av_clips import Clip, ClipSet, corpus_root
from csv_rows import csv_rows

from espnet_ext.errors import DataError, exit_code

NAME = re.compile(r"(?P<video>[\w-]{11})_(?P<start>\d{6})_(?P<end>\d{6})", re.ASCII)
ENDINGS = (".mp4", ".mkv", ".webm", ".avi")
COLUMNS = ("youtube_id", "time_start", "time_end")


def find_root() -> Path:
    """Return the folder of the corpus.

    Raises:
        DataError: KINETICS600 is not set, or names another folder.
    """
    return corpus_root("KINETICS600", "train and val")


def listed(root: Path, part: str) -> Iterator[tuple[str, str]]:
    """Yield ``(clip, file:line)`` of a part's list; none without a list.

    Raises:
        DataError: The list has other columns, or a time is no number.
    """
    paths = [p for p in (root / f"{part}.csv", root / "annotations" / f"{part}.csv") if p.is_file()]
    for path in paths[:1]:
        header = "the columns are label,youtube_id,time_start,time_end,split"
        for where, row in csv_rows(path, COLUMNS, "list", header):
            try:
                start, end = (int(float(row[c])) for c in COLUMNS[1:])
            except (TypeError, ValueError):
                raise DataError("a time is no number", where, "download the list again") from None
            yield f"{row['youtube_id']}_{start:06d}_{end:06d}", where


def read_part(root: Path, part: str, name: str) -> ClipSet:
    """Return a set of a part's clips.

    Raises:
        DataError: There is no clip.
    """
    made, found = ClipSet(name), set()
    folder = root / part
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS):
        if match := NAME.fullmatch(path.stem):
            found.add(path.stem)
            made.add(Clip(path.stem, path, match["video"]))
        else:
            made.skip(path, "not named VIDEO_START_END")
    if not made.clips:
        how = "set KINETICS600 to the folder with train and val (--train-folder, --dev-folder)"
        raise DataError(f"there is no {part}/VIDEO_START_END.mp4", root, how)
    for clip, where in listed(root, part):
        if clip not in found:
            made.skip(where, "listed, and not there", clip)
            found.add(clip)
    return made


def read(args: argparse.Namespace) -> list[ClipSet]:
    """Return av_train and av_dev; clips of one source video are in one set.

    Raises:
        DataError: The corpus is not there, or its list is not usable.
    """
    root = find_root()
    train = read_part(root, args.train_folder, "av_train")
    dev = read_part(root, args.dev_folder, "av_dev")
    videos = {clip.speaker for _, clip in dev}
    for utt, clip in list(train):
        if clip.speaker in videos:
            train.skip(clip.video, "of a video of av_dev")
            del train.clips[utt]
    return [train, dev]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this reader."""
    parser.add_argument("--train-folder", default="train", help="folder of the training clips")
    parser.add_argument("--dev-folder", default="val", help="folder of the validation clips")
    av_clips.add_arguments(parser)


def main() -> None:
    """Write the sets."""
    av_clips.run("kinetics600.py", __doc__, read, add_arguments)


if __name__ == "__main__":
    sys.exit(exit_code(main))
