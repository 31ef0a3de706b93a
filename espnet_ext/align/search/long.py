# SPDX-License-Identifier: Apache-2.0
"""The best path through an utterance of many minutes, exact, in little memory.

Back pointers of all T frames and S states would take T S bytes: gigabytes for 20 minutes. Here the
scores are kept at the start of each block of frames only; the blocks are then searched a second
time from the last to the first, each with its own back pointers. That takes some 4 S sqrt(T) bytes
and twice the time. Emissions too are computed block by block.
"""

import functools
import math
from collections.abc import Callable

import numpy as np
from torch import Tensor

from espnet_ext.align.search.graph import Graph
from espnet_ext.align.search.viterbi import Found, transition_score

Emit = Callable[[int, int], Tensor]
"""``emit(start, end)``: ``(end - start, U)`` emissions of a range of frames, as of viterbi."""


def block_frames(frames: int) -> int:
    """Return how many frames a block has: checkpoints and back pointers then take the same."""
    return max(1, 2 * math.isqrt(frames))


def long_bytes(graph: Graph, frames: int) -> int:
    """Return the bytes that :func:`viterbi_long` takes beside the graph."""
    size = block_frames(frames)
    per_state = 4 * math.ceil(frames / size) + size * _back_type(graph).itemsize
    return per_state * len(graph.pdf) + 8 * size * len(graph.unique)


def viterbi_long(graph: Graph, emit: Emit, frames: int) -> Found:
    """Find the best path of one long utterance on the CPU.

    Args:
        graph: Of the utterance.
        emit: Emissions of a range of frames; each is asked for twice.
        frames: T.

    Returns:
        As of :func:`espnet_ext.align.search.viterbi.viterbi`.
    """
    starts = range(0, frames, block_frames(frames))
    spans = [(a, min(frames, a + starts.step)) for a in starts]
    back = np.empty((starts.step, len(graph.pdf)), _back_type(graph))
    kept: list[np.ndarray] = []
    scores = np.zeros(0, np.float32)
    if frames < max(1, graph.min_frames):
        return None, -np.inf
    for a, b in spans:
        kept.append(scores)
        raw = _emissions(emit, a, b)
        if not np.isfinite(raw.max(1)).all():
            return None, -np.inf
        scores = _forward(graph, scores, raw, back)
    scores = scores + graph.final_logp
    last = int(scores.argmax())
    if scores[last] == -np.inf:
        return None, -np.inf
    path, total = np.empty(frames, np.int32), 0.0
    for (a, b), before in zip(reversed(spans), reversed(kept), strict=True):
        raw = _emissions(emit, a, b)
        _forward(graph, before, raw, back)
        last = _trace(graph, back[: b - a], last, path[a:b], first=a == 0)
        total += raw[np.arange(b - a), graph.slot[path[a:b]]].sum(dtype=np.float64)
    return path, float(total) + transition_score(graph, path)


def _back_type(graph: Graph) -> np.dtype:
    return np.dtype(np.uint8 if graph.preds.shape[1] < 256 else np.int32)


def _emissions(emit: Emit, start: int, end: int) -> np.ndarray:
    return np.ascontiguousarray(emit(start, end).detach().float().cpu().numpy())


def _forward(graph: Graph, before: np.ndarray, raw: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Search a block from the scores before it (none: the beginning); return those after it."""
    em = raw - raw.max(1, keepdims=True)
    if not len(before):
        first = graph.start_logp + em[0, graph.slot]
        return _advance()(graph, first, em[1:], back[1 : len(em)])
    best = before.max()
    # Lowered by the best: sums over an hour would lose digits.
    before = before - best if best > -np.inf else before
    return _advance()(graph, before, em, back[: len(em)])


def _trace(graph: Graph, back: np.ndarray, last: int, path: np.ndarray, first: bool) -> int:
    """Fill the path of a block from its last state; return the last state of the block before."""
    for t in range(len(path) - 1, -1, -1):
        path[t] = last
        if (t or not first) and (choice := back[t, last]):
            last = int(graph.preds[last, choice - 1])
    return last


Advance = Callable[[Graph, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@functools.cache
def _advance() -> Advance:
    try:
        from espnet_ext.align.search.viterbi_numba import forward
    except (ImportError, OSError):  # OSError: its compiler library does not load
        return forward_numpy
    return forward


def forward_numpy(graph: Graph, before: np.ndarray, em: np.ndarray, back: np.ndarray) -> np.ndarray:
    """Do what the compiled ``forward`` does, where numba is not installed."""
    old = before
    known = np.maximum(graph.preds, 0)
    every = np.arange(len(graph.pdf))
    for row, choice in zip(em, back, strict=True):
        moves = old[known] + graph.pred_logp
        which = moves.argmax(1)
        best, stay = moves[every, which], old + np.float32(graph.self_logp)
        choice[:] = np.where(best > stay, which + 1, 0)
        old = np.maximum(best, stay) + row[graph.slot]
    return old
