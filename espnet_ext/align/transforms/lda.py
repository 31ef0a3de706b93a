# SPDX-License-Identifier: Apache-2.0
"""Linear discriminant analysis of spliced features."""

from dataclasses import dataclass

import numpy as np
import torch

from espnet_ext.align.transforms.stats import Sums, invertible
from espnet_ext.errors import DataError, UsageError

CHUNK_FRAMES = 8192


@dataclass
class LdaStats(Sums):
    """Moments of K classes in D dimensions, float64.

    Args:
        count: ``(K,)`` frames.
        sum: ``(K, D)`` sums of frames.
        outer: ``(D, D)`` sum of ``x x^T`` over all classes.
    """

    count: np.ndarray
    sum: np.ndarray
    outer: np.ndarray

    @classmethod
    def zeros(cls, num_classes: int, dim: int) -> "LdaStats":
        """Return empty statistics."""
        return cls(np.zeros(num_classes), np.zeros((num_classes, dim)), np.zeros((dim, dim)))

    def accumulate(self, x: torch.Tensor, classes: torch.Tensor) -> None:
        """Add frames ``(N, D)`` of the classes ``(N,)``."""
        x, classes = torch.as_tensor(x), torch.as_tensor(classes).long().cpu()
        if len(x) != len(classes):
            raise DataError(f"{len(x)} frames, but {len(classes)} labels", "LDA statistics")
        self.count += torch.bincount(classes, minlength=len(self.count)).numpy()
        sums = torch.from_numpy(self.sum)
        for part, labels in zip(
            x.split(CHUNK_FRAMES), classes.split(CHUNK_FRAMES), strict=True
        ):  # fmt: skip
            part = part.double().cpu()
            sums.index_add_(0, labels, part)
            self.outer += (part.T @ part).numpy()


def estimate_lda(stats: LdaStats, dim: int, *, remove_mean: bool = False) -> torch.Tensor:
    """Return the projection that separates the classes best.

    The covariance within the classes becomes the identity, that between them diagonal with
    descending entries.

    Args:
        stats: Moments of all frames.
        dim: Dimensions to keep, E.
        remove_mean: Also subtract the mean of all frames.

    Returns:
        ``(E, D)``, with ``remove_mean`` ``(E, D + 1)``, float64. The largest entry of each row
        is positive, so that the result does not depend on the linear algebra library.

    Raises:
        UsageError: ``dim`` exceeds D.
        DataError: The covariance within the classes is singular.
    """
    if not 0 < dim <= len(stats.outer):
        raise UsageError(f"LDA of {len(stats.outer)} dimensions cannot keep {dim}", "LDA dim")
    total = max(stats.count.sum(), 1.0)
    mean = stats.sum.sum(0) / total
    seen = stats.count > 0
    root = stats.sum[seen] / np.sqrt(stats.count[seen])[:, None]
    second = root.T @ root / total  # of the class means, each as often as it has frames
    within = stats.outer / total - second
    if not invertible(within, least=1e-10):
        raise DataError(
            "the covariance of the features within the classes is singular", "LDA statistics",
            "use more frames than dimensions, and no feature twice or constant",
        )  # fmt: skip
    whiten = np.linalg.inv(np.linalg.cholesky(within))
    between = whiten @ (second - np.outer(mean, mean)) @ whiten.T
    _, vectors = np.linalg.eigh(between)  # ascending
    matrix = vectors[:, ::-1][:, :dim].T @ whiten
    largest = np.take_along_axis(matrix, np.abs(matrix).argmax(1)[:, None], axis=1)
    matrix *= np.sign(largest)
    if remove_mean:
        matrix = np.concatenate([matrix, -(matrix @ mean)[:, None]], axis=1)
    return torch.from_numpy(np.ascontiguousarray(matrix))
