# SPDX-License-Identifier: Apache-2.0
"""What linear feature transforms share: second-order statistics, row updates, application.

Semi-tied covariances (:mod:`.mllt`) and constrained MLLR (:mod:`.fmllr`) both maximise
``count log|det A|`` minus quadratic forms of the rows of A, one row after the other.
"""

import operator
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch

from espnet_ext.align.formats.arrays import load_arrays, save_arrays
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import posteriors, runs_by_pdf

BLOCK_FRAMES = 1024  # times D^2 / 2 products of two dimensions each: a few MB


def apply_affine(x: torch.Tensor, matrix: torch.Tensor) -> torch.Tensor:
    """Return ``A x + b`` of frames.

    Args:
        x: ``(N, D)`` frames.
        matrix: ``(E, D)``, A alone, or ``(E, D + 1)``, A and b.

    Returns:
        ``(N, E)`` of the type and on the device of ``x``.
    """
    matrix, dim = torch.as_tensor(matrix).to(x), x.shape[1]
    if matrix.shape[1] == dim:
        return x @ matrix.T
    return torch.addmm(matrix[:, dim], x, matrix[:, :dim].T)


class Sums:
    """Base of dataclasses whose fields are sums over frames, arrays or numbers: shards add up."""

    def __iadd__(self, other: Self) -> Self:
        for f in fields(self):
            setattr(self, f.name, operator.iadd(getattr(self, f.name), getattr(other, f.name)))
        return self

    def save(self, path: Path | str) -> None:
        """Write to an npz file, atomically."""
        arrays = {f.name: np.asarray(getattr(self, f.name)) for f in fields(self)}
        save_arrays(path, arrays, durable=False)

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        arrays = load_arrays(path, tuple(f.name for f in fields(cls)))
        return cls(**{k: a if a.ndim else float(a) for k, a in arrays.items()})


class WeightedFrames(NamedTuple):
    """Frames with what the Gaussians of their pdf expect of them; all ``(n, D)``."""

    x: torch.Tensor  # around the model's centre
    precision: torch.Tensor  # sum_g post_g / v_g
    target: torch.Tensor  # sum_g post_g m_g / v_g


def weighted_frames(
    gmm: Gmm, x: torch.Tensor, pdfs: torch.Tensor, transform: torch.Tensor | None = None
) -> Iterator[WeightedFrames]:
    """Yield all frames in blocks of at most BLOCK_FRAMES.

    Args:
        gmm: The model.
        x: ``(N, D)`` frames.
        pdfs: ``(N,)`` pdf of each frame.
        transform: ``(D, D + 1)`` applied before posteriors are computed; the frames yielded
            are without it.
    """
    x = torch.as_tensor(x, dtype=torch.float32, device=gmm.device)
    inverse = 1 / gmm.variances
    both, offsets = torch.cat([inverse, gmm.means * inverse], 1), gmm.offsets.tolist()
    order_pdfs = torch.as_tensor(pdfs, device=gmm.device).long()
    for frames, runs in runs_by_pdf(order_pdfs, gmm.num_pdfs):
        block = x[frames]
        seen = block if transform is None else apply_affine(block, transform)
        expanded, weights = gmm.expand(seen), both.new_empty(len(block), both.shape[1])
        for pdf, first, end in runs:
            own = slice(offsets[pdf], offsets[pdf + 1])
            post, _ = posteriors(expanded[first:end], gmm.rows[own])
            torch.mm(post, both[own], out=weights[first:end])
        block = block - gmm.centre
        for part in zip(
            block.split(BLOCK_FRAMES),
            *(w.split(BLOCK_FRAMES) for w in weights.split(gmm.dim, 1)),
            strict=True,
        ):
            yield WeightedFrames(*part)


def packed_products(x: torch.Tensor) -> torch.Tensor:
    """Return ``x_i x_j`` for ``i <= j`` of frames ``(n, D)``: ``(n, D (D + 1) / 2)``."""
    i, j = torch.triu_indices(x.shape[1], x.shape[1], device=x.device)
    return x[:, i] * x[:, j]


def unpack_symmetric(packed: np.ndarray, dim: int) -> np.ndarray:
    """Return ``(..., dim, dim)`` of upper triangles ``(..., dim (dim + 1) / 2)`` in row order."""
    full = np.zeros((*packed.shape[:-1], dim, dim))
    i, j = np.triu_indices(dim)
    full[..., i, j] = packed
    full[..., j, i] = packed
    return full


def invertible(matrices: np.ndarray, least: float = 1e-7) -> bool:
    """Tell whether symmetric ``(..., D, D)`` are positive definite by more than rounding.

    Args:
        matrices: Second moments.
        least: Eigenvalue that each must exceed once scaled to a diagonal of ones; the default
            fits sums in float32.
    """
    diagonal = np.diagonal(matrices, axis1=-2, axis2=-1)
    if not (np.isfinite(matrices).all() and (diagonal > 0).all()):
        return False
    scale = np.sqrt(diagonal)
    scaled = matrices / (scale[..., :, None] * scale[..., None, :])
    try:
        np.linalg.cholesky(scaled - least * np.eye(matrices.shape[-1]))
    except np.linalg.LinAlgError:
        return False
    return True


def replace_row(matrix: np.ndarray, inverse: np.ndarray, row: int, new: np.ndarray) -> None:
    """Set a row of ``matrix (D, D)`` and correct ``inverse`` in place (Sherman and Morrison)."""
    column = inverse[:, row].copy()
    change = (new - matrix[row]) @ inverse
    inverse -= np.outer(column, change / (1 + change[row]))
    matrix[row] = new
