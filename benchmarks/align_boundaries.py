# SPDX-License-Identifier: Apache-2.0
"""How exact are phone boundaries? Variants of the aligner against the synthesiser's own times.

    python benchmarks/align_boundaries.py [--work DIR] [--minutes 20] [--seed 1 2 3]
                                          [--only NAME ...]

Trains each variant on a synthetic training set and aligns its test set, whose phone times are
known exactly. STEPS go from the aligner as it was to its defaults, VARIANTS are others.
Figures are means over the seeds; a seed draws sentences, rooms and voices' rates.

bias: mean of found minus true time. onset, offset: median of the same beside silence. class: the
least share within 50 ms of a class of manner with 20 boundaries or more. CPU: of the training,
relative to the first row.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from espnet_ext.align.evaluate.compare import compare
from espnet_ext.align.model import AlignModel
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus

SHORT = ["mono", "tri"]
RAW = {"times": "last", "edges": False}
BEFORE = {"passes": SHORT, "long_phones": "none"}
NOW = {"passes": SHORT}
# Name, options of the training, options of what is written.
STEPS = {
    "as before": (BEFORE, RAW),
    "+ long phones": (NOW, RAW),
    "+ times of mono": (NOW, {"times": "auto", "edges": False}),
    "+ edges of silence": (NOW, {}),
}
VARIANTS = {
    "labels by the hybrid": ({}, {}),
    "mono": ({"passes": ["mono"]}, {}),
    "times of tri": (NOW, {"times": "last"}),
    "5 ms": ({**NOW, "frame_shift_ms": 5}, {}),
    "no deltas": ({**NOW, "delta_order": 0}, {}),
    "Kaldi's deltas": ({**NOW, "delta_order": 2, "delta_window": 2}, {}),
    "LDA+MLLT": ({"passes": [*SHORT, "lda_mllt"]}, {"times": "last"}),
    "LDA+MLLT, SAT": ({"passes": [*SHORT, "lda_mllt", "sat"]}, {"times": "last"}),
    "hybrid, its own times": ({}, {"times": "last"}),
    "hybrid, two rounds": ({"hybrid": {"rounds": 2}}, {"times": "last"}),
}  # fmt: skip
ALL = {**STEPS, **VARIANTS}
COLUMNS = ("mean", "median", "<=20", "<=50", "bias", "onset", "offset", "class", "frames", "CPU")
ENOUGH = 20  # boundaries of a class


class Bench:
    """The variants on one corpus; each training is made once."""

    def __init__(self, work: Path, seed: int, minutes: float):
        self.work, self.data = work / f"seed{seed}", work / f"data{seed}"
        make_corpus(self.data, seed=seed, train_minutes=minutes)
        self.models: dict[str, tuple[AlignModel, float]] = {}

    def trained(self, options: dict) -> tuple[AlignModel, float]:
        """Return the model of these options and the CPU seconds of its training."""
        if (key := repr(options)) not in self.models:
            train, folder = self.data / "train", self.work / str(len(self.models))
            o = from_dict({"lexicon": str(self.data / "lexicon.txt"), "textgrid": False, **options})
            start = time.process_time()
            session = train_aligner(train, folder / "train", o, map, lambda line: None)
            spent = time.process_time() - start
            model = save_model(session, folder / "model", o.passes[-1], train)
            self.models[key] = model, spent
        return self.models[key]

    def measure(self, options: dict, written: dict) -> list[float]:
        """Train and align one variant; return its figures in the order of COLUMNS."""
        model, spent = self.trained(options)
        if written.get("times") == "last":
            model = replace(model, times=model.final)
        out, work = self.work / "out", self.work / "test"
        found, _ = apply_aligner(
            model, self.data / "test", out, work, map, lambda line: None, **written
        )
        result = compare(self.data / "manifest.jsonl", found).as_json()
        b, frames = result["boundaries"]["phones"], result["agreement"]["phones"]["agreement"]
        of = {kind: b["by_kind"][kind]["median_ms"] for kind in ("onset", "offset")}
        worst = min(c["within"]["50_ms"] for c in b["by_class"].values()
                    if c["boundaries"] >= ENOUGH)  # fmt: skip
        near = [100 * b["within"][f"{t}_ms"] for t in (20, 50)]
        return [
            b["mean_abs_ms"], b["median_abs_ms"], *near, b["mean_ms"], of["onset"], of["offset"],
            100 * worst, 100 * frames, spent,
        ]  # fmt: skip


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep corpora and models there")
    parser.add_argument("--minutes", type=float, default=20.0, help="training audio")
    parser.add_argument("--seed", type=int, nargs="+", default=[1], help="of the corpora")
    parser.add_argument("--only", nargs="*", default=list(STEPS), metavar="NAME",
                        help=f"of: {', '.join(ALL)}")  # fmt: skip
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        benches = [Bench(args.work or Path(tmp), seed, args.minutes) for seed in args.seed]
        print(f"{'':<24}" + "".join(f"{c:>8}" for c in COLUMNS))
        first = None
        for name in args.only:
            rows = np.array([bench.measure(*ALL[name]) for bench in benches])
            first = rows[:, -1].copy() if first is None else first
            rows[:, -1] /= first
            print(f"{name:<24}" + "".join(f"{x:>8.1f}" for x in rows.mean(0)[:-1])
                  + f"{rows[:, -1].mean():>8.2f}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
