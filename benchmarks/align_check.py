# SPDX-License-Identifier: Apache-2.0
"""Are wrong transcripts found? Precision and recall of the list of utterances to check.

    python benchmarks/align_check.py [--work DIR] [--minutes 8] [--seed 1] [--set KEY=VALUE ...]
    python benchmarks/align_check.py --train DATA --test DATA --lexicon FILE

Trains on synthetic speech (or on given data folders) and aligns the test set as it is, with a word
of each utterance replaced by another, and with one left out. The tables are what the list would be
if 5 % of the transcripts were wrong, so each of two sets counts as much as it would then.
"""

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from espnet_ext import yamlfile
from espnet_ext.align.evaluate.check import missing
from espnet_ext.align.model import AlignModel
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, learn_confidence, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus
from espnet_ext.data.tables import read_table, write_table

WRONG = 0.05  # of the utterances
THRESHOLDS = (0.9, 0.5, 0.2, 0.1)
BINS = (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)


def spoil(data: Path, out: Path, seed: int, leave_out: bool = False) -> dict[str, int]:
    """Write a folder with a word of each utterance replaced or left out; return the places."""
    texts, rng, places = read_table(data / "text"), np.random.default_rng(seed), {}
    vocabulary = sorted({w for text in texts.values() for w in text.split()})
    for utt, text in list(texts.items()):
        words = text.split()
        if leave_out and len(words) < 2:
            del texts[utt]
            continue
        at = places[utt] = int(rng.integers(len(words)))
        others = [w for w in vocabulary if w != words[at]]
        words[at : at + 1] = [] if leave_out else [others[int(rng.integers(len(others)))]]
        texts[utt] = " ".join(words)
    write_table(out / "text", texts)
    for name in ("wav.scp", "utt2spk", "segments"):
        if (data / name).exists():
            rows = read_table(data / name)
            known = texts if (name != "wav.scp" or not (data / "segments").exists()) else rows
            write_table(out / name, {k: v for k, v in rows.items() if k in known})
    return places


@dataclass(frozen=True)
class Doubts:
    """Of an utterance: the confidence in each word, and the places that are listed."""

    words: np.ndarray
    places: list[float]  # how probable it is that no word is missing there

    def below(self, limit: float) -> bool:
        """Whether a word is less probable than ``limit``."""
        return bool(self.words.min() < limit)


def doubts(model: AlignModel, data: Path, work: Path) -> dict[str, Doubts]:
    """Align a folder; return what is doubtful in each utterance."""
    a, _ = apply_aligner(model, data, work / "out", work / "work", map, lambda line: None)
    places = missing(a)
    return {
        u: Doubts(np.array([w.score for w in a.words[u]]), [i.score for i in places.get(u, [])])
        for u in a.utts
    }


def listed(good: list[bool], bad: list[bool]) -> str:
    """Return recall, precision at WRONG, and how many right ones are listed, in percent."""
    hit, alarm = np.mean(bad), np.mean(good)
    total = WRONG * hit + (1 - WRONG) * alarm
    share = f"{100 * WRONG * hit / total:11.1f}" if total else f"{'-':>11}"
    return f"{100 * hit:8.1f}{share}{100 * alarm:19.1f}"


def table(
    right: dict[str, Doubts], wrong: dict[str, Doubts], lack: dict[str, Doubts],
    places: dict[str, int],
) -> Iterator[str]:  # fmt: skip
    """Yield the lines of the result."""
    head = f"{'recall':>8}{'precision':>11}{'right ones listed':>19}"
    yield f"{len(right)} utterances as they are, {len(wrong)} with a word replaced"
    yield f"{'word below':>10}{head}"
    good, bad = right.values(), wrong.values()
    for limit in THRESHOLDS:
        found = ([x.below(limit) for x in some] for some in (good, bad))
        yield f"{limit:10.1f}{listed(*found)}"
    place = np.mean([int(np.argmin(x.words)) == places[u] for u, x in wrong.items()])
    yield f"the least probable word is the replaced one: {100 * place:.1f} %"
    values = np.concatenate([x.words for x in good])
    replaced = np.array([x.words[places[u]] for u, x in wrong.items()])
    for low, high in pairwise(BINS):
        n = [np.mean((low <= x) & ((x < high) | (high == 1))) for x in (values, replaced)]
        weight = len(values) / len(right) * n[0], WRONG * n[1]
        if sum(weight):
            said = f"confidence {low:g} to {high:g}: "
            yield f"{said}{100 * weight[0] / sum(weight):.1f} % of these words were spoken"
    yield f"{len(lack)} with a word left out"
    yield f"{'listed by':>10}{head}"
    for name, on in (("a place", lambda x: bool(x.places)), ("a word", lambda x: x.below(0.5)),
                     ("either", lambda x: bool(x.places) or x.below(0.5))):  # fmt: skip
        yield f"{name:>10}{listed([on(x) for x in good], [on(x) for x in lack.values()])}"


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
        spoil(test, work / "cut", args.seed, leave_out=True)
        folders = {"right": test, "wrong": work / "spoilt", "lack": work / "cut"}
        found = {k: doubts(model, folder, work / f"by_{k}") for k, folder in folders.items()}
        for line in table(**found, places=places):
            print(line)


if __name__ == "__main__":
    main()
