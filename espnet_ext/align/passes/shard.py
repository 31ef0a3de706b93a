# SPDX-License-Identifier: Apache-2.0
"""The work of one shard: aligning, and collecting statistics. Functions of plain data.

A job names files: ``work`` (see corpus.py), ``shard``, ``gmm``, ``tree``, ``transform``, and
``segs`` (folder of alignments, ``N.npz`` per shard); ``fixed`` is such a folder whose phones are
taken as they are, so that a search finds their times alone. Features are read utterance by
utterance and handled in batches, so memory does not grow with the corpus.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_ext.align.corpus import load_pronunciations, load_shard
from espnet_ext.align.features.frontend import Frontend
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats, accumulate
from espnet_ext.align.options import pick_device
from espnet_ext.align.passes.kept import kept, stamp
from espnet_ext.align.search import segfile
from espnet_ext.align.search.flat import flat_start
from espnet_ext.align.search.graph import (
    Graph,
    chain,
    make_graph,
    make_lattice,
    to_segmentation,
)
from espnet_ext.align.search.long import Emit, long_bytes, viterbi_long
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.align.search.viterbi import Found, viterbi
from espnet_ext.align.tree.stats import TriphoneStats
from espnet_ext.align.tree.tree import Tree
from espnet_ext.errors import DataError
from espnet_ext.files import file_version
from espnet_ext.lang.phones import PhoneSet

BATCH_FRAMES = 20_000  # of one search
CHUNK_FRAMES = 50_000  # of one accumulation
LONG_BYTES = 1 << 29  # of one utterance; longer ones are searched in blocks
SEARCH_BYTES = 1 << 31  # of an utterance in blocks: many hours
TOO_LONG = "too long"
Spoken = list[str] | Segmentation  # words, or phones that are known
Score = Callable[[list[str], list[Graph]], list[torch.Tensor]]


def frontend(job: dict[str, Any]) -> Frontend:
    """Return the features of the job's pass."""
    store = str(Path(job["work"]) / "feats")
    return Frontend(store, job["deltas"], *_transforms(job))


def _transforms(job: dict[str, Any]) -> tuple[str, str]:
    """Return the files of the pass's transform and of the shard's speakers; empty: none."""
    fmllr = job.get("fmllr") or ""
    return job.get("transform") or "", str(Path(fmllr) / f"{job['shard']}.npz") if fmllr else ""


Read = Callable[[str], torch.Tensor]


def reader(job: dict[str, Any], front: Frontend) -> Read:
    """Return ``front.read``, which keeps what it has read if the job says so."""
    if not job.get("keep"):
        return front.read
    version = (tuple(job["deltas"]), *map(stamp, _transforms(job)))
    return lambda utt: kept(job, ("features", utt), version, lambda: front.read(utt))


@lru_cache(maxsize=4)
def _tree(path: str, version: tuple) -> Tree:
    try:
        return Tree.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as e:
        raise DataError(f"the decision tree cannot be read ({e})", path, "train it again") from None


def load_tree(path: str) -> Tree:
    """Read a tree, once per process and version of the file."""
    return _tree(path, file_version(path))


def utterances(job: dict[str, Any]) -> Iterator[tuple[str, Spoken]]:
    """Yield ``(utterance, what is spoken)`` of the shard, up to ``max_frames`` long if given."""
    if job.get("fixed"):
        yield from segfile.load(Path(job["fixed"]) / f"{job['shard']}.npz").items()
        return
    shard, limit = load_shard(Path(job["work"]), job["shard"]), job.get("max_frames")
    store = frontend(job).store
    for utt, words in zip(shard["utts"], shard["words"], strict=True):
        if limit is None or store.frames(utt) <= limit:
            yield utt, words


def graph_of(spoken: Spoken, job: dict[str, Any], tree: Tree) -> Graph:
    """Compile the state graph of a transcript, or of the phones of an alignment."""
    if isinstance(spoken, Segmentation):
        lattice = chain(spoken.phones, spoken.words)
    else:
        pron = load_pronunciations(job["work"])
        lattice = make_lattice([pron.ids(w) for w in spoken], sil_prob=job["sil_prob"])
    return make_graph(lattice, tree.pdf, context=tree.context)


def align_batches(
    items: Iterable[tuple[str, Spoken]],
    job: dict[str, Any],
    tree: Tree,
    score: Score,
    emit: Callable[[str, Graph], Emit],
    frames_of: Callable[[str], int],
) -> Iterator[tuple[str, Segmentation | None, str]]:
    """Yield ``(utterance, alignment or None, why not)``.

    Args:
        items: Utterances and what is spoken, similar lengths near each other.
        job: See above.
        tree: Maps triphone states to tied states.
        score: ``score(utts, graphs) -> [(T, U) emissions]``.
        emit: ``emit(utt, graph)(start, end)`` -> ``(end - start, U)``, for long utterances.
        frames_of: ``frames_of(utt) -> T``.
    """
    batch: list[tuple[str, Graph]] = []
    frames = 0
    version = (stamp(job["tree"]), job["sil_prob"]) if job.get("keep") else ()
    for utt, spoken in items:
        graph = kept(job, ("graph", utt), version, partial(graph_of, spoken, job, tree))
        t = frames_of(utt)
        if t < graph.min_frames:
            yield utt, None, f"{t} frames, its shortest pronunciation needs {graph.min_frames}"
            continue
        need = t * (len(graph.pdf) + 4 * len(graph.unique))  # back pointers, emissions
        if need > LONG_BYTES:
            if (need := long_bytes(graph, t)) > SEARCH_BYTES:
                long_s, gib = t * job["shift_s"], need / 2**30
                why = f"{long_s:.0f} s of speech take {gib:.1f} GiB to search: cut it into segments"
                yield utt, None, f"{TOO_LONG}: {why}"
            else:
                yield _result(utt, graph, viterbi_long(graph, emit(utt, graph), t))
            continue
        batch.append((utt, graph))
        frames += t
        if frames >= BATCH_FRAMES:
            yield from _search(batch, score)
            batch, frames = [], 0
    yield from _search(batch, score)


def _search(
    batch: list[tuple[str, Graph]], score: Score
) -> Iterator[tuple[str, Segmentation | None, str]]:
    if not batch:
        return
    utts, graphs = [u for u, _ in batch], [g for _, g in batch]
    found = viterbi(graphs, score(utts, graphs))
    for row in zip(utts, graphs, found, strict=True):
        yield _result(*row)


def _result(utt: str, graph: Graph, found: Found) -> tuple[str, Segmentation | None, str]:
    path, loglik = found
    seg = None if path is None else to_segmentation(graph, path, loglik)
    return utt, seg, "no path has a finite likelihood"


def align_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Align by the GMM; writes ``segs_out/N.npz``.

    Returns:
        Counts ``frames``, ``aligned``, ``failed``, sum ``loglik``, frames ``changed`` of ``shared``
        ones against ``segs`` (if given), and ``cpu_s``.
    """
    start = time.process_time()
    torch.set_num_threads(1)
    front, tree, device = frontend(job), load_tree(job["tree"]), pick_device(job["device"])
    gmm, read = Gmm.load(Path(job["gmm"])).to(device), reader(job, front)

    def score(utts: list[str], graphs: list[Graph]) -> list[torch.Tensor]:
        return [
            gmm.loglik(read(u).to(device), torch.from_numpy(g.unique))
            for u, g in zip(utts, graphs, strict=True)
        ]

    def emit(utt: str, graph: Graph) -> Emit:
        x, unique = read(utt), torch.from_numpy(graph.unique)
        return lambda start, end: gmm.loglik(x[start:end].to(device), unique)

    found = align_batches(utterances(job), job, tree, score, emit, front.store.frames)
    return collect(found, job, start)


def collect(
    found: Iterable[tuple[str, Segmentation | None, str]], job: dict[str, Any], start: float
) -> dict[str, Any]:
    """Write the alignments of a shard and return its counts; see :func:`align_shard`."""
    segs, failed = {}, []
    for utt, seg, why in found:
        if seg is None:
            failed.append((utt, *_reason(why)))
        else:
            segs[utt] = seg
    result = {
        "frames": sum(s.frames for s in segs.values()),
        "aligned": len(segs),
        "failed": failed,
        "loglik": sum(s.loglik for s in segs.values()),
        "silence": sum(int((s.frame_phones() == 0).sum()) for s in segs.values()),
    }
    if job.get("segs"):
        before = segfile.load(Path(job["segs"]) / f"{job['shard']}.npz")
        result |= _changes(before, segs, load_pronunciations(job["work"]).phone_set())
    segfile.save(Path(job["segs_out"]) / f"{job['shard']}.npz", segs)
    return {**result, "cpu_s": time.process_time() - start}


def _reason(why: str) -> tuple[str, str]:
    """Return reason and detail for ``skipped.tsv``."""
    if why.startswith(TOO_LONG):
        return TOO_LONG, why.removeprefix(f"{TOO_LONG}: ")
    return ("too short" if "needs" in why else "no alignment"), why


def _changes(
    before: dict[str, Segmentation], now: dict[str, Segmentation], phones: PhoneSet
) -> dict[str, int]:
    shared = changed = 0
    for utt, seg in now.items():
        if utt in before and before[utt].frames == seg.frames:
            shared += seg.frames
            one, two = (s.whole(phones).frame_phones() for s in (seg, before[utt]))
            changed += int((one != two).sum())
    return {"shared": shared, "changed": changed}


def flat_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Start with states of equal length where it sounds; see flat.py."""
    start = time.process_time()
    pron, front = load_pronunciations(job["work"]), frontend(job)

    def found() -> Iterator[tuple[str, Segmentation | None, str]]:
        for utt, words in utterances(job):
            energy = front.store.read(utt, cmvn=False)[:, 0]  # C0
            seg = flat_start([pron.ids(w) for w in words], energy)
            yield utt, seg, "fewer frames than the states of its words needs"

    return collect(found(), job, start)


def chunks(job: dict[str, Any], read: Read | None = None) -> Iterator[tuple[torch.Tensor, list]]:
    """Yield ``(features (N, D), [(utterance, alignment), ...])`` of about CHUNK_FRAMES frames."""
    read = read or reader(job, frontend(job))
    held: list[tuple[str, Segmentation]] = []
    xs: list[torch.Tensor] = []
    size = 0
    limit = job.get("max_frames")
    for utt, seg in segfile.load(Path(job["segs"]) / f"{job['shard']}.npz").items():
        if limit is not None and seg.frames > limit:
            continue
        xs.append(read(utt))
        held.append((utt, seg))
        size += seg.frames
        if size >= CHUNK_FRAMES:
            yield _joined(xs, held), held
            held, xs, size = [], [], 0
    if held:
        yield _joined(xs, held), held


def _joined(xs: list[torch.Tensor], held: list[tuple[str, Segmentation]]) -> torch.Tensor:
    """Put utterances in a row; they must be finite."""
    joined = torch.cat(xs)
    if not bool(joined.isfinite().all()):
        wrong = next(u for x, (u, _) in zip(xs, held, strict=True) if not bool(x.isfinite().all()))
        raise DataError(
            "its features are not finite", f"utterance {wrong}",
            "look at its audio; with lda_mllt or sat, at the transforms of its speaker",
        )  # fmt: skip
    return joined


def labels(held: list[tuple[str, Segmentation]], tree: Tree) -> torch.Tensor:
    """Return ``(N,)`` tied states of a chunk."""
    return torch.from_numpy(
        np.concatenate([seg.pdfs(tree.pdf) for _, seg in held]).astype(np.int64)
    )


def save_stats(total: Any, job: dict[str, Any]) -> dict[str, str]:
    """Write a shard's statistics to ``stats`` + ``.N.npz``; tell where, "" if there are none."""
    if total is None:
        return {"stats": ""}
    path = f"{job['stats']}.{job['shard']}.npz"
    total.save(path)
    return {"stats": path}


def accumulate_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Collect the statistics of one EM update; writes ``stats`` + ``.N.npz``."""
    start = time.process_time()
    torch.set_num_threads(1)
    tree, device = load_tree(job["tree"]), pick_device(job["device"])
    gmm = Gmm.load(Path(job["gmm"])).to(device)
    total: GmmStats | None = None
    version = _alignment(job) if job.get("keep") else ()
    for i, (x, held) in enumerate(chunks(job)):
        pdfs = kept(job, ("pdfs", job["shard"], i), version, partial(labels, held, tree))
        stats = accumulate(gmm, x.to(device), pdfs.to(device))
        total = stats if total is None else total + stats
    saved = save_stats(total, job)
    frames, loglik = (0, 0.0) if total is None else (total.frames, total.loglik)
    spent = time.process_time() - start
    return {**saved, "frames": frames, "loglik": loglik, "cpu_s": spent}


def _alignment(job: dict[str, Any]) -> tuple:
    """Return what the tied states of the shard's frames depend on."""
    segs = Path(job["segs"]) / f"{job['shard']}.npz"
    return stamp(segs), stamp(job["tree"]), job.get("max_frames")


def moments_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Return ``count``, ``sum`` (D,) and ``squares`` (D,) of the features."""
    count, total, squares = 0, 0.0, 0.0
    for x, _ in chunks(job):
        x64 = x.double()
        count, total, squares = count + len(x), total + x64.sum(0), squares + (x64 * x64).sum(0)
    if not count:
        return {"count": 0, "sum": 0.0, "squares": 0.0}
    return {"count": count, "sum": total.tolist(), "squares": squares.tolist()}


def tree_shard(job: dict[str, Any]) -> dict[str, Any]:
    """Collect triphone statistics; writes ``stats`` + ``.N.npz``."""
    total = None
    for x, held in chunks(job):
        features = x.numpy()
        ends = np.cumsum([seg.frames for _, seg in held])
        pairs = [
            (seg, features[e - seg.frames : e]) for (_, seg), e in zip(held, ends, strict=True)
        ]
        stats = TriphoneStats.collect(pairs)
        total = stats if total is None else total + stats
    return save_stats(total, job)
