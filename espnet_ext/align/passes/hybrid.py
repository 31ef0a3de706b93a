# SPDX-License-Identifier: Apache-2.0
"""The hybrid pass: train the BLSTM on the alignment before it, realign, again if asked."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from espnet_ext.align.features.features import FeatureOptions
from espnet_ext.align.features.frontend import open_store
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.hybrid.network import Blstm
from espnet_ext.align.hybrid.train import train
from espnet_ext.align.options import AlignOptions, pick_device
from espnet_ext.align.passes.shard import align_batches, collect, load_tree, utterances
from espnet_ext.align.search import segfile
from espnet_ext.align.search.graph import Graph
from espnet_ext.align.search.long import Emit
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.session import Model, Session, count, totals
from espnet_ext.errors import DataError

CONTEXT_FRAMES = 200  # of a part of a long utterance on each side: as long as training sequences
SUSPICIOUS_CHANGE = 0.3  # of phone frames; 1 to 10 % are usual


def fbank_options(o: AlignOptions) -> FeatureOptions:
    """Return the options of the BLSTM's input."""
    return FeatureOptions(
        fs=o.fs, kind="fbank", num_mel=o.hybrid.num_mel, cmvn_vars=True, channel=o.channel
    )


def hybrid_pass(s: Session, before: Model, data: Path) -> Model:
    """Train and realign ``rounds`` times; the tied states stay those of the pass before."""
    if done := s.begin("hybrid"):
        return done
    o, folder = s.options.hybrid, s.folder("hybrid")
    store = FeatureStore.build(s.work / "fbank", data, fbank_options(s.options), map=s.map_fn)
    model = replace(before, name="hybrid", gmm=str(folder / "blstm.npz"))
    report: dict[str, Any] = {"name": "hybrid", "iterations": [], "states": 0, "failures": []}
    segs, start = s.folder(before.name) / "segs", time.perf_counter()
    for turn in range(1, o.rounds + 1):
        rows = _train_round(s, store, model, segs)
        sums = _realign(s, model, segs, folder)
        segs = folder / "segs"
        row = {
            "iteration": turn,
            "epochs": rows,
            "loglik_per_frame": sums["loglik"] / sums["frames"],
            "phones_changed": sums["changed"] / max(1, sums["shared"]),
        }
        report["iterations"].append(row)
        failed = f", {count(len(sums['failed']), 'utterance')} failed" if sums["failed"] else ""
        s.say(
            f"  hybrid, round {turn} of {o.rounds}: {row['phones_changed']:.1%} of frames in "
            f"another phone{failed}"
        )
        if row["phones_changed"] > SUSPICIOUS_CHANGE:
            s.say(
                "  warning: such a change is no refinement; the hybrid has too little data or too "
                f"few epochs. Use the pass {before.name}, or raise hybrid.epochs"
            )
    tree = load_tree(model.tree)
    report |= {
        "states": tree.num_pdfs,
        "loglik_per_frame": sums["loglik"] / sums["frames"],
        "silence_share": sums["silence"] / sums["frames"],
        "aligned": sums["aligned"],
        "failures": sums["failed"],
        "align_frames_per_cpu_s": round(sums["frames"] / max(1e-9, sums["cpu_s"])),
        "wall_s": round(time.perf_counter() - start, 2),
    }
    return s.finish("hybrid", model, report)


def _train_round(s: Session, store: FeatureStore, model: Model, segs: Path) -> list[dict]:
    tree = load_tree(model.tree)
    aligned: dict[str, Segmentation] = {}
    for i in range(s.corpus.shards):
        aligned |= segfile.load(segs / f"{i}.npz")
    missing = sorted(set(aligned) - set(store.utts))
    if missing:
        raise DataError("the features of the hybrid lack utterances", s.work, str(missing[:3]))
    lengths = {u: seg.frames for u, seg in aligned.items()}
    torch.set_num_threads(1)
    blstm, rows = train(
        lengths,
        lambda u: torch.as_tensor(store.read(u)),
        lambda u: torch.from_numpy(aligned[u].pdfs(tree.pdf)),
        tree.num_pdfs,
        s.options.hybrid,
        s.options.seed,
        s.say,
    )
    blstm.save(Path(model.gmm))
    return rows


def _realign(s: Session, model: Model, segs: Path, folder: Path) -> dict[str, Any]:
    fresh = folder / "segs.new"
    results, _ = s.run(
        hybrid_shard, blstm=model.gmm, tree=model.tree, segs=str(segs), segs_out=str(fresh),
        prior_scale=s.options.hybrid.prior_scale, device=s.options.hybrid.device,
    )  # fmt: skip
    shutil.rmtree(folder / "segs", ignore_errors=True)
    os.replace(fresh, folder / "segs")
    sums = totals(results)
    if not sums["aligned"]:
        raise DataError("the hybrid aligns no utterance", s.work, "look at the pass before it")
    return sums


def hybrid_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Align by the BLSTM; as :func:`espnet_ext.align.passes.shard.align_shard`."""
    start = time.process_time()
    torch.set_num_threads(1)
    device = pick_device(job["device"])  # of the machine that this runs on
    store = open_store(str(Path(job["work"]) / "fbank"))
    blstm, tree = Blstm.load(Path(job["blstm"])).to(device), load_tree(job["tree"])

    def score(utts: list[str], graphs: list[Graph]) -> list[torch.Tensor]:
        xs = [torch.as_tensor(store.read(u)).to(device) for u in utts]
        scores = blstm.scores(xs, job["prior_scale"])
        return [
            y[:, torch.from_numpy(g.unique).long().to(y.device)].contiguous()
            for y, g in zip(scores, graphs, strict=True)
        ]

    def emit(utt: str, graph: Graph) -> Emit:
        x, unique = torch.as_tensor(store.read(utt)), torch.from_numpy(graph.unique).long()

        def part(start: int, end: int) -> torch.Tensor:
            first = max(0, start - CONTEXT_FRAMES)
            near = x[first : end + CONTEXT_FRAMES].to(device)
            (y,) = blstm.scores([near], job["prior_scale"])
            return y[start - first : end - first][:, unique.to(y.device)]

        return part

    found = align_batches(utterances(job), job, tree, score, emit, store.frames)
    return collect(found, job, start)
