# SPDX-License-Identifier: Apache-2.0
"""The best path of HMM states through each utterance, exact: no beam.

Two backends find the same path, bit for bit. Both add in float32 in one order, score(previous) +
transition, then the emission, and both break ties alike: staying wins, then the predecessor listed
first, and at the end the state of the lowest number. Emissions are first lowered by the maximum
of their frame, so that long utterances lose no digits; the score is summed again in float64.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from espnet_ext.align.search.graph import Graph
from espnet_ext.errors import SetupError, UsageError
from espnet_ext.installation import install

# Bytes of back pointers held at once; one utterance above it is searched alone.
MAX_BACK_POINTERS = 1 << 28
BACKENDS = ("auto", "torch", "numba")
Found = tuple[np.ndarray | None, float]


def viterbi(
    graphs: Sequence[Graph], emissions: Sequence[Tensor], *, backend: str = "auto"
) -> list[Found]:
    """Find the best path of each utterance.

    Args:
        graphs: One per utterance.
        emissions: ``(T, U)`` log-likelihoods (natural) of the tied states ``graph.unique``, on any
            one device. -inf forbids a state in a frame.
        backend: ``numba`` (one utterance after the other, on the CPU), ``torch`` (all at once, on
            the device of the emissions), or ``auto``: numba on a CPU if it is installed.

    Returns:
        Per utterance ``(states (T,) int32, natural log-likelihood)``; ``(None, -inf)`` if it is
        shorter than the graph, has a frame without a finite maximum (NaN counts), or no path is
        possible.

    Raises:
        SetupError: ``numba`` is asked for and not usable.
        UsageError: There is no such backend.
        ValueError: Numbers or shapes of graphs and emissions do not fit.
    """
    for graph, e in zip(graphs, emissions, strict=True):
        if e.ndim != 2 or e.shape[1] != len(graph.unique):
            raise ValueError(f"emissions {tuple(e.shape)}, not (T, {len(graph.unique)})")
    found: list[Found] = [(None, -np.inf)] * len(graphs)
    usable = _usable(graphs, emissions)
    search = _search_of(backend, emissions)
    for group in _groups(usable, graphs, emissions):
        chosen = [graphs[i] for i in group]
        paths = search(chosen, [_level(emissions[i]) for i in group])
        hits = [(i, p) for i, p in zip(group, paths, strict=True) if p is not None]
        scores = _emission_scores(
            [emissions[i] for i, _ in hits], [graphs[i].slot[p] for i, p in hits]
        )
        for (i, path), score in zip(hits, scores, strict=True):
            found[i] = (path, score + transition_score(graphs[i], path))
    return found


def transition_score(graph: Graph, path: np.ndarray) -> float:
    """Return the log probability of a path ``(T,)`` without its emissions, in float64.

    It is -inf if the graph has no such path.
    """
    moved = np.flatnonzero(path[1:] != path[:-1]) + 1
    hit = graph.preds[path[moved]] == path[moved - 1, None]
    if not hit.any(1).all():
        return -np.inf
    total = graph.pred_logp[path[moved]][hit].sum(dtype=np.float64)
    total += graph.self_logp * (len(path) - 1 - len(moved))
    return float(total + graph.start_logp[path[0]] + graph.final_logp[path[-1]])


def _usable(graphs: Sequence[Graph], emissions: Sequence[Tensor]) -> list[int]:
    """Return the utterances worth a search, longest first."""
    fits = [i for i, (g, e) in enumerate(zip(graphs, emissions, strict=True))
            if len(e) >= max(1, g.min_frames)]  # fmt: skip
    if not fits:
        return []
    finite = torch.stack([emissions[i].detach().amax(1).isfinite().all() for i in fits]).tolist()
    return sorted((i for i, ok in zip(fits, finite, strict=True) if ok),
                  key=lambda i: -len(emissions[i]))  # fmt: skip


def _groups(
    order: list[int], graphs: Sequence[Graph], emissions: Sequence[Tensor]
) -> list[list[int]]:
    groups: list[list[int]] = []
    held = MAX_BACK_POINTERS
    for i in order:
        graph = graphs[i]
        size = len(emissions[i]) * len(graph.pdf) * _back_dtype([graph]).itemsize
        if held + size > MAX_BACK_POINTERS:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += size
    return groups


def _level(emissions: Tensor) -> Tensor:
    e = emissions.detach().float()
    return e - e.amax(1, keepdim=True)


def _emission_scores(emissions: list[Tensor], slots: list[np.ndarray]) -> list[float]:
    """Sum the emissions along the paths in float64; one transfer from the device for all."""
    if not emissions:
        return []
    picked = [
        e.detach().gather(1, torch.from_numpy(s).to(e.device, torch.int64)[:, None])[:, 0]
        for e, s in zip(emissions, slots, strict=True)
    ]
    flat = torch.cat(picked).double().cpu().numpy()
    ends = np.cumsum([len(s) for s in slots])
    return [float(part.sum()) for part in np.split(flat, ends[:-1])]


Search = Callable[[list[Graph], list[Tensor]], list[np.ndarray | None]]


def _search_of(backend: str, emissions: Sequence[Tensor]) -> Search:
    if backend not in BACKENDS:
        raise UsageError(f"no Viterbi backend '{backend}'", "backend", ", ".join(BACKENDS))
    if backend == "torch" or (backend == "auto" and any(e.device.type != "cpu" for e in emissions)):
        return _search_torch
    search = _numba_search()
    if search is None and backend == "numba":
        raise SetupError("numba cannot be imported", "Viterbi", install("numba"))
    return search or _search_torch


@functools.cache
def _numba_search() -> Search | None:
    try:
        from espnet_ext.align.search.viterbi_numba import best_path
    except (ImportError, OSError):  # OSError: its compiler library does not load
        return None

    def search(graphs: list[Graph], emissions: list[Tensor]) -> list[np.ndarray | None]:
        pairs = zip(graphs, emissions, strict=True)
        return [best_path(g, e.cpu().numpy()) for g, e in pairs]

    return search


def _back_dtype(graphs: list[Graph]) -> torch.dtype:
    """Return the smallest type for the choices: 0 is to stay, p + 1 is predecessor p."""
    return torch.uint8 if max(g.preds.shape[1] for g in graphs) < 256 else torch.int32


@dataclass
class _Batch:
    """States of all utterances in a row, longest utterance first.

    So the utterances still running at time t are a prefix, and nothing is padded but the
    predecessors of the few states that have several. N states, R of them with several.
    """

    offsets: np.ndarray  # (B + 1,) first state of each utterance
    table: np.ndarray  # (N, P + 1) previous state per choice
    rows: np.ndarray  # (R,) states with several predecessors, ascending
    first: Tensor  # (N,)
    first_logp: Tensor  # (N,)
    more: Tensor  # (R, P - 1)
    more_logp: Tensor  # (R, P - 1)
    self_logp: Tensor  # (N,)
    start: Tensor  # (N,)
    where: Tensor  # (N,) place of the state's emission at time 0 in the joined emissions
    stride: Tensor  # (N,) to its next frame


def _pack(graphs: list[Graph], emissions: list[Tensor]) -> _Batch:
    sizes = [len(g.pdf) for g in graphs]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    width = max(g.preds.shape[1] for g in graphs)
    preds = np.full((offsets[-1], width), -1, np.int64)
    logp = np.full((offsets[-1], width), -np.inf, np.float32)
    for g, o in zip(graphs, offsets, strict=False):
        part = slice(o, o + len(g.pdf)), slice(g.preds.shape[1])
        preds[part] = np.where(g.preds >= 0, g.preds + o, -1)
        logp[part] = g.pred_logp
    rows = np.flatnonzero(preds[:, 1] >= 0) if width > 1 else np.zeros(0, np.int64)
    begins = np.cumsum([0, *(e.numel() for e in emissions[:-1])])
    device = emissions[0].device

    def put(x: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(device)

    known = np.maximum(preds, 0)  # unused places read state 0 and add -inf
    return _Batch(
        offsets, np.column_stack([np.arange(offsets[-1]), preds]), rows,
        put(known[:, 0]), put(logp[:, 0]), put(known[rows, 1:]), put(logp[rows, 1:]),
        put(np.repeat(np.array([g.self_logp for g in graphs], np.float32), sizes)),
        put(np.concatenate([g.start_logp for g in graphs])),
        put(np.concatenate([g.slot + b for g, b in zip(graphs, begins, strict=True)])),
        put(np.repeat([e.shape[1] for e in emissions], sizes)),
    )  # fmt: skip


@torch.inference_mode()
def _search_torch(graphs: list[Graph], emissions: list[Tensor]) -> list[np.ndarray | None]:
    batch = _pack(graphs, emissions)
    lengths = np.array([len(e) for e in emissions])
    running = (lengths > np.arange(lengths[0])[:, None]).sum(1)  # (T,) utterances at time t
    active = batch.offsets[running]  # (T,) their states
    begins = np.concatenate([[0], np.cumsum(active)])
    back = torch.zeros(begins[-1], dtype=_back_dtype(graphs), device=emissions[0].device)
    ends = _forward(batch, torch.cat([e.reshape(-1) for e in emissions]), active, back, begins)
    return _trace(graphs, batch, ends.cpu().numpy(), back.cpu().numpy(), running, begins)


def _forward(
    b: _Batch, emissions: Tensor, active: np.ndarray, back: Tensor, begins: np.ndarray
) -> Tensor:
    """Fill ``back``; return ``(N,)`` scores in the last frame of each utterance."""
    several = np.searchsorted(b.rows, active).tolist()
    rows = torch.from_numpy(b.rows).to(back.device)
    where = b.where.clone()
    old = b.start + emissions[where]
    ends = old.clone()
    for t, (n, r) in enumerate(zip(active.tolist(), several, strict=True)):
        if t == 0:
            continue
        ends[n : len(old)] = old[n:]
        where = where[:n].add_(b.stride[:n])
        move = old.index_select(0, b.first[:n]).add_(b.first_logp[:n])
        new = old[:n] + b.self_logp[:n]
        mark = (move > new).to(back.dtype)
        torch.maximum(new, move, out=new)
        if r:
            others = old.take(b.more[:r]).add_(b.more_logp[:r])
            best, which = others.max(1)  # the first of equal ones
            here, row = new.index_select(0, rows[:r]), rows[:r]
            chosen = torch.where(best > here, (which + 2).to(back.dtype), mark.index_select(0, row))
            mark.index_copy_(0, row, chosen)
            new.index_copy_(0, row, torch.maximum(best, here))
        old = new.add_(emissions.index_select(0, where))
        back[int(begins[t]) : int(begins[t]) + n] = mark
    ends[: len(old)] = old
    return ends


def _trace(
    graphs: list[Graph], b: _Batch, ends: np.ndarray, back: np.ndarray,
    running: np.ndarray, begins: np.ndarray,
) -> list[np.ndarray | None]:  # fmt: skip
    """Follow the back pointers of all utterances together, on the CPU: T small steps."""
    state = np.zeros(len(graphs), np.int64)
    possible = np.zeros(len(graphs), bool)
    for i, (graph, o) in enumerate(zip(graphs, b.offsets, strict=False)):
        score = ends[o : o + len(graph.pdf)] + graph.final_logp
        state[i] = o + score.argmax()
        possible[i] = score.max() > -np.inf
    path = np.empty((len(running), len(graphs)), np.int64)
    for t in range(len(running) - 1, -1, -1):
        k = running[t]
        now = state[:k]
        path[t, :k] = now
        if t:
            state[:k] = b.table[now, back[begins[t] + now]]
    lengths = (running[:, None] > np.arange(len(graphs))).sum(0)
    path = (path - b.offsets[:-1]).astype(np.int32)
    return [
        path[:n, i].copy() if ok else None
        for i, (n, ok) in enumerate(zip(lengths, possible, strict=True))
    ]
