# SPDX-License-Identifier: Apache-2.0
"""Gaussian mixtures with diagonal covariances for all tied states, likelihoods as products.

log w_g N(x; m_g, v_g) = [1, x, x^2] . [log w_g - 1/2 (D log 2 pi + sum log v_g + m_g^2 / v_g),
                                        m_g / v_g, -1 / (2 v_g)]
"""

import math
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from espnet_ext.align.formats.arrays import load_arrays, save_arrays
from espnet_ext.errors import DataError

CHUNK_VALUES = {"cpu": 1 << 20}  # component scores at once: 4 MB stay in the cache
CHUNK_VALUES_GPU = 1 << 26
VAR_FLOOR = 1e-3  # Kaldi's min_variance


def floor_variances(var: torch.Tensor, floor: float | torch.Tensor) -> torch.Tensor:
    """Return ``var (..., D)`` raised to ``floor``, a positive number or ``(D,)``."""
    return torch.maximum(var, torch.as_tensor(floor, dtype=var.dtype, device=var.device))


class Gmm:
    """Mixtures of K pdfs with G Gaussians in all, of D dimensions; not to be changed in place.

    Args:
        offsets: ``(K + 1,)`` int64; pdf k has the Gaussians ``[offsets[k], offsets[k + 1])``,
            at least one.
        weights: ``(G,)`` of sum 1 within each pdf.
        means: ``(G, D)``.
        variances: ``(G, D)``, all positive.

    Raises:
        DataError: The shapes do not fit together, a pdf has no Gaussian, or a number is not finite.
    """

    def __init__(
        self,
        offsets: torch.Tensor,
        weights: torch.Tensor,
        means: torch.Tensor,
        variances: torch.Tensor,
    ):
        self.offsets = offsets.to("cpu", torch.int64)
        self.weights, self.means, self.variances = (
            t.to(means.device, torch.float32).contiguous() for t in (weights, means, variances)
        )
        gauss, shape = len(weights), means.shape
        fits = means.ndim == 2 and shape == variances.shape and shape[0] == gauss
        ends = len(offsets) > 1 and self.offsets[0] == 0 and self.offsets[-1] == gauss
        if not (fits and ends and bool((self.offsets.diff() > 0).all())):
            raise DataError("the arrays of the mixture model do not fit together", "GMM")
        parts = (self.weights, self.means, self.variances)
        if not all(bool(t.isfinite().all()) for t in parts):
            raise DataError(
                "the mixture model has numbers that are not finite", "GMM",
                "delete the work folder of the pass and train again; if it comes back, the "
                "features are not finite",
            )  # fmt: skip

    @classmethod
    def single(cls, mean: torch.Tensor, var: torch.Tensor, num_pdfs: int) -> "Gmm":
        """Make K equal pdfs of one Gaussian from a mean ``(D,)`` and a variance ``(D,)``."""
        mean, var = torch.as_tensor(mean), torch.as_tensor(var)
        return cls(
            torch.arange(num_pdfs + 1), torch.ones(num_pdfs),
            mean.repeat(num_pdfs, 1), var.repeat(num_pdfs, 1),
        )  # fmt: skip

    @classmethod
    def from_stats(
        cls,
        occ: torch.Tensor,
        sx: torch.Tensor,
        sxx: torch.Tensor,
        var_floor: float | torch.Tensor = VAR_FLOOR,
    ) -> "Gmm":
        """Make one Gaussian per pdf; pdfs without frames take the moments of all frames.

        Args:
            occ: ``(K,)`` counts of frames.
            sx: ``(K, D)`` sums of frames.
            sxx: ``(K, D)`` sums of squares.
            var_floor: Least variance, a number or ``(D,)``.

        Raises:
            DataError: There is no frame at all.
        """
        occ, sx, sxx = (torch.as_tensor(t, dtype=torch.float64) for t in (occ, sx, sxx))
        if not occ.sum() > 0:
            raise DataError("there are no frames to estimate Gaussians from", "GMM")
        seen = (occ > 0)[:, None]
        count = torch.where(seen, occ[:, None], occ.sum())
        mean = torch.where(seen, sx, sx.sum(0)) / count
        var = floor_variances(torch.where(seen, sxx, sxx.sum(0)) / count - mean**2, var_floor)
        return cls(torch.arange(len(occ) + 1), torch.ones(len(occ)), mean, var)

    @property
    def num_pdfs(self) -> int:
        """K."""
        return len(self.offsets) - 1

    @property
    def num_gauss(self) -> int:
        """G."""
        return len(self.weights)

    @property
    def dim(self) -> int:
        """D."""
        return self.means.shape[1]

    @property
    def device(self) -> torch.device:
        """Where likelihoods are computed."""
        return self.means.device

    @cached_property
    def centre(self) -> torch.Tensor:
        """``(D,)`` mean of the means; around it float32 squares lose least."""
        return self.means.mean(0)

    @cached_property
    def rows(self) -> torch.Tensor:
        """``(G, 2D + 1)``: the product with :meth:`expand` gives log w N(x)."""
        mean = self.means.double() - self.centre.double()
        inverse = 1 / self.variances.double()
        const = (mean**2 * inverse - inverse.log()).sum(1) + self.dim * math.log(2 * math.pi)
        const = self.weights.double().log() - const / 2
        rows = torch.cat([const[:, None], mean * inverse, -inverse / 2], 1)
        return rows.float()

    @cached_property
    def _numpy_offsets(self) -> np.ndarray:
        return self.offsets.numpy()

    def expand(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``[1, x, x^2]`` around the centre, ``(N, 2D + 1)``, of frames ``(N, D)``."""
        x = x - self.centre
        return torch.cat([x.new_ones(len(x), 1), x, x * x], 1)

    def loglik(self, x: torch.Tensor, pdfs: torch.Tensor, how: str = "max") -> torch.Tensor:
        """Return log-likelihoods of some pdfs.

        Args:
            x: ``(T, D)`` frames.
            pdfs: ``(U,)`` pdf ids.
            how: ``max``: of the best Gaussian, weight included (4 times faster and enough
                to align); ``sum``: of the mixture.

        Returns:
            ``(T, U)`` natural logarithms, float32.
        """
        reduce = {"max": torch.amax, "sum": torch.logsumexp}[how]
        x = torch.as_tensor(x, dtype=torch.float32, device=self.device)
        columns, groups, place = self._layout(np.asarray(torch.as_tensor(pdfs).cpu()))
        rows = self.rows[columns.to(self.device)]
        place = place.to(self.device)
        values = CHUNK_VALUES.get(self.device.type, CHUNK_VALUES_GPU)
        chunk = max(64, values // max(1, len(columns)))
        out = torch.empty(len(x), len(place), device=self.device)
        for start in range(0, len(x), chunk):
            scores = rows @ self.expand(x[start : start + chunk]).T
            parts = [
                reduce(part.view(comps, pdfs_, -1), 0)
                for part, (comps, pdfs_) in zip(
                    scores.split([c * n for c, n in groups]), groups, strict=True
                )
            ]
            if parts:
                out[start : start + chunk] = torch.cat(parts)[place].T
        return out

    def _layout(self, pdfs: np.ndarray) -> tuple[torch.Tensor, list[tuple[int, int]], torch.Tensor]:
        """Order Gaussians so that pdfs of equal size are one block ``(components, pdfs)``.

        No Gaussian is padded, and the reduction runs along whole rows of frames.

        Returns:
            Gaussians in order, ``(components, pdfs)`` of each block, and for each of ``pdfs``
            its row in the concatenated blocks.
        """
        first = self._numpy_offsets[pdfs]
        sizes = self._numpy_offsets[pdfs + 1] - first
        order = np.argsort(sizes, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        counts = np.bincount(sizes)
        groups = [(int(c), int(counts[c])) for c in np.flatnonzero(counts)]
        blocks, start = [], 0
        for comps, n in groups:
            members = first[order[start : start + n]]
            blocks.append((np.arange(comps)[:, None] + members).ravel())
            start += n
        columns = np.concatenate(blocks) if blocks else np.zeros(0, np.int64)
        return torch.from_numpy(columns), groups, torch.from_numpy(place)

    def to(self, device: torch.device | str) -> "Gmm":
        """Return the model with its Gaussians on another device."""
        moved = (t.to(device) for t in (self.weights, self.means, self.variances))
        return Gmm(self.offsets, *moved)

    def save(self, path: Path | str) -> None:
        """Write to an npz file, atomically."""
        names = ("offsets", "weights", "means", "variances")
        save_arrays(path, {name: getattr(self, name).cpu().numpy() for name in names})

    @classmethod
    def load(cls, path: Path | str) -> "Gmm":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: The file is missing or damaged.
        """
        arrays = load_arrays(path, ("offsets", "weights", "means", "variances"))
        return cls(*(torch.from_numpy(a) for a in arrays.values()))
