# SPDX-License-Identifier: Apache-2.0
"""Optional passes: LDA+MLLT features (train_lda_mllt) and speaker transforms (train_sat)."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.align.features.frontend import save_speakers, save_transform
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.model import AlignModel
from espnet_ext.align.passes.gmm import State, em, finish, start_from
from espnet_ext.align.passes.shard import (
    align_shard,
    chunks,
    frontend,
    labels,
    load_tree,
    save_stats,
)
from espnet_ext.align.session import Model, Session, sum_stats
from espnet_ext.align.transforms.fmllr import FmllrStats, estimate_fmllr
from espnet_ext.align.transforms.lda import LdaStats, estimate_lda
from espnet_ext.align.transforms.mllt import MlltStats, estimate_mllt, transform_gmm


def lda_mllt_pass(s: Session, before: Model, data: Path) -> Model:
    """Train on spliced frames under LDA, with MLLT updates on the way."""
    if done := s.begin("lda_mllt"):
        return done
    o, folder = s.options.lda_mllt, s.folder("lda_mllt")
    transform = folder / "transform.npz"
    identity = np.eye(s.corpus.store.dim * (2 * o.splice + 1))
    save_transform(transform, identity, o.splice)  # so that features can be read spliced
    results, _ = s.run(
        lda_shard, tree=before.tree, segs=str(s.folder(before.name) / "segs"),
        transform=str(transform), stats=str(folder / "lda"),
    )  # fmt: skip
    stats = sum_stats(LdaStats, results)
    save_transform(transform, estimate_lda(stats, o.dim).numpy(), o.splice)
    state, tree = start_from(s, "lda_mllt", folder, before, o, {"transform": str(transform)})

    def update_transform(state: State, iteration: int) -> None:
        if iteration not in o.transforms:
            return
        results, _ = s.run(mllt_shard, **state.job, stats=str(folder / "mllt"))
        matrix, gain = estimate_mllt(sum_stats(MlltStats, results))
        with np.load(transform, allow_pickle=False) as z:
            combined = matrix.numpy() @ z["matrix"]
        save_transform(transform, combined, o.splice)
        state.gmm = transform_gmm(state.gmm, matrix)
        state.save()
        s.say(f"  lda_mllt {iteration}: MLLT gains {gain:.4f} per frame")

    em(s, state, o, state.job.pop("target"), before_update=update_transform)
    return finish(s, state, tree)


def sat_pass(s: Session, before: Model, data: Path) -> Model:
    """Train on features under a transform for each speaker (fMLLR)."""
    if done := s.begin("sat"):
        return done
    o, folder = s.options.sat, s.folder("sat")
    fmllr = folder / "fmllr"
    common = {"transform": before.transform, "fmllr_out": str(fmllr)}
    s.run(
        fmllr_shard, **common, gmm=before.gmm, tree=before.tree,
        segs=str(s.folder(before.name) / "segs"),
    )  # fmt: skip
    extra = {"transform": before.transform, "fmllr": str(fmllr)}
    state, tree = start_from(s, "sat", folder, before, o, extra)
    state.job["before"] = str(s.folder(before.name))

    def update_speakers(state: State, iteration: int) -> None:
        if iteration in o.transforms:
            s.run(fmllr_shard, **state.job, fmllr_out=str(fmllr))

    em(s, state, o, state.job.pop("target"), before_update=update_speakers)
    return finish(s, state, tree)


def estimate_speakers(s: Session, model: AlignModel) -> str:
    """Align speakers the model does not know without, then estimate their transforms; a folder."""
    segs, fmllr = s.work / "si_segs", s.work / "fmllr"
    for folder in (segs, fmllr):
        shutil.rmtree(folder, ignore_errors=True)
    transform = model.file("transform.npz")
    s.run(
        align_shard, gmm=model.file("si_gmm.npz"), tree=model.file("si_tree.json"),
        transform=transform, segs_out=str(segs),
    )  # fmt: skip
    s.run(
        fmllr_shard, gmm=model.file("si_gmm.npz"), tree=model.file("si_tree.json"),
        transform=transform, segs=str(segs), fmllr_out=str(fmllr),
    )  # fmt: skip
    return str(fmllr)


def lda_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Collect class moments of spliced frames; writes ``stats`` + ``.N.npz``."""
    tree, total = load_tree(job["tree"]), None
    for x, held in chunks(job):
        total = total or LdaStats.zeros(tree.num_pdfs, x.shape[1])
        total.accumulate(x, labels(held, tree))
    return save_stats(total, job)


def mllt_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Collect the scatter of frames around their Gaussians; writes ``stats`` + ``.N.npz``."""
    tree, gmm, total = load_tree(job["tree"]), Gmm.load(Path(job["gmm"])), None
    for x, held in chunks(job):
        total = total or MlltStats.zeros(gmm.dim)
        total.accumulate(x, labels(held, tree), gmm)
    return save_stats(total, job)


def fmllr_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Estimate the transforms of the shard's speakers; writes ``fmllr_out/N.npz``."""
    start = time.process_time()
    torch.set_num_threads(1)
    tree, gmm = load_tree(job["tree"]), Gmm.load(Path(job["gmm"]))
    front = frontend(job)
    known = front.affine or {}
    stats: dict[str, FmllrStats] = {}
    for x, held in chunks(job, front.plain):
        row = 0
        pdfs = labels(held, tree)
        for utt, seg in held:
            speaker, span = front.store.speaker(utt), slice(row, row + seg.frames)
            row += seg.frames
            own = stats.setdefault(speaker, FmllrStats.zeros(gmm.dim))
            own.accumulate(x[span], pdfs[span], gmm, known.get(speaker))
    found = {name: estimate_fmllr(own).numpy() for name, own in stats.items()}
    save_speakers(Path(job["fmllr_out"]) / f"{job['shard']}.npz", found)
    return {"speakers": len(found), "cpu_s": time.process_time() - start}
