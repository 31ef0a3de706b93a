# SPDX-License-Identifier: Apache-2.0
"""Maximum likelihood linear transform: one rotation that suits diagonal covariances best.

Also known as global semi-tied covariances. The objective per frame is
``log|det M| - 1/2 sum_d M_d G_d M_d^T / count`` with ``G_d`` the scatter around the Gaussians,
weighted by their inverse variances of dimension d.
"""

from dataclasses import dataclass

import numpy as np
import torch

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import accumulate
from espnet_ext.align.transforms.stats import (
    Sums,
    invertible,
    packed_products,
    replace_row,
    unpack_symmetric,
    weighted_frames,
)
from espnet_ext.errors import DataError


@dataclass
class MlltStats(Sums):
    """Scatter of frames around their Gaussians, float64.

    Args:
        scatter: ``(D, D, D)``: ``scatter[d]`` is the sum over frames and Gaussians of
            ``post_g / v_gd (x - m_g) (x - m_g)^T``.
        count: Frames.
    """

    scatter: np.ndarray
    count: float = 0.0

    @classmethod
    def zeros(cls, dim: int) -> "MlltStats":
        """Return empty statistics."""
        return cls(np.zeros((dim, dim, dim)))

    def accumulate(self, x: torch.Tensor, pdfs: torch.Tensor, gmm: Gmm) -> None:
        """Add frames ``(N, D)`` of the pdfs ``(N,)``; pass many at once.

        The outer products are not summed per Gaussian: those of the frames take the mean inverse
        variances of their posteriors, and what the means add follows from first-order sums.
        """
        dim = gmm.dim
        packed = torch.zeros(dim, dim * (dim + 1) // 2, dtype=torch.float64, device=gmm.device)
        for part in weighted_frames(gmm, x, pdfs):
            packed += part.precision.T @ packed_products(part.x)
        self.scatter += unpack_symmetric(packed.cpu().numpy(), dim)
        stats = accumulate(gmm, x, pdfs)
        seen = stats.occ > 0
        occ, centre = stats.occ[seen, None], gmm.centre.double()
        mean = gmm.means[seen].double() - centre
        right = stats.sx[seen] - occ * centre - occ * mean / 2
        for d in range(dim):
            cross = ((mean / gmm.variances[seen, d, None]).T @ right).cpu().numpy()
            self.scatter[d] -= cross + cross.T
        self.count += len(x)


def mllt_objective(stats: MlltStats, matrix: torch.Tensor | np.ndarray) -> float:
    """Return the objective per frame, up to a constant."""
    matrix = np.asarray(matrix, dtype=np.float64)
    quadratic = np.einsum("di,dij,dj->", matrix, stats.scatter, matrix)
    return float(np.linalg.slogdet(matrix)[1] - quadratic / (2 * stats.count))


def estimate_mllt(
    stats: MlltStats, iters: int = 200, *, tolerance: float = 1e-7
) -> tuple[torch.Tensor, float]:
    """Return the transform of highest likelihood.

    Args:
        stats: Scatter of all frames.
        iters: Most sweeps over all rows.
        tolerance: A sweep that gains less per frame is the last.

    Returns:
        ``(D, D)`` float64, and the gain of the objective per frame over no transform.

    Raises:
        DataError: Too few frames.

    Source:
        Gales (1999), "Semi-tied covariance matrices for hidden Markov models", row update.
    """
    dim = len(stats.scatter)
    if not invertible(stats.scatter):
        raise DataError(
            "too few frames for a transform of the features", "MLLT statistics", "use more data"
        )
    inverses = np.linalg.inv(stats.scatter / stats.count)
    matrix = np.eye(dim)
    start = previous = mllt_objective(stats, matrix)
    for _ in range(iters):
        inverse = np.linalg.inv(matrix)
        for d in range(dim):
            cofactors = inverse[:, d].copy()  # of row d, up to a factor
            row = inverses[d] @ cofactors
            replace_row(matrix, inverse, d, row / np.sqrt(cofactors @ row))
        objective = mllt_objective(stats, matrix)
        gain, previous = objective - previous, objective
        if gain < tolerance:
            break
    return torch.from_numpy(matrix), previous - start


def transform_gmm(gmm: Gmm, matrix: torch.Tensor) -> Gmm:
    """Return the model of transformed features ``M x``, to be re-estimated after.

    The means are transformed, the variances stay: the row update scales M so that the variances
    remain right on average.

    Args:
        gmm: Model of D dimensions.
        matrix: ``(D, D)`` of :func:`estimate_mllt`.
    """
    means = gmm.means.double() @ torch.as_tensor(matrix).to(gmm.device, torch.float64).T
    return Gmm(gmm.offsets, gmm.weights, means, gmm.variances)
