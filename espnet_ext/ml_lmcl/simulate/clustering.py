# SPDX-License-Identifier: Apache-2.0
"""How recognition errors cluster: some utterances have more of them, and one brings the next.

A word with hazard ``h`` is wrong with probability ``1 - exp(-g h b^e)``; ``g`` is the utterance's
noise level, gamma-distributed with the given mean and shape (a small shape: most utterances clean,
some ruined), ``e`` is 1 behind an error, ``b`` the burst factor.
"""

from dataclasses import dataclass

import numpy as np

# Points of log g for the integral over noise levels, and the grids of the likelihood search.
_LOG_LEVELS = np.linspace(-5.0, 3.0, 33)
_BURSTS = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0)
_SHAPES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 8.0, 16.0, 64.0)
_MEANS = tuple(np.round(np.geomspace(0.3, 1.5, 25), 3).tolist())


@dataclass(frozen=True)
class Clustering:
    """Shape and mean of the noise level ``g``, and the burst factor ``b``."""

    shape: float = 64.0
    mean: float = 1.0
    burst: float = 1.0


def fit(
    utterance: np.ndarray, hazard: np.ndarray, after_error: np.ndarray, error: np.ndarray
) -> Clustering:
    """Return the clustering of highest likelihood on a grid.

    Args:
        utterance: Index of each word's utterance, (N,) int.
        hazard: (N,) float.
        after_error: Whether the word stands behind an error, (N,) bool.
        error: Whether the word is wrong, (N,) bool.
    """
    if not error.any():
        return Clustering()
    grid = [(shape, mean) for shape in _SHAPES for mean in _MEANS]
    weights = np.exp([_log_density(_LOG_LEVELS, *x) for x in grid])  # (grid, levels)
    best, found = -np.inf, Clustering()
    for burst in _BURSTS:
        rate = hazard * np.where(after_error, burst, 1.0)
        given = np.stack([_log_likelihood(utterance, np.exp(x) * rate, error) for x in _LOG_LEVELS])
        top = given.max(axis=0)
        totals = np.log(weights @ np.exp(given - top) + 1e-300).sum(axis=1) + top.sum()
        if totals.max() > best:
            best, found = totals.max(), Clustering(*grid[int(totals.argmax())], burst)
    return found


def _log_likelihood(utterance: np.ndarray, rate: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Return (U,) log probabilities of the utterances' errors at hazards ``rate`` (N,)."""
    each = np.where(error, np.log(-np.expm1(-np.maximum(rate, 1e-12))), -rate)
    return np.bincount(utterance, each)


def _log_density(x: np.ndarray, shape: float, mean: float) -> np.ndarray:
    """Return the log weights, summing to 1, of a gamma distribution at points ``x = log g``."""
    out = shape * x - shape * np.exp(x) / mean
    return out - np.logaddexp.reduce(out)
