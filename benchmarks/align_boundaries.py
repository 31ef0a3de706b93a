# SPDX-License-Identifier: Apache-2.0
"""How exact are phone boundaries? Variants of the aligner against the synthesiser's own times.

    python benchmarks/align_boundaries.py [--work DIR] [--minutes 20] [--seed 1] [--only NAME ...]

Trains each variant on a synthetic training set and aligns its test set, whose phone times are
known exactly. The first line of the table is the default configuration.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from espnet_ext.align.evaluate.compare import compare
from espnet_ext.align.options import from_dict
from espnet_ext.align.run import apply_aligner, save_model, train_aligner
from espnet_ext.data.synth.corpus import make_corpus

SHORT = ["mono", "tri"]
VARIANTS = {
    "mono, tri, hybrid (default)": {},
    "mono": {"passes": ["mono"]},
    "mono, tri": {"passes": SHORT},
    "mono, tri, Kaldi's deltas": {"passes": SHORT, "delta_order": 2, "delta_window": 2},
    "mono, tri, no deltas": {"passes": SHORT, "delta_order": 0},
    "mono, tri, LDA+MLLT": {"passes": [*SHORT, "lda_mllt"]},
    "mono, tri, LDA+MLLT, SAT": {"passes": [*SHORT, "lda_mllt", "sat"]},
    "hybrid, prior scale 0": {"hybrid": {"prior_scale": 0.0}},
    "hybrid, two rounds": {"hybrid": {"rounds": 2}},
}


def measure(name: str, options: dict, data: Path, work: Path) -> str:
    """Train and align one variant; return its row."""
    o = from_dict({"lexicon": str(data / "lexicon.txt"), "textgrid": False, **options})
    session = train_aligner(data / "train", work / "train", o, map, lambda line: None)
    model = save_model(session, work / "model", o.passes[-1], data / "train")
    found, _ = apply_aligner(
        model, data / "test", work / "out", work / "test", map, lambda line: None
    )
    result = compare(found, data / "manifest.jsonl").as_json()
    b, frames = result["boundaries"]["phones"], result["agreement"]["phones"]["agreement"]
    return (
        f"{name:<30}{b['mean_abs_ms']:>8.1f}{b['median_abs_ms']:>8.1f}"
        + "".join(f"{100 * b['within'][f'{t}_ms']:>8.1f}" for t in (10, 20, 50))
        + f"{100 * frames:>9.1f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="keep corpus and models there")
    parser.add_argument("--minutes", type=float, default=20.0, help="training audio")
    parser.add_argument("--seed", type=int, default=1, help="of the corpus")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), metavar="NAME")
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        work = args.work or Path(tmp)
        make_corpus(work / "data", seed=args.seed, train_minutes=args.minutes)
        print(
            f"{'passes':<30}{'mean':>8}{'median':>8}{'<=10':>8}{'<=20':>8}{'<=50':>8}{'frames':>9}"
        )
        print(f"{'':<30}{'ms':>8}{'ms':>8}{'%':>8}{'%':>8}{'%':>8}{'%':>9}")
        for i, name in enumerate(args.only):
            print(measure(name, VARIANTS[name], work / "data", work / str(i)), flush=True)


if __name__ == "__main__":
    main()
