# SPDX-License-Identifier: Apache-2.0
"""Fit a trained aligner to new speech, whose transcripts it aligns itself.

The mixtures by maximum a posteriori estimates, on the phones that the unadapted aligner found; then
the network goes on for a few epochs on the labels of the adapted mixtures. What it gives:
benchmarks/align_adapt.py.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_ext.align.corpus import MapFn, prepare
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.align.gmm.train import map_update
from espnet_ext.align.hybrid.files import load_network
from espnet_ext.align.model import AlignModel, save_adapted
from espnet_ext.align.passes.hybrid import train_network
from espnet_ext.align.passes.shard import accumulate_shard, align_shard
from espnet_ext.align.run import Say, align_some, speaker_transforms
from espnet_ext.align.session import Model, Session, sum_stats
from espnet_ext.progress import count

ITERATIONS = 4
TAU = 30.0  # frames that the prior of a Gaussian is worth
EPOCHS = 3
LR_SHARE = 1 / 3  # of the rate of training


def adapt_aligner(
    model: AlignModel, data: Path, out: Path, work: Path, map_fn: MapFn, say: Say, **changes: Any
) -> AlignModel:
    """Adapt a model to ``data``.

    Args:
        model: The aligner; it stays as it is.
        data: Kaldi-style folder.
        out: Folder of the adapted model.
        work: Folder for features and intermediate results.
        map_fn: Ordered map over plain data.
        say: Receives the lines of progress.
        **changes: Options other than those of training: ``lexicon``, ``oov``, ``textgrid``...

    Raises:
        DataError: Nothing can be aligned, or a file is unusable.
    """
    o = replace(model.options, **changes)
    corpus = prepare(data, work, o, map_fn, say, phones=model.phones)
    s = Session(work, corpus, o, map_fn, say)
    sums = align_some(s, model, data)
    minutes = sums["frames"] * o.shift_s / 60
    say(f"  adapting to {count(sums['aligned'], 'utterance')}, {minutes:,.1f} minutes")
    files = {}
    if model.file("times_gmm.npz"):
        files["times_gmm.npz"] = _adapt_gmm(s, model, "times_")["gmm"]
    job = _adapt_gmm(s, model)
    files["gmm.npz"] = job["gmm"]
    if model.final == "hybrid":
        name = Path(model.network_file()).name
        files[name] = _adapt_network(s, model, job)
    return save_adapted(out, model, o, files, str(data))


def _adapt_gmm(s: Session, model: AlignModel, prefix: str = "") -> dict[str, str]:
    """Adapt ``<prefix>gmm.npz``; return what jobs need to align the known phones by it."""
    folder = s.work / f"adapted_{prefix}gmm"
    shutil.rmtree(folder, ignore_errors=True)
    file, segs = folder / "gmm.npz", str(folder / "segs")
    job = {
        "gmm": str(file),
        "tree": model.file(f"{prefix}tree.json"),
        "fixed": str(s.work / "segs"),
    }
    if not prefix:
        transforms = speaker_transforms(s, model)
        job |= {"transform": model.file("transform.npz"), "fmllr": transforms}
    prior = Gmm.load(Path(model.file(f"{prefix}gmm.npz")))
    prior.save(file)
    for iteration in range(1, ITERATIONS + 1):
        s.run(align_shard, **job, segs_out=segs)
        results, _ = s.run(accumulate_shard, **job, segs=segs, stats=str(folder / "stats"))
        stats = sum_stats(GmmStats, results)
        map_update(prior, stats, TAU).save(file)
        s.say(f"  {prefix}gmm {iteration} of {ITERATIONS}: log-likelihood "
              f"{stats.loglik / stats.frames:.3f} per frame")  # fmt: skip
    return job


def _adapt_network(s: Session, model: AlignModel, job: dict[str, str]) -> str:
    """Train the network further on the labels of the adapted mixtures; return its file."""
    o = s.options.hybrid
    s.fresh_folder("hybrid")
    segs = s.folder("hybrid") / "segs"
    s.run(align_shard, **job, segs_out=str(segs))
    file = s.folder("hybrid") / "hybrid.npz"
    to_write = Model("hybrid", str(file), model.file("tree.json"))
    short = replace(o, epochs=EPOCHS, lr=o.lr * LR_SHARE)
    store = FeatureStore.open(s.work / "fbank")
    train_network(s, store, to_write, segs, short, load_network(model.network_file()))
    return str(file)
