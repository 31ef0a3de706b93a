# SPDX-License-Identifier: Apache-2.0
r"""Masked prediction of k-means classes, the first iteration of HuBERT (arXiv 2106.07447).

All is as in :mod:`~espnet_ext.bl_just.best_rq_loss` but the classes: the input frames v ``(s F,)``
under an encoder frame, normalised per utterance, get that of the nearest centre::

    y = argmin_k || v - c_k ||^2

The centres are fitted once, before the first update, to a sample of the unlabelled utterances; they
are a part of the model and do not move afterwards. HuBERT clusters cepstra with their differences;
here it is the features that the encoder reads (benchmarks/bl_just_targets.py compares both).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from espnet_ext.bl_just.best_rq_loss import BestRqLoss
from espnet_ext.bl_just.unsup_base import inside
from espnet_ext.errors import DataError, UsageError


class NearestCentre(nn.Module):
    """Classes of vectors by the nearest of some centres, which :meth:`fit` finds.

    Args:
        size: Of a vector.
        codes: Number of centres.
        seed: Of the choice of the first ones.
    """

    centres: Tensor
    fits: Tensor

    def __init__(self, size: int, codes: int, seed: int = 0):
        super().__init__()
        self.seed = seed
        self.register_buffer("centres", torch.zeros(codes, size))
        self.register_buffer("fits", torch.zeros((), dtype=torch.int64))  # 0: no centres yet

    def fit(self, vectors: Tensor) -> None:
        """Find the centres by mini-batch k-means.

        Args:
            vectors: ``(M, size)``.

        Raises:
            DataError: There are fewer different vectors than centres.
        """
        from sklearn.cluster import MiniBatchKMeans

        codes, data = len(self.centres), vectors.cpu().numpy()
        if len(vectors.unique(dim=0)) < codes:
            raise DataError(
                f"{len(vectors)} frames cannot be put into {codes} classes",
                "unsup_loss: kmeans, codes",
                "fewer classes, or more unlabelled speech",
            )
        found = MiniBatchKMeans(
            codes, random_state=self.seed, n_init=3, batch_size=4096, compute_labels=False
        ).fit(data)
        self.centres.copy_(torch.from_numpy(found.cluster_centers_))
        self.fits += 1

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """Return the classes ``(Q,)`` of ``vectors (Q, size)``."""
        with torch.autocast(vectors.device.type, enabled=False):
            vectors = vectors.to(self.centres.dtype)
            # |v|^2 is the same for all centres.
            return (vectors @ self.centres.T - self.centres.square().sum(-1) / 2).argmax(-1)


class KmeansLoss(BestRqLoss):
    """The loss with its softmax layer; arguments as in :class:`UnsupLoss`, statistics as BEST-RQ.

    It is of use after :meth:`fit` alone, or with the weights of one that was fitted.
    """

    def make_quantiser(self, size: int) -> NearestCentre:
        return NearestCentre(size, self.conf.codes, self.conf.seed)

    @property
    def utterances_to_fit(self) -> int:
        """See :class:`UnsupLoss`."""
        return 0 if int(self.quantiser.fits) else self.conf.utterances

    @torch.no_grad()
    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> str:
        """Fit the centres to features; see :meth:`UnsupLoss.fit`."""
        vectors = []
        for x, lengths in batches:
            lengths = lengths.to(x.device)
            whole = inside(lengths // self.stride, int(lengths.max()) // self.stride)
            vectors.append(self.vectors(x, lengths, whole).cpu())
        self.quantiser.fit(torch.cat(vectors))
        return f"k-means: {self.conf.codes} classes of {sum(map(len, vectors)):,} frames"

    def loss(self, encoder, x: Tensor, lengths: Tensor) -> tuple[Tensor, dict[str, Tensor | float]]:
        """See :meth:`BestRqLoss.loss`."""
        if "fit" not in self._checked and self.utterances_to_fit:
            how = "call fit() with features of the unlabelled speech first"
            raise UsageError("the k-means classes have no centres yet", "unsup_loss: kmeans", how)
        self._checked.add("fit")  # once, as the device is waited for
        return super().loss(encoder, x, lengths)
