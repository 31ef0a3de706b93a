# SPDX-License-Identifier: Apache-2.0
"""The hybrid pass: train a network on the alignment before it, realign, again if asked."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.align.features.features import FeatureOptions
from espnet_ext.align.features.frontend import open_store
from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.hybrid.files import load_network
from espnet_ext.align.hybrid.network import Network
from espnet_ext.align.hybrid.pieces import Frames, read_frames
from espnet_ext.align.hybrid.train import train
from espnet_ext.align.options import AlignOptions, Hybrid, pick_device
from espnet_ext.align.passes.shard import align_batches, collect, load_tree, utterances
from espnet_ext.align.search import segfile
from espnet_ext.align.search.graph import Graph
from espnet_ext.align.search.long import Emit
from espnet_ext.align.session import Model, Session, totals
from espnet_ext.errors import DataError
from espnet_ext.precision import EMULATED, has_bfloat16
from espnet_ext.progress import count

SUSPICIOUS_CHANGE = 0.3  # of phone frames; 1 to 10 % are usual


def fbank_options(o: AlignOptions) -> FeatureOptions:
    """Return the options of the network's input."""
    return FeatureOptions(
        fs=o.fs,
        kind="fbank",
        num_mel=o.hybrid.num_mel,
        cmvn_vars=True,
        channel=o.channel,
        shift_ms=o.frame_shift_ms,
    )


def hybrid_pass(s: Session, before: Model, data: Path) -> Model:
    """Train and realign ``rounds`` times; the tied states stay those of the pass before."""
    if done := s.begin("hybrid"):
        return done
    o, folder = s.options.hybrid, s.folder("hybrid")
    store = FeatureStore.build(s.work / "fbank", data, fbank_options(s.options), map=s.map_fn)
    model = replace(before, name="hybrid", gmm=str(folder / "hybrid.npz"))
    report: dict[str, Any] = {"name": "hybrid", "iterations": [], "states": 0, "failures": []}
    segs, start = s.folder(before.name) / "segs", time.perf_counter()
    for turn in range(1, o.rounds + 1):
        rows, network = train_network(s, store, model, segs, o)
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
        "network": network,
        "states": tree.num_pdfs,
        "loglik_per_frame": sums["loglik"] / sums["frames"],
        "silence_share": sums["silence"] / sums["frames"],
        "aligned": sums["aligned"],
        "failures": sums["failed"],
        "align_frames_per_cpu_s": round(sums["frames"] / max(1e-9, sums["cpu_s"])),
        "wall_s": round(time.perf_counter() - start, 2),
    }
    return s.finish("hybrid", model, report)


def train_network(
    s: Session,
    store: FeatureStore,
    model: Model,
    segs: Path,
    o: Hybrid,
    start: Network | None = None,
) -> tuple[list[dict], str]:
    """Train on an alignment and write ``model.gmm``.

    Args:
        s: The session.
        store: Features of the network.
        model: The file to write, and the tree that the alignment is labelled by.
        segs: Folder of alignments.
        o: Options.
        start: Network to go on from.

    Returns:
        The rows of the epochs, and what network it is.
    """
    folder = s.folder("hybrid") / "labels"
    results, _ = s.run(label_shard, segs=str(segs), tree=model.tree, labels=str(folder))
    data = labelled_frames(store, folder, results)
    missing = sorted(data.lengths.keys() - set(store.utts))
    if missing:
        raise DataError("the features of the hybrid lack utterances", s.work, str(missing[:3]))
    if o.precision == "bfloat16" and not has_bfloat16(pick_device(o.device)):
        s.say(f"  {EMULATED}")
    torch.set_num_threads(1)
    network, rows = train(data, o, s.options.seed, s.say, start)
    network.save(Path(model.gmm))
    shutil.rmtree(folder)
    return rows, str(network)


def label_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Write the tied states of all frames of a shard, ``labels/N.npy`` int32 ``(N,)``.

    Returns:
        Utterances ``utts``, their ``frames``, and ``counts`` (K,) of the states.
    """
    tree = load_tree(job["tree"])
    segs = segfile.load(Path(job["segs"]) / f"{job['shard']}.npz")
    labels = np.concatenate([np.zeros(0, np.int32), *(seg.pdfs(tree.pdf) for seg in segs.values())])
    path = Path(job["labels"]) / f"{job['shard']}.npy"
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, labels)
    counts = np.bincount(labels, minlength=tree.num_pdfs)
    return {
        "utts": list(segs),
        "frames": [seg.frames for seg in segs.values()],
        "counts": counts.tolist(),
    }


def labelled_frames(store: FeatureStore, labels: Path, shards: list[dict[str, Any]]) -> Frames:
    """Return features with the labels of :func:`label_shard`; both stay on disk."""
    arrays = [np.load(labels / f"{i}.npy", mmap_mode="r") for i in range(len(shards))]
    at: dict[str, tuple[int, int]] = {}
    lengths: dict[str, int] = {}
    for i, shard in enumerate(shards):
        starts = np.cumsum([0, *shard["frames"]])[:-1]
        at |= {u: (i, int(a)) for u, a in zip(shard["utts"], starts, strict=True)}
        lengths |= dict(zip(shard["utts"], shard["frames"], strict=True))

    def label(utt: str, start: int, end: int) -> np.ndarray:
        shard, first = at[utt]
        return arrays[shard][first + start : first + end]

    order = [u for u in store.utts if u in lengths]  # as the features lie on disk
    return Frames(
        {u: lengths.pop(u) for u in order} | lengths,
        lambda utt, start, end: read_frames(store, utt, start, end),
        label,
        np.sum([shard["counts"] for shard in shards], axis=0),
    )


def _realign(s: Session, model: Model, segs: Path, folder: Path) -> dict[str, Any]:
    fresh = folder / "segs.new"
    results, _ = s.run(
        hybrid_shard, network=model.gmm, tree=model.tree, segs=str(segs), segs_out=str(fresh),
        prior_scale=s.options.hybrid.prior_scale, device=s.options.hybrid.device,
    )  # fmt: skip
    shutil.rmtree(folder / "segs", ignore_errors=True)
    os.replace(fresh, folder / "segs")
    sums = totals(results)
    if not sums["aligned"]:
        raise DataError("the hybrid aligns no utterance", s.work, "look at the pass before it")
    return sums


def hybrid_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Align by the network; as :func:`espnet_ext.align.passes.shard.align_shard`."""
    start = time.process_time()
    torch.set_num_threads(1)
    device = pick_device(job["device"])  # of the machine that this runs on
    store = open_store(str(Path(job["work"]) / "fbank"))
    network, tree = load_network(job["network"]).to(device), load_tree(job["tree"])

    def piece(utt: str, first: int, last: int) -> torch.Tensor:
        c = network.context
        return torch.from_numpy(read_frames(store, utt, first - c, last + c)).to(device)

    def score(utts: list[str], graphs: list[Graph]) -> list[torch.Tensor]:
        xs = [piece(u, 0, store.frames(u)) for u in utts]
        states = [torch.from_numpy(g.unique).long() for g in graphs]
        return network.scores(xs, job["prior_scale"], states)

    def emit(utt: str, graph: Graph) -> Emit:
        states, frames = torch.from_numpy(graph.unique).long(), store.frames(utt)

        def part(start: int, end: int) -> torch.Tensor:
            first, last = max(0, start - network.warm_up), min(frames, end + network.warm_up)
            (y,) = network.scores([piece(utt, first, last)], job["prior_scale"], [states])
            return y[start - first : end - first]

        return part

    found = align_batches(utterances(job), job, tree, score, emit, store.frames)
    return collect(found, job, start)
