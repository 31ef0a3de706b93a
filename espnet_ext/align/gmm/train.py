# SPDX-License-Identifier: Apache-2.0
"""Maximisation of diagonal-covariance Gaussian mixtures, adapting and growing them.

The rules for few data and for the shares of the states are Kaldi's.
"""

import heapq

import numpy as np
import torch

from espnet_ext.align.gmm.model import VAR_FLOOR, Gmm, floor_variances
from espnet_ext.align.gmm.stats import GmmStats
from espnet_ext.errors import DataError

MIN_OCC = 10.0  # Kaldi's min_gaussian_occupancy
MIN_WEIGHT = 1e-5  # Kaldi's min_gaussian_weight


def pdf_occ(gmm: Gmm, stats: GmmStats) -> torch.Tensor:
    """Return ``(K,)`` frames of each pdf, float64, as :func:`split` wants them."""
    sums = torch.cat([stats.occ.new_zeros(1), stats.occ.cumsum(0)]).cpu()
    return sums[gmm.offsets].diff()


def update(
    gmm: Gmm,
    stats: GmmStats,
    *,
    min_occ: float = MIN_OCC,
    var_floor: float | torch.Tensor = VAR_FLOOR,
) -> Gmm:
    """Return the maximum-likelihood estimate.

    A Gaussian of at most ``min_occ`` frames or of a weight of at most 1e-5 is removed. If that
    leaves a pdf without any, its Gaussian of most frames stays as it was, with weight 1. A pdf
    without data keeps all of its parameters.

    Args:
        gmm: The model that ``stats`` were accumulated with.
        stats: Statistics of all frames.
        min_occ: Fewest frames of a Gaussian.
        var_floor: Least variance, a number or ``(D,)``.

    Raises:
        DataError: The statistics are of another model, or not finite.
    """
    _check_shape(gmm, stats)
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
    return Gmm(offsets, *(t[keep].to(gmm.device) for t in (weights, mean, var)))


def map_update(prior: Gmm, stats: GmmStats, tau: float, var_floor: float = VAR_FLOOR) -> Gmm:
    """Return the maximum a posteriori estimate of means and variances (Gauvain and Lee, 1994).

    The prior counts like ``tau`` frames of each Gaussian, so that one without data stays as it is.
    Weights stay.

    Args:
        prior: The model before adaptation.
        stats: Statistics of all frames, by a model that was adapted from ``prior``.
        tau: Frames that the prior is worth.
        var_floor: Least variance.

    Raises:
        DataError: The statistics are of another model, or not finite.
    """
    _check_shape(prior, stats)
    occ, sx, sxx = (t.cpu() for t in (stats.occ, stats.sx, stats.sxx))
    old_mean, old_var = prior.means.cpu().double(), prior.variances.cpu().double()
    total = (occ + tau)[:, None]
    mean = (sx + tau * old_mean) / total
    var = (sxx + tau * (old_var + old_mean**2)) / total - mean**2
    new = (t.to(prior.device) for t in (mean, floor_variances(var, var_floor)))
    return Gmm(prior.offsets, prior.weights, *new)


def _check_shape(gmm: Gmm, stats: GmmStats) -> None:
    if stats.sx.shape != gmm.means.shape:
        raise DataError(
            f"statistics of {tuple(stats.sx.shape)}, a model of {tuple(gmm.means.shape)}",
            "GMM update", "accumulate with the model to be updated",
        )  # fmt: skip


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


def split_targets(occ: np.ndarray, target: int, power: float, min_count: float) -> np.ndarray:
    """Share out ``target`` Gaussians over pdfs in proportion to ``occ ** power``.

    Args:
        occ: ``(K,)`` frames of each pdf.
        target: Gaussians in all; every pdf has at least one.
        power: 0 shares evenly, 1 by frames.
        min_count: A pdf grows only while each of its Gaussians has more frames than this.

    Returns:
        ``(K,)`` Gaussians of each pdf.
    """
    sizes = np.ones(len(occ), dtype=np.int64)
    left = target - len(occ)
    # The pdf of most (powered) frames per Gaussian comes first, of equal ones the lowest id.
    heap = [(-(float(n) ** power), k) for k, n in enumerate(occ) if n > 0]
    heapq.heapify(heap)
    while left > 0 and heap:
        _, k = heapq.heappop(heap)
        if (sizes[k] + 1) * min_count >= occ[k]:
            continue
        sizes[k] += 1
        left -= 1
        heapq.heappush(heap, (-(float(occ[k]) ** power) / int(sizes[k]), k))
    return sizes


def split(
    gmm: Gmm,
    target: int,
    occ: torch.Tensor,
    *,
    power: float = 0.2,
    perturb: float = 0.01,
    min_count: float = 20.0,
    seed: int = 0,
) -> Gmm:
    """Return a model of about ``target`` Gaussians.

    The heaviest Gaussian of a pdf becomes two of half its weight, their means apart by
    ``perturb`` standard deviations times a normal random vector in both directions. No pdf
    shrinks, so there may be more than ``target`` if the shares have changed, and fewer where
    ``min_count`` forbids. The same seed gives the same bits on any device.

    Args:
        gmm: The model to split.
        target: Gaussians in all.
        occ: ``(K,)`` frames of each pdf, see :func:`pdf_occ`.
        power: Exponent of the frames in the share of a pdf.
        perturb: Distance in standard deviations.
        min_count: Frames that each Gaussian of a pdf that grows must have.
        seed: Of the random vectors.

    Raises:
        DataError: ``occ`` is not of this model.
    """
    frames = torch.as_tensor(occ).double().cpu().numpy()
    if frames.shape != (gmm.num_pdfs,):
        raise DataError(f"{gmm.num_pdfs} pdfs, but counts of shape {frames.shape}", "GMM split")
    rng = np.random.default_rng(seed)
    offsets = gmm.offsets.numpy()
    old = np.diff(offsets)
    sizes = np.maximum(old, split_targets(frames, target, power, min_count))
    start = np.concatenate([[0], np.cumsum(sizes)])
    kept = np.repeat(start[:-1] - offsets[:-1], old) + np.arange(offsets[-1])
    weights = np.zeros(start[-1])
    means, variances = np.zeros((2, start[-1], gmm.dim))
    for new, tensor in ((weights, gmm.weights), (means, gmm.means), (variances, gmm.variances)):
        new[kept] = tensor.cpu().numpy()
    for k in np.flatnonzero(sizes > old):
        own = slice(start[k], start[k + 1])
        _grow(int(old[k]), weights[own], means[own], variances[own], perturb, rng)
    parts = (torch.from_numpy(a).to(gmm.device) for a in (weights, means, variances))
    return Gmm(torch.from_numpy(start), *parts)


def _grow(
    size: int,
    weights: np.ndarray,
    means: np.ndarray,
    variances: np.ndarray,
    perturb: float,
    rng: np.random.Generator,
) -> None:
    """Split the first ``size`` Gaussians of one pdf until the arrays are full, in place."""
    for new in range(size, len(weights)):
        best = int(np.argmax(weights[:new]))
        weights[best] /= 2
        weights[new], variances[new] = weights[best], variances[best]
        step = perturb * np.sqrt(variances[best]) * rng.standard_normal(means.shape[1])
        means[new] = means[best] + step
        means[best] -= step
