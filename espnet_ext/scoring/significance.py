# SPDX-License-Identifier: Apache-2.0
"""How much of a score, or of a difference, may be chance: of the seeds and of the test set.

Two things vary when an experiment is repeated: what the random seed of a training makes of a
system, and which utterances the test set holds. Both are resampled (two levels, crossed): a draw
takes ``S`` seeds and ``U`` utterances with replacement, the same ones for both systems, and the
score is computed again from the per-utterance counts of these::

    score(draw) = mean_{s in seeds} value(sum_{u in utterances} counts[s, u])

Percentiles of the draws bound the interval. With three seeds the draws of seeds alone are too
narrow (their variance is ``(S - 1) / S`` of the true one, and its error is not known either), so a
t interval over the paired differences of the seeds stands beside it, and a claim needs both.

A metric enters as ``value``: totals ``(..., K)`` of its ``K`` per-utterance counts in, percent
``(...)`` out, not-a-number where it is not defined.

Sources: M. Bisani and H. Ney, "Bootstrap estimates for confidence intervals in ASR performance
evaluation", ICASSP 2004 (utterances); B. Efron and R. Tibshirani, "An Introduction to the
Bootstrap", 1993, ch. 13 (percentiles).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.metrics.base import Better, percent
from espnet_ext.scoring.p_values import LEVEL, check_level, t_interval, two_sided

SAMPLES = 10_000
MIN_SEEDS = 3  # fewer say nothing of the spread over seeds
_CHUNK_ELEMENTS = 1 << 20  # indices in memory at once: 8 MiB, whatever the test set's size

Value = Callable[[np.ndarray], np.ndarray]
Direction = Literal["better", "worse"]


class Resampled(NamedTuple):
    """Scores of ``R`` runs on one set, in percent.

    Attributes:
        values: On the whole set, ``(R,)``.
        draws: On each draw of utterances, ``(B, R)``; the same utterances for all runs.
    """

    values: np.ndarray
    draws: np.ndarray

    def take(self, runs: Sequence[int]) -> "Resampled":
        """Return the scores of these runs only, in this order."""
        rows = list(runs)
        return Resampled(self.values[rows], self.draws[:, rows])


@dataclass(frozen=True)
class PairedResult:
    """System ``b`` against system ``a`` (the reference), the same seeds and utterances.

    Attributes:
        delta: Score of ``b`` minus that of ``a``, mean over seeds, percentage points.
        low: Lower bound of ``delta`` by the two-level bootstrap.
        high: Its upper bound.
        t_low: Lower bound of ``delta`` by the t interval over seeds; ``None`` for one seed.
        t_high: Its upper bound.
        relative: Change of the error rate in percent of the reference's, below 0 fewer errors. The
            error rate is the score itself, or 100 minus the score where higher is better. ``None``
            where the reference makes no error.
        relative_low: Lower bound of ``relative`` by the bootstrap.
        relative_high: Its upper bound.
        p_bootstrap: Two-sided: twice the share of draws on the other side of 0.
        p_t: Two-sided, of the paired t test over seeds; 1 for one seed.
        changes: Difference of each seed, percentage points.
        better: Whether a lower or a higher score is better.
    """

    delta: float
    low: float
    high: float
    t_low: float | None
    t_high: float | None
    relative: float | None
    relative_low: float | None
    relative_high: float | None
    p_bootstrap: float
    p_t: float
    changes: tuple[float, ...]
    better: Better

    @property
    def p(self) -> float:
        """The larger p of the two: a claim needs both tests."""
        return max(self.p_bootstrap, self.p_t)

    @property
    def direction(self) -> Direction | None:
        """``better`` or ``worse`` where both intervals exclude 0 over enough seeds."""
        if len(self.changes) < MIN_SEEDS or self.t_low is None or self.t_high is None:
            return None
        if max(self.high, self.t_high) < 0:
            return "better" if self.better == "lower" else "worse"
        if min(self.low, self.t_low) > 0:
            return "worse" if self.better == "lower" else "better"
        return None


def resample_indices(
    utterances: int, samples: int, seed: int, chunk_elements: int = _CHUNK_ELEMENTS
) -> Iterator[np.ndarray]:
    """Yield the draws of utterances, ``(rows, utterances)`` int64, ``samples`` rows in all.

    The rows depend on ``utterances``, ``samples`` and ``seed`` only, not on the chunk size.
    """
    rng = np.random.default_rng(seed)
    rows = max(1, chunk_elements // utterances)
    for start in range(0, samples, rows):
        yield rng.integers(0, utterances, size=(min(rows, samples - start), utterances))


def seed_weights(runs: int, samples: int, seed: int) -> np.ndarray:
    """Return how much each of ``runs`` seeds weighs in each draw, ``(samples, runs)``, sum 1."""
    rng = np.random.default_rng([seed, runs])  # a stream of its own, apart from the utterances'
    return rng.multinomial(runs, np.full(runs, 1.0 / runs), size=samples) / runs


def resample(
    counts: ArrayLike, value: Value, *, samples: int = SAMPLES, seed: int = 0
) -> Resampled:
    """Score runs on the whole set and on draws of its utterances.

    Args:
        counts: Counts of each run and utterance, ``(R, U, K)``, integers >= 0.
        value: The metric, see above.
        samples: Number of draws ``B``.
        seed: Seed of the draws; sets of equal size get equal draws.

    Raises:
        DataError: The shape does not fit, a count is negative, or the score of a run is not
            defined (all references empty).
        UsageError: ``samples`` is below 1.
    """
    runs = _checked(counts)
    if samples < 1:
        raise UsageError("at least one draw is needed", f"samples = {samples}")
    values = value(runs.sum(axis=1))
    if not np.isfinite(values).all():
        raise DataError("the score of a run is not defined: its references are empty", "counts")
    number, utterances, kinds = runs.shape
    # Floats sum exactly below 2**53, and go through BLAS.
    flat = runs.transpose(1, 0, 2).reshape(utterances, number * kinds).astype(np.float64)
    totals = []
    for idx in resample_indices(utterances, samples, seed):
        rows = len(idx)
        idx += np.arange(rows)[:, None] * utterances
        times = np.bincount(idx.ravel(), minlength=rows * utterances).reshape(rows, utterances)
        totals.append(times.astype(np.float64) @ flat)
    return Resampled(values, value(np.concatenate(totals).reshape(samples, number, kinds)))


def interval(scores: Resampled, *, seed: int = 0, level: float = LEVEL) -> tuple[float, float]:
    """Return the two-level interval ``(low, high)`` of the mean of runs that differ by seed.

    Args:
        scores: Of the runs; a single one leaves only the utterances to chance.
        seed: Seed of the draws of seeds.
        level: Coverage, between 0 and 1.

    Raises:
        DataError: No draw has a defined score.
        UsageError: ``level`` is out of range.
    """
    return _percentiles(_over_seeds(scores.draws, seed), level)


def paired(
    a: Resampled, b: Resampled, better: Better, *, seed: int = 0, level: float = LEVEL
) -> PairedResult:
    """Compare two systems; row ``s`` of both is of one seed, draw ``i`` of one choice.

    Args:
        a: The reference, ``S`` runs.
        b: The other system, ``S`` runs of the same seeds on the same utterances.
        better: Whether a lower or a higher score is better.
        seed: Seed of the draws of seeds.
        level: Coverage of the intervals, between 0 and 1.

    Raises:
        DataError: The two cannot be paired, or no draw has a defined score.
        UsageError: ``level`` is out of range.
    """
    if a.draws.shape != b.draws.shape:
        raise DataError(
            "the two systems cannot be paired",
            f"{a.draws.shape[1]} runs against {b.draws.shape[1]}",
            "give the same utterances and the same seeds for both",
        )
    changes = b.values - a.values
    mean_a, mean_b = _over_seeds(a.draws, seed), _over_seeds(b.draws, seed)
    deltas = mean_b - mean_a
    low, high = _percentiles(deltas, level)
    t_low, t_high, p_t = t_interval(changes, level)
    relative = _relative(a.values.mean(), b.values.mean(), better)
    bounds = (None, None)
    if np.isfinite(relative):
        bounds = _percentiles(_relative(mean_a, mean_b, better), level)
    return PairedResult(
        delta=float(changes.mean()), low=low, high=high, t_low=t_low, t_high=t_high,
        relative=float(relative) if np.isfinite(relative) else None,
        relative_low=bounds[0], relative_high=bounds[1],
        p_bootstrap=two_sided(deltas), p_t=p_t,
        changes=tuple(map(float, changes)), better=better,
    )  # fmt: skip


def paired_bootstrap(
    counts_a: ArrayLike, counts_b: ArrayLike, value: Value, better: Better,
    *, samples: int = SAMPLES, seed: int = 0, level: float = LEVEL,
) -> PairedResult:  # fmt: skip
    """Compare two systems by their counts, ``(S, U, K)`` each: :func:`resample`, then `paired`.

    Raises:
        DataError: See :func:`resample` and :func:`paired`.
        UsageError: ``samples`` or ``level`` is out of range.
    """
    shapes = [np.shape(counts_a), np.shape(counts_b)]
    if shapes[0] != shapes[1]:
        raise DataError(
            "the two systems cannot be paired",
            f"counts of shape {shapes[0]} against {shapes[1]}",
            "give the same utterances and the same seeds for both",
        )
    both = resample(np.concatenate([counts_a, counts_b]), value, samples=samples, seed=seed)
    runs = shapes[0][0]
    a, b = both.take(range(runs)), both.take(range(runs, 2 * runs))
    return paired(a, b, better, seed=seed, level=level)


def bootstrap_interval(
    errors: ArrayLike, ref_len: ArrayLike,
    *, samples: int = SAMPLES, seed: int = 0, level: float = LEVEL,
) -> tuple[float, float]:  # fmt: skip
    """Return the two-level interval ``(low, high)`` of an error rate, in percent.

    Args:
        errors: Errors of each utterance, ``(U,)``, or of runs that differ by seed, ``(S, U)``.
        ref_len: Units in the reference of each utterance, ``(U,)``.
        samples: Number of draws.
        seed: Seed of the draws; the same seed gives the same interval.
        level: Coverage, between 0 and 1.

    Raises:
        DataError: Shapes do not fit, a count is negative, or there is no reference unit.
        UsageError: ``samples`` or ``level`` is out of range.
    """
    runs, units = np.asarray(errors), np.asarray(ref_len)
    if units.ndim != 1 or runs.ndim not in (1, 2) or runs.shape[-1] != len(units) or not runs.size:
        raise DataError(
            "error counts and reference lengths do not fit",
            f"errors has shape {runs.shape}, ref_len {units.shape}",
            "give (U,) or (S, U) errors and (U,) lengths, U > 0",
        )
    runs = np.atleast_2d(runs)
    counts = np.stack([runs, np.broadcast_to(units, runs.shape)], axis=-1)
    return interval(resample(counts, percent, samples=samples, seed=seed), seed=seed, level=level)


def _checked(counts: ArrayLike) -> np.ndarray:
    """Return ``(R, U, K)`` int64."""
    runs = np.asarray(counts)
    if runs.ndim != 3 or not runs.size:
        raise DataError("counts must be (R, U, K), none of them 0", f"shape {runs.shape}")
    if not np.issubdtype(runs.dtype, np.integer) or (runs < 0).any():
        raise DataError("counts must be integers >= 0", f"dtype {runs.dtype}")
    return runs.astype(np.int64)


def _over_seeds(draws: np.ndarray, seed: int) -> np.ndarray:
    """Return the score of each draw of seeds and utterances, ``(B,)``, from ``(B, S)``."""
    return (draws * seed_weights(draws.shape[1], len(draws), seed)).sum(axis=1)


def _relative(a: ArrayLike, b: ArrayLike, better: Better) -> np.ndarray:
    """Return the change of the error rate in percent of that of ``a``; NaN where it is 0."""
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if better == "higher":
        a, b = 100.0 - a, 100.0 - b
    return np.divide(100.0 * (b - a), a, out=np.full(a.shape, np.nan), where=a > 0)


def _percentiles(draws: np.ndarray, level: float) -> tuple[float, float]:
    check_level(level)
    if np.isnan(draws).all():
        raise DataError("no draw has a defined score", "counts", "draw more samples")
    tail = (1 - level) / 2
    low, high = np.nanquantile(draws, [tail, 1 - tail])
    return float(low), float(high)
