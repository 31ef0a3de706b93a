# SPDX-License-Identifier: Apache-2.0
"""Constrained MLLR (fMLLR): an affine transform of the features of one speaker.

The objective of ``W = [A, b]`` is ``count log|det A| + sum_d (W_d k_d - 1/2 W_d G_d W_d^T)``.
"""

from dataclasses import dataclass

import numpy as np
import torch

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.transforms.stats import (
    Sums,
    invertible,
    packed_products,
    replace_row,
    unpack_symmetric,
    weighted_frames,
)


@dataclass
class FmllrStats(Sums):
    """Statistics of one speaker, float64; extended frames are ``[x, 1]``.

    Args:
        linear: ``(D, D + 1)``: row d sums ``post_g m_gd / v_gd [x, 1]``.
        quadratic: ``(D, D + 1, D + 1)``: entry d sums ``post_g / v_gd [x, 1] [x, 1]^T``.
        count: Frames.
    """

    linear: np.ndarray
    quadratic: np.ndarray
    count: float = 0.0

    @classmethod
    def zeros(cls, dim: int) -> "FmllrStats":
        """Return empty statistics."""
        return cls(np.zeros((dim, dim + 1)), np.zeros((dim, dim + 1, dim + 1)))

    def accumulate(
        self,
        x: torch.Tensor,
        pdfs: torch.Tensor,
        gmm: Gmm,
        transform: torch.Tensor | None = None,
    ) -> None:
        """Add frames of the speaker.

        Args:
            x: ``(N, D)`` frames before any transform of the speaker.
            pdfs: ``(N,)`` pdf of each frame.
            gmm: Model to adapt to.
            transform: ``(D, D + 1)`` of an earlier estimate, for better posteriors.
        """
        dim = gmm.dim
        size = (dim + 1) * (dim + 2) // 2
        packed = torch.zeros(dim, size, dtype=torch.float64, device=gmm.device)
        linear = torch.zeros(dim, dim + 1, dtype=torch.float64, device=gmm.device)
        for part in weighted_frames(gmm, x, pdfs, transform):
            extended = torch.cat([part.x, part.x.new_ones(len(part.x), 1)], 1)
            packed += part.precision.T @ packed_products(extended)
            linear += part.target.T @ extended
        shift = np.eye(dim + 1)  # from frames around the centre to the frames as they are
        shift[:dim, dim] = gmm.centre.double().cpu().numpy()
        self.quadratic += shift @ unpack_symmetric(packed.cpu().numpy(), dim + 1) @ shift.T
        self.linear += linear.cpu().numpy() @ shift.T
        self.count += len(x)


def fmllr_objective(stats: FmllrStats, matrix: torch.Tensor | np.ndarray) -> float:
    """Return the objective of ``matrix (D, D + 1)`` per frame, up to a constant."""
    w = np.asarray(matrix, dtype=np.float64)
    quadratic = np.einsum("di,dij,dj->", w, stats.quadratic, w)
    rest = (w * stats.linear).sum() - quadratic / 2
    return float(np.linalg.slogdet(w[:, :-1])[1] + rest / stats.count)


def estimate_fmllr(
    stats: FmllrStats,
    iters: int = 40,
    *,
    min_count: float = 500.0,
    tolerance: float = 1e-5,
) -> torch.Tensor:
    """Return the transform of highest likelihood for :func:`~.adapt.apply_affine`.

    Args:
        stats: Statistics of the speaker.
        iters: Most sweeps over all rows.
        min_count: With fewer frames the identity is returned.
        tolerance: A sweep that gains less per frame is the last.

    Returns:
        ``(D, D + 1)`` float64; the identity also where the frames do not determine a transform.

    Source:
        Gales (1998), "Maximum likelihood linear transformations for HMM-based speech
        recognition", row update of the constrained transform.
    """
    dim = len(stats.linear)
    identity = np.eye(dim, dim + 1)
    if stats.count < min_count or not invertible(stats.quadratic):
        return torch.from_numpy(identity)
    inverses = np.linalg.inv(stats.quadratic)
    matrix = identity.copy()
    previous = fmllr_objective(stats, matrix)
    for _ in range(iters):
        _sweep(stats, inverses, matrix)
        objective = fmllr_objective(stats, matrix)
        gain, previous = objective - previous, objective
        if gain < tolerance:
            break
    return torch.from_numpy(matrix)


def _sweep(stats: FmllrStats, inverses: np.ndarray, matrix: np.ndarray) -> None:
    """Set each row of ``matrix (D, D + 1)`` to its optimum given the others, in place."""
    dim = len(matrix)
    square = matrix[:, :dim].copy()
    inverse = np.linalg.inv(square)
    for d in range(dim):
        cofactors = np.append(inverse[:, d], 0.0)  # of row d, up to a factor
        p = inverses[d] @ cofactors
        first, second = cofactors @ p, p @ stats.linear[d]
        # The optimum is G^-1 (a p + k) with a a root of first a^2 + second a = count.
        root = np.sqrt(second**2 + 4 * first * stats.count)
        roots = np.array([-second + root, -second - root]) / (2 * first)
        value = stats.count * np.log(np.abs(roots * first + second)) - roots**2 * first / 2
        matrix[d] = roots[value.argmax()] * p + inverses[d] @ stats.linear[d]
        replace_row(square, inverse, d, matrix[d, :dim])
