# SPDX-License-Identifier: Apache-2.0
"""The synthetic corpus in folder OUT, with labelled and unlabelled in place of train.

usage: data.py OUT --labelled-fraction F [--unlabelled rest|all] [--seed N --train-minutes M ...]
"""

import argparse
import shutil
import sys
from pathlib import Path

from espnet_ext.data import labelled
from espnet_ext.data.synth.__main__ import main as make_corpus
from espnet_ext.errors import exit_code


def main() -> int:
    """Make the corpus, then hide texts; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--labelled-fraction", type=float, required=True)
    parser.add_argument("--unlabelled", choices=(labelled.REST, labelled.ALL), default="rest")
    args, of_corpus = parser.parse_known_args()
    if code := make_corpus([str(args.out), *of_corpus]):
        return code
    train = args.out / "train"
    print(labelled.describe(
        labelled.split_dir(train, args.out, args.labelled_fraction, args.unlabelled)
    ))  # fmt: skip
    shutil.rmtree(train)  # it holds the texts that are hidden
    return 0


if __name__ == "__main__":
    sys.exit(exit_code(main))
