# SPDX-License-Identifier: Apache-2.0
"""How much better the aligned phones fit than any others: the evidence that a word was spoken.

For a frame, the log-likelihood of the best state of the aligned phone minus that of the best state
of all phones (0 or below); for a phone, the mean over its frames, and over the worst tenth of a
second in it, where something else may have been said. Of a tree with many tied states the largest
of every phone and state stand for all, so that this costs no more than an alignment.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.align.formats.arrays import load_arrays, save_arrays
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.options import pick_device
from espnet_ext.align.passes.shard import frontend, load_tree
from espnet_ext.align.search import segfile
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.tree.tree import Tree

BUDGET = 2000  # Gaussians that stand for all phones
WORST_S = 0.1
MEAN, WORST = 0, 1  # columns of the evidence


def evidence_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Write ``evidence_out/N.npz`` for the alignments ``segs/N.npz`` of a shard.

    Returns:
        ``frames`` and ``cpu_s``.
    """
    start = time.process_time()
    torch.set_num_threads(1)
    front, tree, device = frontend(job), load_tree(job["tree"]), pick_device(job["device"])
    gmm = Gmm.load(Path(job["gmm"]))
    some = representatives(tree, np.diff(gmm.offsets.numpy()))
    gmm, owner = gmm.to(device), phones_of(tree)
    segs = segfile.load(Path(job["segs"]) / f"{job['shard']}.npz")
    worst = round(WORST_S / job["shift_s"])
    found = [phone_evidence(gmm, front.read(u).to(device), s, tree, some, owner, worst)
             for u, s in segs.items()]  # fmt: skip
    values = np.concatenate([np.zeros((0, 2)), *found]).astype(np.float32)
    arrays = {
        "utts": np.array(list(segs), dtype=np.str_),
        "counts": np.array([len(x) for x in found], np.int64),
        "values": values,
    }
    save_arrays(Path(job["evidence_out"]) / f"{job['shard']}.npz", arrays)
    frames = sum(s.frames for s in segs.values())
    return {"frames": frames, "cpu_s": time.process_time() - start}


def load_evidence(folder: Path, shard: int) -> dict[str, np.ndarray]:
    """Return ``(P, 2)`` values of the phones of each utterance."""
    z = load_arrays(folder / f"{shard}.npz", ("utts", "counts", "values"))
    parts = np.split(z["values"], np.cumsum(z["counts"])[:-1]) if len(z["utts"]) else []
    return dict(zip(z["utts"].tolist(), parts, strict=True))


def representatives(tree: Tree, sizes: np.ndarray) -> np.ndarray:
    """Return the pdfs that stand for all phones: the largest ones of each phone and state.

    Args:
        tree: The tree.
        sizes: ``(K,)`` Gaussians of each pdf, which grow with its frames.
    """
    leaves: dict[tuple[int, int], list[int]] = {}
    for pdf, users in enumerate(tree.pdf_phone_state()):
        for user in users:
            leaves.setdefault(user, []).append(pdf)
    ranked = [sorted(pdfs, key=lambda k: -sizes[k]) for pdfs in leaves.values()]
    chosen: set[int] = {pdfs[0] for pdfs in ranked}
    for rank in range(1, max(map(len, ranked))):
        more = {pdfs[rank] for pdfs in ranked if rank < len(pdfs)}
        if sizes[sorted(chosen | more)].sum() > BUDGET:
            break
        chosen |= more
    return np.array(sorted(chosen))


def phones_of(tree: Tree) -> list[list[int]]:
    """Return for each pdf the phones that use it."""
    return [sorted({phone for phone, _ in users}) for users in tree.pdf_phone_state()]


def phone_evidence(
    gmm: Gmm, x: torch.Tensor, seg: Segmentation, tree: Tree, some: np.ndarray,
    owner: list[list[int]], worst: int,
) -> np.ndarray:  # fmt: skip
    """Return ``(P, 2)`` means over each phone's frames and its worst; see the head of the module.

    Args:
        gmm: The mixtures.
        x: ``(T, D)`` frames.
        seg: Alignment of P phones.
        tree: Its tied states.
        some: See :func:`representatives`.
        owner: See :func:`phones_of`.
        worst: Frames of the worst part of a longer phone.
    """
    own = seg.state_runs(tree.pdf)  # (P, 3)
    pdfs = np.union1d(some, own)
    scores = gmm.loglik(x, torch.from_numpy(pdfs)).cpu().numpy()  # (T, U)
    best = scores.max(1)
    place = {int(k): i for i, k in enumerate(pdfs)}
    columns: dict[int, list[int]] = {}
    for i, k in enumerate(pdfs):
        for phone in owner[k]:
            columns.setdefault(phone, []).append(i)
    out, ends = np.empty((len(seg.phones), 2)), seg.boundaries()
    for p, phone in enumerate(seg.phones):
        rows = slice(ends[p], ends[p + 1])
        mine = [*columns.get(int(phone), []), *(place[int(k)] for k in own[p])]
        gap = scores[rows][:, mine].max(1) - best[rows]
        part = min(worst, len(gap))
        sums = np.concatenate([[0.0], np.cumsum(gap, dtype=np.float64)])
        out[p] = gap.mean(), (sums[part:] - sums[:-part]).min() / part
    return out
