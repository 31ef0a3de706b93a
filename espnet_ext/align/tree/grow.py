# SPDX-License-Identifier: Apache-2.0
"""Growing of the decision tree of tree.py: best splits, merging of leaves, phones without data."""

import heapq

import numpy as np

from espnet_ext.align.tree.questions import agglomerate
from espnet_ext.align.tree.stats import TriphoneStats, log_likelihood, sum_rows
from espnet_ext.lang.phones import SILENCE_ID, STATES

SIDES = ("left", "right")


class Grower:
    """Splits nodes; a node is the rows of the statistics that reach it.

    Args:
        stats: Triphone statistics, M rows.
        member: ``(Q, num_phones)``, 1 where a phone is in a question, else 0.
        floor: ``(D,)`` smallest variances.
        min_count: Fewest frames on either side of a split.
    """

    def __init__(
        self, stats: TriphoneStats, member: np.ndarray, floor: np.ndarray, min_count: float
    ):
        self.packed, self.member, self.floor = stats.packed(), member, floor
        self.min_count = max(min_count, 1e-6)  # a side without data is never a split
        self.neighbours = stats.keys[:, [0, 2]].T
        self.rows: list[np.ndarray] = []
        self.nodes: list[tuple[int, ...]] = []
        self.heap: list[tuple[float, int, int, int]] = []

    def add(self, rows: np.ndarray, *, split: bool = True) -> int:
        """Add a leaf; it waits in the heap if a question raises the likelihood."""
        node = len(self.nodes)
        self.rows.append(rows)
        self.nodes.append(())
        best = self.best_question(rows) if split else None
        if best is not None:
            heapq.heappush(self.heap, (-best[0], node, best[1], best[2]))
        return node

    def best_question(self, rows: np.ndarray) -> tuple[float, int, int] | None:
        """Return the (gain, side, question) of most gain; None if no split is allowed."""
        total = self.packed[rows].sum(0)
        if total[0] < 2 * self.min_count or not len(self.member):
            return None
        base = float(log_likelihood(total, self.floor))
        gains = np.full((len(SIDES), len(self.member)), -np.inf)
        for side, phones in enumerate(self.neighbours[:, rows]):
            found, index = np.unique(phones, return_inverse=True)
            pooled = sum_rows(index, self.packed[rows], len(found))
            occ = self.member[:, found] @ pooled[:, 0]
            ok = (occ >= self.min_count) & (total[0] - occ >= self.min_count)
            yes = self.member[ok][:, found] @ pooled
            both = log_likelihood(np.stack([yes, total - yes]), self.floor)
            gains[side, ok] = both.sum(0) - base
        best = float(gains.max())
        tolerance = 1e-9 * abs(base)
        if not best > tolerance:
            return None
        # Questions that cut alike differ by rounding only: always take the first of them.
        side, question = divmod(int(np.argmax(gains >= best - tolerance)), len(self.member))
        return best, side, question

    def grow(self, leaves: int) -> float:
        """Split the leaf of most gain again and again, up to so many leaves.

        Returns:
            The least gain of all splits made; infinity if there was none.
        """
        count, least_gain = len(self.nodes), float("inf")
        while self.heap and count < leaves:
            negative_gain, node, side, question = heapq.heappop(self.heap)
            rows = self.rows[node]
            says_yes = self.member[question, self.neighbours[side, rows]] > 0
            yes, no = self.add(rows[says_yes]), self.add(rows[~says_yes])
            self.nodes[node] = (side, question, yes, no)
            # A child may gain more than its parent did, so the last gain need not be the least.
            least_gain = min(least_gain, -negative_gain)
            count += 1
        return least_gain


def donor_roots(packed: np.ndarray, floor: np.ndarray) -> list[int]:
    """Return for each root the root whose tree it uses: its own if it has data or is silence."""
    donors = list(range(len(packed)))
    first = (SILENCE_ID + 1) * STATES
    for state in range(STATES):
        same = np.arange(first + state, len(packed), STATES)
        occ = packed[same, 0]
        full, empty = same[occ > 0], same[occ == 0]
        if not len(full):
            continue
        mean, second = np.split(packed[full, 1:] / packed[full, :1], 2, axis=1)
        variance = np.maximum(second - mean**2, floor)
        speech = packed[full].sum(0)
        m, s = np.split(speech[1:] / speech[0], 2)
        # Expected log-likelihood of any speech under each phone's Gaussian.
        fit = -(np.log(variance) + (s - 2 * m * mean + mean**2) / variance).sum(1)
        for root in empty:
            donors[root] = int(full[fit.argmax()])
    return donors


def number_leaves(grower: Grower, roots: list[int], threshold: float) -> None:
    """Give pdf numbers to the leaves, one for all leaves that are merged."""
    pdf = 0
    for root in roots:
        leaves, todo = [], [root]
        while todo:
            node = todo.pop()
            children = grower.nodes[node][2:]
            todo.extend(reversed(children))
            if not children:
                leaves.append(node)
        group = list(range(len(leaves)))
        if threshold > 0 and len(leaves) > 1:
            sums = np.stack([grower.packed[grower.rows[leaf]].sum(0) for leaf in leaves])
            for i, j in agglomerate(sums[:, None], grower.floor, threshold):
                group = [i if g == j else g for g in group]
        numbers = {g: pdf + k for k, g in enumerate(dict.fromkeys(group))}
        for leaf, g in zip(leaves, group, strict=True):
            grower.nodes[leaf] = (numbers[g],)
        pdf += len(numbers)
