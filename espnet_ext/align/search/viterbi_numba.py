# SPDX-License-Identifier: Apache-2.0
"""The search of one utterance on a CPU, compiled. Imported only where numba is installed."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit

from espnet_ext.align.search.graph import Graph

_F, _I, _FF, _II = "float32[::1]", "int32[::1]", "float32[:,::1]", "int32[:,::1]"
_BACK = ("uint8[:,::1]", "int32[:,::1]")


def compiled(*signatures: str) -> Callable[[Callable], Any]:
    """Compile at once, so that a cache folder that cannot be written shows here."""

    def wrap(function: Callable) -> Any:
        try:
            return njit(list(signatures), cache=True, nogil=True)(function)
        except (RuntimeError, OSError):
            return njit(list(signatures), nogil=True)(function)

    return wrap


@compiled(*(f"{_F}({_FF},{_I},{_II},{_FF},{_F},float32,{back})" for back in _BACK))
def advance(
    em: np.ndarray, slot: np.ndarray, preds: np.ndarray, pred_logp: np.ndarray,
    before: np.ndarray, self_logp: np.float32, back: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Fill ``back`` (T, S) with choices; return the scores (S,) after the last of T frames.

    ``before`` (S,) has the scores of the frame before the first.
    """
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
    old, new = before.copy(), np.empty(states, np.float32)
    for t in range(frames):
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
    return old


@compiled(*(f"{_I}({_II},{back},int64)" for back in _BACK))
def _trace(preds: np.ndarray, back: np.ndarray, last: int) -> np.ndarray:
    frames = len(back)
    path = np.empty(frames, np.int32)
    for t in range(frames - 1, -1, -1):
        path[t] = last
        if t > 0 and back[t, last] > 0:  # row 0 of back is never written
            last = preds[last, back[t, last] - 1]
    return path


def best_path(graph: Graph, emissions: np.ndarray) -> np.ndarray | None:
    """Return the best path of one utterance; see :func:`espnet_ext.align.search.viterbi.viterbi`.

    Args:
        graph: Of the utterance.
        emissions: ``(T, U)`` float32, T at least 1.

    Returns:
        ``(T,)`` int32 states, None if no path is possible.
    """
    width = graph.preds.shape[1]
    back = np.empty((len(emissions), len(graph.pdf)), np.uint8 if width < 256 else np.int32)
    em = np.ascontiguousarray(emissions)
    scores = forward(graph, graph.start_logp + em[0, graph.slot], em[1:], back[1:])
    scores += graph.final_logp
    last = int(scores.argmax())
    return _trace(graph.preds, back, last) if scores[last] > -np.inf else None


def forward(graph: Graph, before: np.ndarray, em: np.ndarray, back: np.ndarray) -> np.ndarray:
    """See :func:`advance`."""
    return advance(
        em, graph.slot, graph.preds, graph.pred_logp, before, np.float32(graph.self_logp), back
    )
