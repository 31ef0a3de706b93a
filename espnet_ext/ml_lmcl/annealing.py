# SPDX-License-Identifier: Apache-2.0
r"""The weight of self-distillation at each update: it rises, holds, and starts again.

With the update t counted from 1, the period G in updates and the rising share R of it::

    cyclic      r = (t - 1) mod G;  gamma = r / (R G) if r <= R G else 1
    constant    gamma = 1
    zero        gamma = 0

A function of the update alone, so a resumed training needs nothing but its counter. Source: arXiv
2311.11375 (rise, then hold); the cyclical schedule is arXiv 1903.10145's.
"""

from espnet_ext.errors import UsageError, nearest

MODES = ("cyclic", "constant", "zero")
SHORTEST_PERIOD = 2  # with 1, gamma would be 0 for ever


def check_cycle(period: int, ratio: float) -> None:
    """Check G and R.

    Raises:
        UsageError: G is below 2 updates, or R not in (0, 1].
    """
    if period < SHORTEST_PERIOD:
        raise UsageError(
            f"a period of {period} updates", "gamma_period",
            f"{SHORTEST_PERIOD} updates or more; the method's is 5000",
        )  # fmt: skip
    if not 0 < ratio <= 1:
        raise UsageError(
            f"{ratio} is no share of a period", "gamma_ratio",
            "the share in which gamma rises, above 0 and at most 1; the method's is 0.5",
        )  # fmt: skip


def gamma(update: int, mode: str = "cyclic", period: int = 5000, ratio: float = 0.5) -> float:
    """Return the weight of self-distillation.

    Args:
        update: t, the first is 1.
        mode: One of :data:`MODES`.
        period: G in updates.
        ratio: R.

    Returns:
        A number in ``[0, 1]``.

    Raises:
        UsageError: An option is out of range.
        ValueError: ``update`` is below 1.
    """
    if update < 1:
        raise ValueError(f"updates count from 1, not from {update}")
    if mode not in MODES:
        raise UsageError(f"no such value: {mode!r}", "gamma_mode", nearest(str(mode), MODES))
    if mode != "cyclic":
        return float(mode == "constant")
    check_cycle(period, ratio)
    return min((update - 1) % period / (ratio * period), 1.0)


def reachable(total_updates: int, period: int = 5000, ratio: float = 0.5) -> float:
    """Return the highest gamma that a cyclic schedule has within a run.

    Below 1 for a run shorter than R G + 1 updates, and for R = 1, whose cycle ends just under it.

    Args:
        total_updates: Updates of the run; 0 for none.
        period: G in updates.
        ratio: R.

    Raises:
        UsageError: An option is out of range.
    """
    check_cycle(period, ratio)
    last = min(total_updates, period)
    return gamma(last, "cyclic", period, ratio) if last > 0 else 0.0


def period_of(period: int, fraction: float | None, total_updates: int) -> int:
    """Return G in updates.

    Args:
        period: G where no fraction is given.
        fraction: G as a share of all updates, in (0, 1]; None to take ``period``.
        total_updates: Updates of the run.

    Returns:
        The rounded number of updates, at least 2.

    Raises:
        UsageError: The fraction is out of range.
    """
    if fraction is None:
        return period
    if not 0 < fraction <= 1:
        raise UsageError(
            f"{fraction} is no share of a run", "gamma_period_fraction",
            "above 0 and at most 1: with 1 the run is one cycle",
        )  # fmt: skip
    return max(SHORTEST_PERIOD, round(fraction * total_updates))
