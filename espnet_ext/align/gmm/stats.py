# SPDX-License-Identifier: Apache-2.0
"""Expectation step of diagonal-covariance Gaussian mixtures: sufficient statistics of frames."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from espnet_ext.align.formats.arrays import load_arrays, save_arrays
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.errors import DataError

CHUNK_FRAMES = 8192  # bounds the temporaries, and the rounding of the float32 sums


@dataclass
class GmmStats:
    """Sufficient statistics of G Gaussians; D dimensions, float64.

    Args:
        occ: ``(G,)`` soft counts of frames.
        sx: ``(G, D)`` weighted sums of the frames.
        sxx: ``(G, D)`` weighted sums of their squares.
        loglik: Sum over the frames of the log-likelihood of their pdf (natural logarithm).
        frames: Number of frames.
    """

    occ: torch.Tensor
    sx: torch.Tensor
    sxx: torch.Tensor
    loglik: float = 0.0
    frames: int = 0

    @classmethod
    def zeros(cls, num_gauss: int, dim: int) -> "GmmStats":
        """Return empty statistics, the start of a sum."""
        zeros = torch.zeros(num_gauss, 2 * dim + 1, dtype=torch.float64)
        return cls(zeros[:, 0], zeros[:, 1 : dim + 1], zeros[:, dim + 1 :])

    def __iadd__(self, other: "GmmStats") -> "GmmStats":
        if self.sx.shape != other.sx.shape:
            raise DataError(
                f"statistics of {tuple(self.sx.shape)} and {tuple(other.sx.shape)} do not add up",
                "GMM statistics", "accumulate all shards with the same model",
            )  # fmt: skip
        for mine, its in zip(
            (self.occ, self.sx, self.sxx), (other.occ, other.sx, other.sxx), strict=True
        ):
            mine += its.to(mine.device)
        self.loglik += other.loglik
        self.frames += other.frames
        return self

    def __add__(self, other: "GmmStats") -> "GmmStats":
        total = GmmStats.zeros(*self.sx.shape)
        total += self
        total += other
        return total

    def save(self, path: Path | str) -> None:
        """Write to an npz file, atomically."""
        arrays = {k: getattr(self, k).cpu().numpy() for k in ("occ", "sx", "sxx")}
        arrays |= {"total": np.array([self.loglik, self.frames])}
        save_arrays(path, arrays, durable=False)

    @classmethod
    def load(cls, path: Path | str) -> "GmmStats":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        a = load_arrays(path, ("occ", "sx", "sxx", "total"))
        tensors = (torch.from_numpy(a[k]) for k in ("occ", "sx", "sxx"))
        return cls(*tensors, float(a["total"][0]), int(a["total"][1]))


def posteriors(expanded: torch.Tensor, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return posteriors of the Gaussians of one pdf.

    Args:
        expanded: ``(N, 2D + 1)`` of :meth:`Gmm.expand`.
        rows: ``(C, 2D + 1)`` of :attr:`Gmm.rows`, the C Gaussians of the pdf.

    Returns:
        Posteriors ``(N, C)`` that sum to 1 per frame, and log-likelihoods ``(N, 1)`` of the pdf.
    """
    scores = expanded @ rows.T
    best = scores.amax(1, keepdim=True)
    scores = scores.sub_(best).exp_()
    total = scores.sum(1, keepdim=True)
    return scores.div_(total), total.log_().add_(best)


def runs_by_pdf(pdfs: torch.Tensor, num_pdfs: int) -> Iterator[tuple[torch.Tensor, list]]:
    """Yield blocks of frames in the order of their pdfs.

    Yields:
        Indices ``(n,)`` of at most CHUNK_FRAMES frames, and ``(pdf, first, end)`` of each run of
        one pdf in the block, ascending, half-open.
    """
    ends = torch.bincount(pdfs, minlength=num_pdfs).cumsum(0).cpu().numpy()
    order = torch.argsort(pdfs, stable=True)
    for start in range(0, len(order), CHUNK_FRAMES):
        stop = min(start + CHUNK_FRAMES, len(order))
        first, last = np.searchsorted(ends, [start, stop - 1], side="right")
        marks = [0, *(ends[first:last] - start).tolist(), stop - start]
        runs = zip(range(first, last + 1), marks, marks[1:], strict=False)
        yield order[start:stop], [run for run in runs if run[1] < run[2]]


def accumulate(gmm: Gmm, x: torch.Tensor, pdfs: torch.Tensor) -> GmmStats:
    """Return statistics with full posteriors within the pdf of each frame.

    One product per pdf: pass many frames at once (a shard, not an utterance).

    Args:
        gmm: The model, of D dimensions.
        x: ``(N, D)`` frames.
        pdfs: ``(N,)`` pdf of each frame.

    Raises:
        DataError: A pdf does not exist or the lengths differ.
    """
    x = torch.as_tensor(x, dtype=torch.float32, device=gmm.device)
    pdfs = torch.as_tensor(pdfs, device=gmm.device).long()
    if len(x) != len(pdfs) or (
        len(pdfs) and not 0 <= int(pdfs.min()) <= int(pdfs.max()) < gmm.num_pdfs
    ):
        raise DataError("alignment and features or model do not fit together", "GMM statistics")
    rows, offsets = gmm.rows, gmm.offsets.tolist()
    sums = torch.zeros(rows.shape, dtype=torch.float64, device=rows.device)
    loglik = torch.zeros((), dtype=torch.float64, device=rows.device)
    for frames, runs in runs_by_pdf(pdfs, gmm.num_pdfs):
        expanded = gmm.expand(x[frames])
        low, high = offsets[runs[0][0]], offsets[runs[-1][0] + 1]
        block = torch.zeros(high - low, rows.shape[1], device=rows.device)
        scores = torch.empty(len(frames), 1, device=rows.device)
        for pdf, first, end in runs:
            a, b = offsets[pdf], offsets[pdf + 1]
            part = expanded[first:end]
            post, scores[first:end] = posteriors(part, rows[a:b])
            torch.mm(post.T, part, out=block[a - low : b - low])
        sums[low:high] += block
        loglik += scores.double().sum()
    occ, sx, sxx = sums[:, 0], sums[:, 1 : gmm.dim + 1], sums[:, gmm.dim + 1 :]
    # Sums are taken around the centre, where float32 loses least, and moved back in float64.
    c = gmm.centre.double()
    sxx += 2 * c * sx + occ[:, None] * c**2
    sx += occ[:, None] * c
    return GmmStats(occ, sx, sxx, float(loglik), len(pdfs))
