# SPDX-License-Identifier: Apache-2.0
"""How much of an error rate, or of a difference, may be chance of the test set: the bootstrap.

Utterances are drawn with replacement and the rate is computed anew, many times; percentiles of
these rates bound the interval. Several runs (seeds) of one system share each draw and are averaged:

    rate(draw) = 100 * sum_{u in draw} mean_s errors[s, u] / sum_{u in draw} ref_len[u]

Only the choice of utterances is resampled, so the interval does not hold the spread between
seeds (the results page shows that beside it), and utterances are taken as independent.

Source: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from espnet_ext.errors import DataError, UsageError

SAMPLES = 10_000
_CHUNK_ELEMENTS = 1 << 20  # indices held at once: 8 MiB, whatever the test set's size


@dataclass(frozen=True)
class PairedResult:
    """System ``b`` against system ``a`` (the baseline) on the same utterances.

    Attributes:
        delta_abs: Rate of ``b`` minus rate of ``a`` in percentage points; below 0 ``b`` is better.
        rel_percent: ``100 * delta_abs / rate of a``; ``None`` when ``a`` makes no error.
        low: Lower bound of ``delta_abs``.
        high: Upper bound of ``delta_abs``.
        p_better: Share of draws in which ``b`` makes fewer errors than ``a``; a tie is not better.
    """

    delta_abs: float
    rel_percent: float | None
    low: float
    high: float
    p_better: float


def resample_indices(
    utterances: int, samples: int, seed: int, chunk_elements: int = _CHUNK_ELEMENTS
) -> Iterator[np.ndarray]:
    """Yield the draws, ``(rows, utterances)`` int64, ``samples`` rows in all.

    The rows depend on ``utterances``, ``samples`` and ``seed`` only, not on the chunk size.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, chunk_elements // utterances)
    for start in range(0, samples, rows):
        yield rng.integers(0, utterances, size=(min(rows, samples - start), utterances))


def bootstrap_interval(
    errors: ArrayLike,
    ref_len: ArrayLike,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[float, float]:
    """Return the percentile interval ``(low, high)`` of an error rate, in percent.

    Args:
        errors: Errors of each utterance, ``(U,)``, or of several runs, ``(S, U)``.
        ref_len: Units in the reference of each utterance, ``(U,)``.
        samples: Number of draws.
        seed: Seed of the draws; the same seed gives the same interval.
        level: Coverage, between 0 and 1.

    Raises:
        DataError: Shapes do not fit, a count is negative, or there is no reference unit.
        UsageError: ``samples`` or ``level`` is out of range.
    """
    runs, ref = _checked(errors, ref_len)
    rates, _ = _resampled(runs.sum(axis=0), ref, samples, seed)
    return _interval(rates / len(runs), level)


def paired_bootstrap(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    ref_len: ArrayLike,
    *,
    samples: int = SAMPLES,
    seed: int = 0,
    level: float = 0.95,
) -> PairedResult:
    """Compare two systems; each draw takes the same utterances for both and for all seeds.

    Args:
        errors_a: Baseline, ``(U,)`` or ``(S, U)``; row ``s`` of both systems shares a seed.
        errors_b: The other system, same shape.
        ref_len: Units in the reference of each utterance, ``(U,)``.
        samples: Number of draws.
        seed: Seed of the draws.
        level: Coverage of the interval, between 0 and 1.

    Raises:
        DataError: Shapes do not fit, a count is negative, or there is no reference unit.
        UsageError: ``samples`` or ``level`` is out of range.
    """
    runs_a, ref = _checked(errors_a, ref_len)
    runs_b, _ = _checked(errors_b, ref_len)
    if runs_a.shape != runs_b.shape:
        raise DataError(
            "the two systems cannot be paired",
            f"errors_a has shape {runs_a.shape}, errors_b {runs_b.shape}",
            "give the same utterances and the same number of runs for both",
        )
    # Integers are subtracted before any division: equal systems differ by exactly zero.
    sum_a, sum_b = runs_a.sum(axis=0), runs_b.sum(axis=0)
    deltas, fewer = _resampled(sum_b - sum_a, ref, samples, seed)
    low, high = _interval(deltas / len(runs_a), level)
    total_a, total_b = int(sum_a.sum()), int(sum_b.sum())
    return PairedResult(
        delta_abs=100.0 * (total_b - total_a) / (len(runs_a) * int(ref.sum())),
        rel_percent=100.0 * (total_b - total_a) / total_a if total_a else None,
        low=low,
        high=high,
        p_better=fewer,
    )


def _checked(errors: ArrayLike, ref_len: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Return ``(S, U)`` and ``(U,)`` int64 arrays."""
    runs, ref = np.asarray(errors), np.asarray(ref_len)
    if ref.ndim != 1 or runs.ndim not in (1, 2) or runs.shape[-1] != len(ref) or not runs.size:
        raise DataError(
            "error counts and reference lengths do not fit",
            f"errors has shape {runs.shape}, ref_len {ref.shape}",
            "give (U,) or (S, U) errors and (U,) lengths, U > 0",
        )
    for name, counts in (("errors", runs), ("ref_len", ref)):
        if not np.issubdtype(counts.dtype, np.integer) or (counts < 0).any():
            raise DataError("counts must be integers >= 0", name)
    if not ref.sum():
        raise DataError("all references are empty: an error rate is not defined", "ref_len")
    return np.atleast_2d(runs).astype(np.int64), ref.astype(np.int64)


def _resampled(
    errors: np.ndarray, ref: np.ndarray, samples: int, seed: int
) -> tuple[np.ndarray, float]:
    """Return the rate of each draw in percent, ``(samples,)``, and the share of negative sums.

    A draw that holds only empty references has no rate: it is NaN.
    """
    if samples < 1:
        raise UsageError("at least one draw is needed", f"samples = {samples}")
    rates, negative = [], 0
    for idx in resample_indices(len(ref), samples, seed):
        total, length = errors[idx].sum(axis=1), ref[idx].sum(axis=1)
        rate = np.full(len(idx), np.nan)
        np.divide(100.0 * total, length, out=rate, where=length > 0)
        rates.append(rate)
        negative += int((total < 0).sum())
    return np.concatenate(rates), negative / samples


def _interval(rates: np.ndarray, level: float) -> tuple[float, float]:
    if not 0 < level < 1:
        raise UsageError("the level must lie between 0 and 1", f"level = {level}")
    if np.isnan(rates).all():
        raise DataError("no draw holds a reference unit", "ref_len", "draw more samples")
    tail = (1 - level) / 2
    low, high = np.nanquantile(rates, [tail, 1 - tail])
    return float(low), float(high)
