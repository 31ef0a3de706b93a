# SPDX-License-Identifier: Apache-2.0
"""Maximisation step of diagonal-covariance Gaussian mixtures, with Kaldi's rules for few data."""

from typing import TYPE_CHECKING

import torch

from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.errors import DataError

if TYPE_CHECKING:
    from espnet_ext.align.gmm.model import Gmm

MIN_OCC = 10.0  # Kaldi's min_gaussian_occupancy
MIN_WEIGHT = 1e-5  # Kaldi's min_gaussian_weight
VAR_FLOOR = 1e-3  # Kaldi's min_variance


def floor_variances(var: torch.Tensor, floor: float | torch.Tensor) -> torch.Tensor:
    """Return ``var (..., D)`` raised to ``floor``, a positive number or ``(D,)``."""
    return torch.maximum(var, torch.as_tensor(floor, dtype=var.dtype, device=var.device))


def update_mixtures(
    gmm: "Gmm", stats: GmmStats, min_occ: float, var_floor: float | torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return offsets, weights, means and variances of the maximum-likelihood estimate.

    A Gaussian of at most ``min_occ`` frames or of a weight of at most 1e-5 is removed. If that
    leaves a pdf without any, its Gaussian of most frames stays as it was, with weight 1. A pdf
    without data keeps all of its parameters.

    Args:
        gmm: The model that ``stats`` were accumulated with.
        stats: Statistics of all frames.
        min_occ: Fewest frames of a Gaussian.
        var_floor: Least variance, a number or ``(D,)``.

    Raises:
        DataError: The statistics are of another model.
    """
    if stats.sx.shape != gmm.means.shape:
        raise DataError(
            f"statistics of {tuple(stats.sx.shape)}, a model of {tuple(gmm.means.shape)}",
            "GMM update", "accumulate with the model to be updated",
        )  # fmt: skip
    occ, sx, sxx = (t.cpu() for t in (stats.occ, stats.sx, stats.sxx))
    pdf_of = torch.repeat_interleave(torch.arange(gmm.num_pdfs), gmm.offsets.diff())

    def per_pdf(values: torch.Tensor) -> torch.Tensor:
        """Sum over the Gaussians of each pdf, at each Gaussian."""
        total = torch.zeros(gmm.num_pdfs, dtype=torch.float64)
        return total.index_add_(0, pdf_of, values.double())[pdf_of]

    pdf_occ = per_pdf(occ)
    no_data = pdf_occ <= 0
    prob = torch.where(no_data, gmm.weights.cpu().double(), occ / pdf_occ.clamp(min=1e-300))
    good = (occ > min_occ) & (prob > MIN_WEIGHT) & ~no_data
    last = (per_pdf(good) == 0) & ~no_data & _heaviest(occ, pdf_of, gmm.num_pdfs)
    mean = sx / occ.clamp(min=1e-10)[:, None]
    var = floor_variances(sxx / occ.clamp(min=1e-10)[:, None] - mean**2, var_floor)
    mean = torch.where(good[:, None], mean, gmm.means.cpu().double())
    var = torch.where(good[:, None], var, gmm.variances.cpu().double())
    keep = good | last | no_data
    weights = torch.where(keep, prob, 0.0)
    weights = weights / per_pdf(weights)
    sizes = torch.bincount(pdf_of[keep], minlength=gmm.num_pdfs)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    return offsets, *(t[keep].to(gmm.device) for t in (weights, mean, var))


def _heaviest(occ: torch.Tensor, pdf_of: torch.Tensor, num_pdfs: int) -> torch.Tensor:
    """Return ``(G,)`` bool: the first Gaussian of most frames of each pdf."""
    best = torch.full((num_pdfs,), -1.0, dtype=occ.dtype).scatter_reduce_(0, pdf_of, occ, "amax")
    candidates = torch.nonzero(occ == best[pdf_of])[:, 0]
    first = torch.full((num_pdfs,), len(occ)).scatter_reduce_(
        0, pdf_of[candidates], candidates, "amin"
    )
    mask = torch.zeros(len(occ), dtype=torch.bool)
    mask[first] = True
    return mask
