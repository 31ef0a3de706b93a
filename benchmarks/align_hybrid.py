# SPDX-License-Identifier: Apache-2.0
"""The networks of the hybrid side by side: CPU time, held-out frames, boundaries, agreement.

    python benchmarks/align_hybrid.py [--data FOLDER --lexicon FILE] [--work DIR] [--minutes 10]

One training of monophones and triphones; then each network learns its alignment and realigns, in
float32, and in bfloat16 where the processor multiplies such numbers. Times are CPU seconds of one
core. Without --data: synthetic speech, on whose test set boundaries are
compared with the synthesiser's times.
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import torch

from espnet_ext.align.evaluate.compare import compare
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.options import PASSES, USUAL, AlignOptions, from_dict
from espnet_ext.align.passes.hybrid import fbank_options
from espnet_ext.align.run import apply_aligner, save_model, train_aligner, write_pass
from espnet_ext.align.session import Session
from espnet_ext.precision import has_bfloat16

BEFORE = "tri"


class Watch:
    """CPU seconds from a call to the next, and those of the epochs between them."""

    def __init__(self) -> None:
        self.start, self.epochs = time.process_time(), [0.0]

    def say(self, line: str) -> None:
        """Note when an epoch ends."""
        if "hybrid epoch" in line:
            self.epochs.append(time.process_time())

    def spent(self) -> float:
        """Return the seconds since the last call."""
        now = time.process_time()
        self.start, seconds = now, now - self.start
        return seconds


def train_passes(data: Path, work: Path, o: AlignOptions) -> Session:
    """Train what comes before the networks; print the time of each pass."""
    watch = Watch()
    for i, name in enumerate(o.passes[:-1], 1):
        session = train_aligner(data, work, replace(o, passes=o.passes[:i]), map, watch.say)
        print(f"{name}: {watch.spent():.1f} CPU s" + ", with the features" * (i == 1), flush=True)
    FeatureStore.build(work / "fbank", data, fbank_options(o))
    print(f"filter banks: {watch.spent():.1f} CPU s", flush=True)
    return session


def train_network(name: str, data: Path, work: Path, o: AlignOptions) -> Session:
    """Train a network, ``tdnn-bfloat16``, and realign; print times and accuracies."""
    watch = Watch()
    network, precision = name.split("-")
    o = replace(o, hybrid=replace(o.hybrid, network=network, precision=precision))
    session = train_aligner(data, work, o, map, watch.say)
    spent, report = watch.spent(), session.reports[-1]
    steps, row = [b - a for a, b in pairwise(watch.epochs[1:])], report["iterations"][-1]
    print(
        f"{report['network']}: {spent:.1f} CPU s, an epoch {statistics.median(steps):.2f}, "
        f"realigned {report['align_frames_per_cpu_s']:,} frames per CPU s, "
        f"{row['phones_changed']:.1%} of the frames in another phone"
    )
    held = ", ".join(f"{100 * epoch['held_out']:.1f}" for epoch in row["epochs"])
    print(f"  held-out frames right after each epoch (%): {held}", flush=True)
    return session


def boundaries(session: Session, name: str, data: Path, work: Path) -> str:
    """Align the test set and return its errors."""
    model = save_model(session, work / f"model_{name}", session.options.passes[-1], data)
    test, made = data.parent / "test", data.parent / "manifest.jsonl"
    found, _ = apply_aligner(
        model, test, work / f"test_{name}", work / "test", map, lambda line: None
    )
    b = compare(found, made).as_json()["boundaries"]["phones"]
    within = ", ".join(f"{100 * b['within'][f'{t}_ms']:.1f} % <= {t}" for t in (10, 20, 50))
    return f"mean {b['mean_abs_ms']:.1f} ms, median {b['median_abs_ms']:.1f}, {within}"


def main() -> None:
    """Measure and print."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", type=Path, help="Kaldi-style folder (default: synthetic speech)")
    p.add_argument("--lexicon", default="", help="dictionary for --data (default: letters)")
    p.add_argument("--work", type=Path, help="keep everything there")
    p.add_argument("--minutes", type=float, default=10.0, help="synthetic training audio")
    p.add_argument("--seed", type=int, default=1, help="of the synthetic corpus")
    args = p.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        work, data, lexicon = args.work or Path(tmp), args.data, args.lexicon
        if data is None:
            from espnet_ext.data.synth.corpus import make_corpus

            make_corpus(work / "data", seed=args.seed, train_minutes=args.minutes)
            data, lexicon = work / "data" / "train", str(work / "data" / "lexicon.txt")
        passes = list(PASSES[: PASSES.index(BEFORE) + 1])
        given = {"lexicon": lexicon, "passes": [*passes, "hybrid"], "textgrid": False}
        o = from_dict({**given, "times": "last"})  # those of the network, not of the best pass
        session, found = train_passes(data, work / "train", o), {}
        precisions = ("float32", "bfloat16") if has_bfloat16("cpu") else ("float32",)
        for name in (BEFORE, *(f"{n}-{p}" for n in USUAL for p in precisions)):
            if name != BEFORE:
                session = train_network(name, data, work / "train", o)
            found[name] = write_pass(
                session, session.options.passes[-1], work / f"ali_{name}", data
            )
            if args.data is None:
                print(f"  {name}: {boundaries(session, name, data, work)}", flush=True)
        _print_agreement(found)


def _print_agreement(found: dict[str, AlignmentDir]) -> None:
    for a, b in combinations(found, 2):
        same = compare(found[a], found[b]).as_json()["agreement"]
        rows = ", ".join(
            f"{kind} {100 * row['agreement']:.1f} %" for kind, row in same.items() if row
        )
        print(f"agreement of {a} and {b}: {rows}")


if __name__ == "__main__":
    main()
