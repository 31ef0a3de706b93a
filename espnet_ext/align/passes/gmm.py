# SPDX-License-Identifier: Apache-2.0
"""The GMM passes on whole utterances: monophones from a flat start, then triphones.

Alignment is by the best path with the best Gaussian of each state; the statistics of an update
take all Gaussians of the state. When the tree changes, the alignment is converted, not searched
again: a model of one Gaussian per leaf aligns worse than the one before it.
"""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.align.gmm.train import pdf_occ, split, update
from espnet_ext.align.options import Mono, Tri
from espnet_ext.align.passes.kept import KEEP_FRAMES
from espnet_ext.align.passes.shard import (
    accumulate_shard,
    align_shard,
    flat_shard,
    moments_shard,
    tree_shard,
)
from espnet_ext.align.session import Model, Session, sum_stats, totals
from espnet_ext.align.tree.questions import automatic_questions
from espnet_ext.align.tree.stats import TriphoneStats
from espnet_ext.align.tree.tree import Tree, build_tree, describe, initial_gmm_stats, leaf_budget
from espnet_ext.errors import DataError
from espnet_ext.files import write_text
from espnet_ext.progress import count


@dataclass
class State:
    """What changes during a pass."""

    name: str
    folder: Path
    gmm: Gmm
    job: dict[str, Any]  # files of the pass, see shard.py
    iterations: list[dict[str, Any]] = field(default_factory=list)
    failed: list = field(default_factory=list)
    align_rate: tuple[float, float] = (0.0, 0.0)  # frames, seconds
    update_rate: tuple[float, float] = (0.0, 0.0)
    last_alignment: dict[str, Any] = field(default_factory=dict)

    def save(self) -> None:
        self.gmm.save(Path(self.job["gmm"]))


def mono_pass(s: Session, before: None, data: Path) -> Model:
    """Train monophones from states of equal length; then align everything."""
    if done := s.begin("mono"):
        return done
    o, folder = s.options.mono, s.folder("mono")
    phones = s.corpus.pronunciations.phone_set()
    tree = Tree.monophone(len(phones))
    limit = s.corpus.start_frames(o.max_utterances)
    job = _files(s, folder, tree) | {"max_frames": limit}
    results, _ = s.run(flat_shard, **job, segs_out=str(folder / "segs"))
    job["segs"] = str(folder / "segs")
    failed = totals(results)["failed"]
    if not totals(results)["aligned"]:
        raise DataError(f"no utterance is long enough: {failed[:3]}", s.work, "check the lexicon")
    mean, var = _global_moments(s, job)
    state = State("mono", folder, Gmm.single(mean, var, tree.num_pdfs), job)
    state.save()
    em(s, state, o, o.gaussians, first_update=True)
    if limit is not None:
        state.job["max_frames"] = None
        align(s, state, o.iterations)
    return finish(s, state, tree)


def tri_pass(s: Session, before: Model, data: Path) -> Model:
    """Train tied triphones on deltas (Kaldi's train_deltas)."""
    if done := s.begin("tri"):
        return done
    o, folder = s.options.tri, s.folder("tri")
    state, tree = start_from(s, "tri", folder, before, o, {})
    em(s, state, o, state.job.pop("target"))
    return finish(s, state, tree)


def start_from(
    s: Session, name: str, folder: Path, before: Model, o: Tri, extra: dict[str, str]
) -> tuple[State, Tree]:
    """Build a tree on the alignment of the pass before and start with one Gaussian per leaf."""
    base = {"segs": str(s.folder(before.name) / "segs"), **extra}
    results, _ = s.run(tree_shard, **base, stats=str(folder / "tree_stats"))
    stats = sum_stats(TriphoneStats, results)
    leaves, gaussians = leaf_budget(float(stats.occ.sum()) * s.options.shift_s)
    phones = s.corpus.pronunciations.phone_set()
    leaves = o.leaves or max(leaves, 3 * len(phones))
    gaussians = o.gaussians or max(gaussians, leaves)
    tree = build_tree(
        stats, automatic_questions(stats, len(phones)), len(phones),
        leaves=leaves, min_count=o.min_count,
    )  # fmt: skip
    write_text(folder / "tree.txt", describe(tree, phones.names))
    occ, sx, sxx = (torch.as_tensor(a) for a in initial_gmm_stats(tree, stats))
    job = {**base, **_files(s, folder, tree), "target": gaussians}
    state = State(name, folder, Gmm.from_stats(occ, sx, sxx), job)
    state.save()
    s.say(f"  {name}: {tree.num_pdfs} tied states, up to {gaussians} Gaussians")
    return state, tree


def em(
    s: Session,
    state: State,
    o: Mono | Tri,
    target: int,
    *,
    first_update: bool = False,
    before_update: Callable[[State, int], None] | None = None,
) -> None:
    """Run the iterations of a pass.

    Args:
        s: The training.
        state: The pass; changed in place.
        o: Its schedule.
        target: Gaussians at ``increase_until``.
        first_update: Make one more update first, on the flat start.
        before_update: Called with the state and the iteration, e.g. to renew transforms.
    """
    begin, last = state.gmm.num_gauss, float("-inf")
    for it in range(0 if first_update else 1, o.iterations + 1):
        realigned = it in o.realign
        if realigned:
            align(s, state, o.iterations)
        if before_update:
            before_update(state, it)
        stats, row = accumulate(s, state)
        occ = pdf_occ(state.gmm, stats)
        state.gmm = update(state.gmm, stats)
        if 1 <= it <= o.increase_until:
            goal = begin + round((target - begin) * it / o.increase_until)
            state.gmm = split(state.gmm, goal, occ, power=s.options.power, seed=s.options.seed + it)
        state.save()
        state.iterations.append(
            {"iteration": it, "realigned": realigned, "gaussians": state.gmm.num_gauss, **row}
        )
        gain, last = row["loglik_per_frame"] - last, row["loglik_per_frame"]
        later = [r for r in o.realign if r > it]
        if it > o.increase_until and not later and gain < s.options.tolerance:
            break  # converged
    align(s, state, o.iterations)


def align(s: Session, state: State, iterations: int) -> dict[str, Any]:
    """Align all shards by the current model; the new alignment replaces the pass's own."""
    fresh, own = state.folder / "segs.new", state.folder / "segs"
    shutil.rmtree(fresh, ignore_errors=True)
    results, wall_s = s.run(align_shard, **state.job, segs_out=str(fresh))
    sums = totals(results)
    if not sums["aligned"]:
        raise DataError(
            f"the {state.name} pass aligns no utterance any more", s.work,
            f"look at the transcripts and the audio; first: {sums['failed'][:1]}",
        )  # fmt: skip
    shutil.rmtree(own, ignore_errors=True)
    os.replace(fresh, own)
    state.job["segs"] = str(own)
    state.failed = sums["failed"]
    state.align_rate = _add(state.align_rate, sums["frames"], sums["cpu_s"])
    state.last_alignment = sums
    done = state.iterations[-1]["iteration"] if state.iterations else 0
    s.say(
        f"  {state.name}, iteration {done} of {iterations}: "
        f"log-likelihood {sums['loglik'] / sums['frames']:.3f} per frame, "
        + (
            f"{sums['changed'] / max(1, sums['shared']):.1%} of frames in another phone, "
            if "changed" in sums
            else ""
        )
        + f"silence {sums['silence'] / sums['frames']:.1%}"
        + (f", {count(len(sums['failed']), 'utterance')} failed" if sums["failed"] else "")
        + f"  ({sums['frames'] / wall_s:,.0f} frames/s)"
    )
    return sums


def accumulate(s: Session, state: State) -> tuple[GmmStats, dict[str, Any]]:
    """Collect the statistics of one update over all shards, summed in their order."""
    results, wall_s = s.run(accumulate_shard, **state.job, stats=str(state.folder / "stats"))
    stats = sum_stats(GmmStats, results)
    sums = totals(results)
    state.update_rate = _add(state.update_rate, sums["frames"], sums["cpu_s"])
    return stats, {
        "loglik_per_frame": sums["loglik"] / sums["frames"],
        "frames": sums["frames"],
        "wall_s": round(wall_s, 3),
    }


def finish(s: Session, state: State, tree: Tree, **more: Any) -> Model:
    """Write the pass's report and mark it as done."""
    sums, phones = state.last_alignment, s.corpus.pronunciations.phone_set()
    report = {
        "name": state.name,
        "iterations": state.iterations,
        "states": tree.num_pdfs,
        "phones": len(phones.whole),
        "gaussians": state.gmm.num_gauss,
        "loglik_per_frame": sums["loglik"] / sums["frames"],
        "silence_share": sums["silence"] / sums["frames"],
        "aligned": sums["aligned"],
        "failures": state.failed,
        "align_frames_per_cpu_s": _rate(state.align_rate),
        "update_frames_per_cpu_s": _rate(state.update_rate),
        "cpu_s": round(state.align_rate[1] + state.update_rate[1], 2),
        **more,
    }
    names = ("gmm", "tree", "transform", "fmllr", "before")
    model = Model(state.name, **{k: state.job.get(k) or "" for k in names})
    return s.finish(state.name, model, report)


def _files(s: Session, folder: Path, tree: Tree) -> dict[str, str]:
    """Return the files of a pass for its jobs, and what they may keep; see kept.py."""
    files = {"gmm": str(folder / "gmm.npz"), "tree": str(folder / "tree.json")}
    write_text(Path(files["tree"]), json.dumps(tree.to_json()))
    return files | {"keep": s.corpus.key if s.corpus.frames <= KEEP_FRAMES else ""}


def _global_moments(s: Session, job: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    results, _ = s.run(moments_shard, **job)
    count = sum(r["count"] for r in results)
    mean = sum(np.asarray(r["sum"]) for r in results) / count
    var = sum(np.asarray(r["squares"]) for r in results) / count - mean**2
    return torch.from_numpy(mean).float(), torch.from_numpy(var).float()


def _add(rate: tuple[float, float], frames: float, seconds: float) -> tuple[float, float]:
    return rate[0] + frames, rate[1] + seconds


def _rate(rate: tuple[float, float]) -> int:
    return round(rate[0] / rate[1]) if rate[1] else 0
