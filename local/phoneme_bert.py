# SPDX-License-Identifier: Apache-2.0
"""ATIS or TREC6 of Phoneme-BERT, with manual and ASR text, into folders train, valid and test.

Beside them stand test_wer10 to test_wer40: the test set with simulated ASR text of these word
error rates, by a confusion model estimated from the training pairs.

With --simulate-from, train_simulated and valid_simulated stand for training without ASR text of
the corpus: their errors are drawn by a model of the other corpus, at its word error rate.

usage: python local/phoneme_bert.py OUT --corpus atis|trec6 [--wer RATE ...] [--seed N]
                                    [--simulate-from atis|trec6]

PHONEME_BERT=/path names the folder that holds atis/ and trec6/, or the repository itself, with its
archives unpacked. Line i of every file of a split belongs to utterance i. Empty lines stay.
"""

import argparse
import os
import sys
from pathlib import Path

from paired_text import Pair, Pairs, degraded, error_rate, read_parallel, tell, write_pairs

from espnet_ext.errors import DataError, UsageError, exit_code

SOURCE = "https://github.com/Observeai-Research/Phoneme-BERT"
BELOW = ("", "phomeme-bert-data/downstream-datasets")  # spelled so there
FILES = ("text_original.txt", "en.classification.txt", "labels.classification.txt")
EXPECTED = {
    "atis": {"train": 3867, "valid": 967, "test": 800},
    "trec6": {"train": 4361, "valid": 1091, "test": 500},
}
RATES = (10.0, 20.0, 30.0, 40.0)


def find_corpus(corpus: str) -> Path:
    """Return the folder with train/, valid/ and test/.

    Raises:
        DataError: PHONEME_BERT is not set, or its folder does not hold the corpus.
    """
    given = os.environ.get("PHONEME_BERT")
    get = f"git clone {SOURCE} (CC0), unzip its {BELOW[-1]}/{corpus}.zip there"
    if not given:
        what = "The environment variable PHONEME_BERT is not set. It must point to Phoneme-BERT"
        raise DataError(what, "PHONEME_BERT", f"{get}; PHONEME_BERT=/path/to/it ./run.sh")
    root = Path(given).expanduser()
    for below in BELOW:
        if all((root / below / corpus / split).is_dir() for split in EXPECTED[corpus]):
            return root / below / corpus
    for below in BELOW:
        if (archive := root / below / f"{corpus}.zip").is_file():
            raise DataError("the archive is not unpacked yet", archive,
                            f"unzip {archive} -d {archive.parent}")  # fmt: skip
    raise DataError(f"there is no {corpus}/ with train/, valid/ and test/", root, get)


def read_split(folder: Path, corpus: str, split: str) -> Pairs:
    """Read a split; the ids are ``atis-train-000001`` and so on, by line.

    Raises:
        DataError: The files differ in length, a line is not UTF-8, or a label is not one word.
    """
    paths = [folder / split / name for name in FILES]
    pairs = {}
    for number, (manual, asr, label) in read_parallel(paths):
        if len(label.split()) != 1:
            what = "the label is empty" if not label else f"the label '{label}' is not one word"
            raise DataError(what, f"{paths[2]}:{number}", "give the line its label")
        pairs[f"{corpus}-{split}-{number:06d}"] = Pair(manual, asr, label)
    return pairs


def simulated(other: Pairs, sets: dict[str, Pairs], seed: int) -> dict[str, Pairs]:
    """Return copies of train and valid whose ASR text has errors like those of other pairs."""
    rate = error_rate(other.values(), "words")
    return {
        f"{name}_simulated": next(iter(degraded(other, sets[name], [rate], seed).values()))
        for name in ("train", "valid")
    }


def main() -> None:
    """Write the sets and tell what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--corpus", choices=sorted(EXPECTED), required=True)
    parser.add_argument("--wer", type=float, nargs="*", default=RATES, metavar="RATE")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--simulate-from", choices=sorted(EXPECTED))
    args = parser.parse_args()
    for rate in args.wer:
        if not 0 < rate < 100:
            raise UsageError(f"the word error rate cannot be {rate:g}", "--wer", "give percent")
    folder = find_corpus(args.corpus)
    sets = {split: read_split(folder, args.corpus, split) for split in EXPECTED[args.corpus]}
    for name, pairs in sets.items():
        write_pairs(args.out / name, pairs)
    print(f"{args.corpus} from {folder}")
    tell(sets)
    for name, expected in EXPECTED[args.corpus].items():
        if len(sets[name]) != expected:
            print(f"note: {name} has {len(sets[name])} lines, the whole corpus {expected}")
    made = degraded(sets["train"], sets["test"], args.wer, args.seed)
    if args.simulate_from:
        other = read_split(find_corpus(args.simulate_from), args.simulate_from, "train")
        made |= simulated(other, sets, args.seed)
    for name, pairs in made.items():
        write_pairs(args.out / name, pairs)
        rate = error_rate(pairs.values(), "words")
        print(f"{name}: {len(pairs)} utterances, simulated ASR text, WER {rate:.1f} %")


if __name__ == "__main__":
    sys.exit(exit_code(main))
