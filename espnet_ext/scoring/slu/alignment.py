# SPDX-License-Identifier: Apache-2.0
"""Alignment of two lists of units by edit costs, with the ties of sclite.

Source: costs and ties are those of NIST sclite: of equally good ways to reach a cell the diagonal
comes first, then the insertion, then the deletion. For costs 1/1/1 the number of edits is the
Levenshtein distance whatever the ties.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Costs(NamedTuple):
    """Cost of a substitution, a deletion and an insertion."""

    substitution: int
    deletion: int
    insertion: int


LEVENSHTEIN = Costs(1, 1, 1)
SCLITE = Costs(4, 3, 3)

Pair = tuple[int | None, int | None]
_DIAGONAL, _INSERTION, _DELETION = range(3)


def align(
    ref: Sequence[Hashable], hyp: Sequence[Hashable], costs: Costs = LEVENSHTEIN
) -> list[Pair]:
    """Return the aligned places ``(in ref, in hyp)``; None where the other side has no partner."""
    if list(ref) == list(hyp):
        return [(i, i) for i in range(len(ref))]
    ways = _ways(ref, hyp, costs)
    r, h = len(ref), len(hyp)
    pairs: list[Pair] = []
    while r or h:
        way = ways[r][h]
        r, h = r - (way != _INSERTION), h - (way != _DELETION)
        pairs.append((r if way != _INSERTION else None, h if way != _DELETION else None))
    return pairs[::-1]


def _ways(ref: Sequence[Hashable], hyp: Sequence[Hashable], costs: Costs) -> list[list[int]]:
    """Return how each cell of the table is best reached."""
    before = [h * costs.insertion for h in range(len(hyp) + 1)]
    ways = [[_INSERTION] * (len(hyp) + 1)]
    for r, unit in enumerate(ref, 1):
        row, way = [r * costs.deletion], [_DELETION]
        for h, other in enumerate(hyp, 1):
            reached = (
                before[h - 1] + (0 if unit == other else costs.substitution),
                row[h - 1] + costs.insertion,
                before[h] + costs.deletion,
            )
            row.append(min(reached))
            way.append(reached.index(row[-1]))  # the first of equal ones
        before = row
        ways.append(way)
    return ways
