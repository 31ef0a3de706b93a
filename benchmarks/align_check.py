# SPDX-License-Identifier: Apache-2.0
"""Are wrong transcripts found? Precision and recall of the list of utterances to check.

    python benchmarks/align_check.py [--work DIR] [--minutes 8] [--seed 1] [--set KEY=VALUE ...]
    python benchmarks/align_check.py --train DATA --test DATA --lexicon FILE

Trains on synthetic speech (or on given data folders) and aligns the test set twice: as it is, and
with one word of each utterance replaced by another. The table is what the list would be if 5 % of
the transcripts were wrong, so each of the two sets counts as much as it would then.
"""

import argparse
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from espnet_ext import yamlfile
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.model import AlignModel
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, learn_confidence, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.tables import read_table, write_table

WRONG = 0.05  # of the utterances
THRESHOLDS = (0.9, 0.5, 0.2, 0.1)
BINS = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def spoil(data: Path, out: Path, seed: int) -> dict[str, int]:
    """Write a folder with a word of each utterance replaced; return the places."""
    texts, rng, places = read_table(data / "text"), np.random.default_rng(seed), {}
    vocabulary = sorted({w for text in texts.values() for w in text.split()})
    for utt, text in texts.items():
        words = text.split()
        at = places[utt] = int(rng.integers(len(words)))
        others = [w for w in vocabulary if w != words[at]]
        words[at] = others[int(rng.integers(len(others)))]
        texts[utt] = " ".join(words)
    write_table(out / "text", texts)
    for name in ("wav.scp", "utt2spk", "segments"):
        if (data / name).exists():
            write_table(out / name, read_table(data / name))
    return places


def scores(model: AlignModel, data: Path, work: Path) -> dict[str, np.ndarray]:
    """Align a folder; return the confidence in the words of each utterance."""
    a, _ = apply_aligner(model, data, work / "out", work / "work", map, lambda line: None)
    return {u: np.array([w.score for w in AlignmentDir(a.path).words[u]]) for u in a.utts}


def table(right: dict[str, np.ndarray], wrong: dict[str, np.ndarray], places: dict[str, int]):
    """Yield the lines of the result."""
    good, bad = (np.array([x.min() for x in found.values()]) for found in (right, wrong))
    yield f"{len(good)} utterances as they are, {len(bad)} with a word replaced"
    yield f"{'word below':>10}{'recall':>8}{'precision':>11}{'right ones listed':>19}"
    for limit in THRESHOLDS:
        hit, alarm = (bad < limit).mean(), (good < limit).mean()
        listed = WRONG * hit + (1 - WRONG) * alarm
        share = f"{100 * WRONG * hit / listed:11.1f}" if listed else f"{'-':>11}"
        yield f"{limit:10.1f}{100 * hit:8.1f}{share}{100 * alarm:19.1f}"
    place = np.mean([int(np.argmin(x)) == places[u] for u, x in wrong.items()])
    yield f"the least probable word is the replaced one: {100 * place:.1f} %"
    values = np.concatenate(list(right.values()))
    replaced = np.array([x[places[u]] for u, x in wrong.items()])
    for low, high in pairwise(BINS):
        n = [np.mean((low <= x) & ((x < high) | (high == 1))) for x in (values, replaced)]
        weight = len(values) / len(right) * n[0], WRONG * n[1]
        if sum(weight):
            said = f"confidence {low:g} to {high:g}: "
            yield f"{said}{100 * weight[0] / sum(weight):.1f} % of these words were spoken"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep corpus and models there")
    parser.add_argument("--minutes", type=float, default=8.0, help="synthetic training audio")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", type=Path, help="data folder")
    parser.add_argument("--test", type=Path, help="data folder")
    parser.add_argument("--lexicon", type=Path)
    parser.add_argument("--set", action="append", default=["passes=[mono,tri]"])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        work = args.work or Path(tmp)
        data = work / "data"
        if args.train is None:
            make_corpus(data, train_minutes=args.minutes, dev_utts=4, test_utts=200, seed=args.seed)
        train, test = args.train or data / "train", args.test or data / "test"
        given = {k: yamlfile.parse(v, "--set") for k, _, v in (x.partition("=") for x in args.set)}
        lexicon = str(args.lexicon or data / "lexicon.txt")
        o = from_dict({"lexicon": lexicon, "textgrid": False, **given})
        session = train_aligner(train, work / "train", o, map, print)
        model = save_model(session, work / "model", o.passes[-1], train)
        learn_confidence(session, model, train)
        places = spoil(test, work / "spoilt", args.seed)
        right = scores(model, test, work / "right")
        for line in table(right, scores(model, work / "spoilt", work / "wrong"), places):
            print(line)


if __name__ == "__main__":
    main()
