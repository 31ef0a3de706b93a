# SPDX-License-Identifier: Apache-2.0
"""Tests of a difference: over seeds, over draws of a bootstrap, and for several at once.

Sources: "Student", "The probable error of a mean", Biometrika 6, 1908; S. Holm, "A simple
sequentially rejective multiple test procedure", Scand. J. Statist. 6, 1979.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from espnet_ext.errors import UsageError

LEVEL = 0.95


def t_interval(
    changes: ArrayLike, level: float = LEVEL
) -> tuple[float | None, float | None, float]:
    """Return the interval of the mean of paired differences and the p of the paired t test.

    Args:
        changes: Differences of the seeds, ``(S,)``.
        level: Coverage, between 0 and 1.

    Returns:
        Lower and upper bound (``None`` for one seed) and the two-sided p (1 for one seed).

    Raises:
        UsageError: ``level`` is out of range.
    """
    from scipy.special import stdtr, stdtrit  # scipy.stats takes a second to import

    check_level(level)
    changes = np.asarray(changes, dtype=np.float64)
    freedom, mean = len(changes) - 1, float(changes.mean())
    if freedom < 1:
        return None, None, 1.0
    error = float(changes.std(ddof=1)) / np.sqrt(len(changes))
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    if error == 0:
        return mean, mean, float(mean == 0)
    return mean - half, mean + half, float(2 * stdtr(freedom, -abs(mean) / error))


def holm(p_values: Sequence[float], tests: int = 0) -> list[float]:
    """Return p-values corrected for their number by Holm's procedure, in the given order.

    Args:
        p_values: Those that are looked at.
        tests: Number of all tests, where those looked at were chosen by the data among more.
    """
    total = max(tests, len(p_values))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (total - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def two_sided(deltas: np.ndarray) -> float:
    """Return the two-sided p of draws of a difference: twice the share on the other side of 0."""
    defined = deltas[np.isfinite(deltas)]
    # One draw more on either side: no number of draws can show a p of 0.
    side = min(int((defined <= 0).sum()), int((defined >= 0).sum()))
    return min(1.0, 2.0 * (side + 1) / (len(defined) + 1))


def check_level(level: float) -> None:
    """Refuse a coverage outside (0, 1)."""
    if not 0 < level < 1:
        raise UsageError("the level must lie between 0 and 1", f"level = {level}")
