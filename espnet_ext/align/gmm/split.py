# SPDX-License-Identifier: Apache-2.0
"""Growing Gaussian mixtures by splitting, with Kaldi's power rule."""

import heapq
from typing import TYPE_CHECKING

import numpy as np
import torch

from espnet_ext.errors import DataError

if TYPE_CHECKING:
    from espnet_ext.align.gmm.model import Gmm


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


def split_mixtures(
    gmm: "Gmm",
    target: int,
    occ: torch.Tensor,
    power: float,
    perturb: float,
    min_count: float,
    seed: int,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return offsets, weights, means and variances of a model of about ``target`` Gaussians.

    The heaviest Gaussian of a pdf becomes two of half its weight, their means apart by
    ``perturb`` standard deviations times a normal random vector in both directions. No pdf
    shrinks, so there may be more than ``target`` if the shares have changed, and fewer where
    ``min_count`` forbids. The same seed gives the same bits on any device.

    Args:
        gmm: The model to split.
        target: Gaussians in all.
        occ: ``(K,)`` frames of each pdf.
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
    return torch.from_numpy(start), *parts


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
