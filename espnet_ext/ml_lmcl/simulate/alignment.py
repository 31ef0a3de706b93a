# SPDX-License-Identifier: Apache-2.0
"""Alignment of two word sequences by sound, in which words may be split and merged.

The alignment is the cheapest sequence of blocks of 0-2 reference and 0-3 hypothesis words. With
``d`` the phone distance in [0, 1] of a block's two sides:

    equal words                              0
    m words for n (m, n >= 1)                0.2 + 0.8 d max(m, n) + 0.3 (max(m, n) - 1)
    deleted or inserted word                 0.7

So "francisco" and "san fran" are one block if they sound alike, and a substitution beside an
insertion if they do not; a substitution always costs less than a deletion with an insertion.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from espnet_ext.ml_lmcl.simulate.phones import PhoneTable

GAP = 0.7
_SHAPES = ((1, 1), (1, 2), (2, 1), (2, 2), (1, 3))
_FIXED, _SOUND, _EXTRA = 0.2, 0.8, 0.3


@dataclass(frozen=True)
class Block:
    """Words ``ref[start:end]`` and what stands for them; ``start == end`` is an insertion."""

    start: int
    end: int
    hyp: tuple[str, ...]
    equal: bool = False


def align(ref: Sequence[str], hyp: Sequence[str], table: PhoneTable) -> list[Block]:
    """Return the blocks in order; together they cover both sequences exactly once."""
    head = 0
    while head < min(len(ref), len(hyp)) and ref[head] == hyp[head]:
        head += 1
    tail = 0
    while tail < min(len(ref), len(hyp)) - head and ref[-1 - tail] == hyp[-1 - tail]:
        tail += 1
    middle = _align(ref[head : len(ref) - tail], hyp[head : len(hyp) - tail], table)
    shifted = [Block(b.start + head, b.end + head, b.hyp, b.equal) for b in middle]
    last = range(len(ref) - tail, len(ref))
    return [*(_same(ref, i) for i in range(head)), *shifted, *(_same(ref, i) for i in last)]


def _same(ref: Sequence[str], i: int) -> Block:
    return Block(i, i + 1, (ref[i],), True)


def _align(ref: Sequence[str], hyp: Sequence[str], table: PhoneTable) -> list[Block]:
    n_ref, n_hyp = len(ref), len(hyp)
    cost = [[0.0] * (n_hyp + 1) for _ in range(n_ref + 1)]
    step: list[list[tuple[int, int]]] = [[(0, 0)] * (n_hyp + 1) for _ in range(n_ref + 1)]
    for i in range(n_ref + 1):
        for j in range(n_hyp + 1):
            if i or j:
                cost[i][j], step[i][j] = min(_options(ref, hyp, i, j, cost, table))
    blocks, i, j = [], n_ref, n_hyp
    while i or j:
        m, n = step[i][j]
        words = tuple(hyp[j - n : j])
        blocks.append(Block(i - m, i, words, m == n == 1 and words[0] == ref[i - 1]))
        i, j = i - m, j - n
    return blocks[::-1]


def _options(
    ref: Sequence[str], hyp: Sequence[str], i: int, j: int, cost: list[list[float]], t: PhoneTable
) -> list[tuple[float, tuple[int, int]]]:
    """Return ``(cost, (reference words, hypothesis words))`` of each way to reach cell i, j."""
    out = []
    if i:
        out.append((cost[i - 1][j] + GAP, (1, 0)))
    if j:
        out.append((cost[i][j - 1] + GAP, (0, 1)))
    for m, n in _SHAPES:
        if m > i or n > j:
            continue
        if m == n == 1 and ref[i - 1] == hyp[j - 1]:
            out.append((cost[i - 1][j - 1], (1, 1)))
            continue
        size = max(m, n)
        if size > 1 and (ref[i - m] == hyp[j - n] or ref[i - 1] == hyp[j - 1]):
            continue  # the equal word is a block of its own
        far = t.distance(" ".join(ref[i - m : i]), " ".join(hyp[j - n : j]))
        own = _FIXED + _SOUND * far * size + _EXTRA * (size - 1)
        out.append((cost[i - m][j - n] + own, (m, n)))
    return out
