# SPDX-License-Identifier: Apache-2.0
"""The search of one utterance on a CPU, compiled. Imported only where numba is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from espnet_ext.align.graph import Graph

_F, _I = "float32[::1]", "int32[::1]"
_SIGNATURES = [
    f"{_I}(float32[:,::1],{_I},int32[:,::1],float32[:,::1],{_F},{_F},float32,{back}[:,::1])"
    for back in ("uint8", "int32")
]


def compiled(function: Callable) -> Any:
    """Compile at once, so that a cache folder that cannot be written shows here."""
    try:
        return njit(_SIGNATURES, cache=True, nogil=True)(function)
    except (RuntimeError, OSError):
        return njit(_SIGNATURES, nogil=True)(function)


@compiled
def _search(
    em: np.ndarray, slot: np.ndarray, preds: np.ndarray, pred_logp: np.ndarray,
    start: np.ndarray, final: np.ndarray, self_logp: np.float32, back: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Return the best states (T,), empty if no path is possible; ``back`` (T, S) is scratch."""
    frames, states = em.shape[0], len(slot)
    width = preds.shape[1]
    slot = slot.astype(np.uint32)  # unsigned: no test for negative indices in the inner loops
    # Most states follow state s - 1 alone; these go through one loop that becomes vector code.
    chain = np.full(states - 1, -np.inf, np.float32)
    entries = np.empty(states, np.int64)
    count = 0
    for s in range(states):
        if s > 0 and preds[s, 0] == s - 1 and (width == 1 or preds[s, 1] < 0):
            chain[s - 1] = pred_logp[s, 0]
        elif preds[s, 0] >= 0:
            entries[count] = s
            count += 1
    old, new = np.empty(states, np.float32), np.empty(states, np.float32)
    for s in range(states):
        old[s] = start[s] + em[0, slot[s]]
    for t in range(1, frames):
        row, choice = em[t], back[t]
        new[0], choice[0] = old[0] + self_logp, 0
        later, here, marks = new[1:], old[1:], choice[1:]
        for s in range(states - 1):
            stay, move = here[s] + self_logp, old[s] + chain[s]
            later[s] = move if move > stay else stay
            marks[s] = move > stay
        for e in range(count):
            s = entries[e]
            best, mark = new[s], 0
            for p in range(width):
                if preds[s, p] < 0:
                    break
                move = old[preds[s, p]] + pred_logp[s, p]
                if move > best:
                    best, mark = move, p + 1
            new[s], choice[s] = best, mark
        for s in range(states):
            new[s] += row[slot[s]]
        old, new = new, old
    best, last = np.float32(-np.inf), -1
    for s in range(states):
        if old[s] + final[s] > best:
            best, last = old[s] + final[s], s
    path = np.empty(frames if last >= 0 else 0, np.int32)
    if last >= 0:
        path[frames - 1] = last
        for t in range(frames - 1, 0, -1):
            mark = back[t, last]
            if mark > 0:
                last = preds[last, mark - 1]
            path[t - 1] = last
    return path


def best_path(graph: Graph, emissions: np.ndarray) -> np.ndarray | None:
    """Return the best path of one utterance; see :func:`espnet_ext.align.viterbi.viterbi`.

    Args:
        graph: Of the utterance.
        emissions: ``(T, U)`` float32, T at least 1.

    Returns:
        ``(T,)`` int32 states, None if no path is possible.
    """
    width = graph.preds.shape[1]
    back = np.empty((len(emissions), len(graph.pdf)), np.uint8 if width < 256 else np.int32)
    path = _search(
        np.ascontiguousarray(emissions), graph.slot, graph.preds, graph.pred_logp,
        graph.start_logp, graph.final_logp, np.float32(graph.self_logp), back,
    )  # fmt: skip
    return path if len(path) else None
