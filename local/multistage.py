# SPDX-License-Identifier: Apache-2.0
"""The three corpora of the multi-stage method as Kaldi-style folders.

usage: python local/multistage.py OUT --clips lrs3|voxceleb2|kinetics600|none [--mid mustc|none]
                                  [--pair en-it] [--asr-train PART ...] [--asr-dev PART ...]

1. audio-visual clips without text, av_train and av_dev: LRS3=, VOXCELEB2= or KINETICS600=/path
2. MuST-C, st_train, st_dev and st_test: MUSTC=/path
3. LibriSpeech, train, dev, test_clean and test_other: LIBRISPEECH=/path, or it is downloaded

All of them are looked for before anything is read. A corpus that an experiment does not need is
left out by none. The readers' own options follow: those of local/lrs3.py etc. and local/must_c.py.
"""

import argparse
import sys
from pathlib import Path
from types import ModuleType

import kinetics600
import librispeech
import lrs3
import must_c
import voxceleb2
from av_clips import finish
from segmented import write_skipped

from espnet_ext.errors import UsageError, exit_code

READERS: dict[str, ModuleType] = {"lrs3": lrs3, "voxceleb2": voxceleb2, "kinetics600": kinetics600}
NONE = "none"
TRAIN = ["train-clean-100", "train-clean-360", "train-other-500"]
DEV, TESTS = ["dev-clean", "dev-other"], {"test_clean": "test-clean", "test_other": "test-other"}


def options() -> argparse.Namespace:
    """Parse the command line; the options of a reader are known when it is chosen.

    Raises:
        UsageError: A part that LibriSpeech does not have, or one that is trained on and scored.
    """
    first = argparse.ArgumentParser(add_help=False)
    first.add_argument("--clips", choices=[*READERS, NONE], required=True, help="corpus of clips")
    first.add_argument("--mid", choices=["mustc", NONE], default="mustc", help="of stage 2")
    chosen, _ = first.parse_known_args()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], parents=[first])
    parser.add_argument("out", type=Path)
    parser.add_argument("--downloads", type=Path, default=Path("downloads"))
    parser.add_argument("--asr-train", nargs="+", default=TRAIN, help="parts of LibriSpeech")
    parser.add_argument("--asr-dev", nargs="+", default=DEV, help="parts of LibriSpeech")
    must_c.add_arguments(parser)
    if chosen.clips != NONE:
        READERS[chosen.clips].add_arguments(parser)
    args = parser.parse_args()
    args.asr_train = librispeech.check_parts(args.asr_train, "--asr-train")
    args.asr_dev = librispeech.check_parts(args.asr_dev, "--asr-dev")
    if seen := sorted({*args.asr_dev, *TESTS.values()} & {*args.asr_train}):
        how = "keep development and test sets out of the training data"
        raise UsageError(f"{seen[0]} would be trained on and scored", "--asr-train", how)
    return args


def main() -> None:
    """Find all corpora, then write their sets and one list of what is left out."""
    args = options()
    reader = READERS.get(args.clips)
    # What is missing is told before hours of reading or downloading.
    if reader is not None:
        reader.find_root()
    translations = must_c.find_data(args.pair) if args.mid != NONE else None
    sets = {"train": args.asr_train, "dev": args.asr_dev, **{n: [p] for n, p in TESTS.items()}}
    wanted = dict.fromkeys(part for parts in sets.values() for part in parts)
    folders = librispeech.find_corpus(wanted, args.downloads)
    made = []
    if translations is not None:
        made += must_c.make_sets(translations, args, args.out)
    for name, parts in sets.items():
        librispeech.write_labelled(args.out, name, parts, folders)
    if reader is not None:  # last, as it takes the longest
        made = [*finish(reader.read(args), args, args.out), *made]
    write_skipped(args.out, made)


if __name__ == "__main__":
    sys.exit(exit_code(main))
