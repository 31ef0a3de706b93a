# SPDX-License-Identifier: Apache-2.0
r"""BEST-RQ: masked prediction of the classes of a random-projection quantiser (arXiv 2202.01855).

The input frames v ``(s F,)`` under an encoder frame, normalised per utterance, get the class::

    y = argmin_k || l2norm(A v) - l2norm(c_k) ||

with a random projection A and codebook c that are never trained. Spans of the input are replaced
by noise, and the encoder's vector of each frame with all its input masked predicts y by softmax.
Letters: Q query frames; s input frames per encoder frame; the rest as in unsup_base.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_ext.bl_just.masking import (
    check_span,
    draw_mask,
    masked_frames,
    normalised,
    stacked_frames,
)
from espnet_ext.bl_just.unsup_base import Encoder, UnsupLoss, best_share, full_precision, inside
from espnet_ext.bl_just.unsup_conf import BestRqConf, KmeansConf, section_of


class RandomProjectionQuantiser(nn.Module):
    """Classes of vectors under a fixed random projection and codebook.

    Args:
        size: Of a vector.
        codes: Entries of the codebook.
        code_dim: Size of an entry.
        seed: Of the generator of both, independent of torch's own.
    """

    projection: Tensor
    codebook: Tensor

    def __init__(self, size: int, codes: int, code_dim: int, seed: int = 0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        bound = (6 / (size + code_dim)) ** 0.5
        projection = (2 * torch.rand(code_dim, size, generator=generator) - 1) * bound
        codebook = torch.randn(codes, code_dim, generator=generator)
        self.register_buffer("projection", projection)
        self.register_buffer("codebook", functional.normalize(codebook, dim=-1))

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """Return the classes ``(Q,)`` of ``vectors (Q, size)``."""
        with torch.autocast(vectors.device.type, enabled=False):
            # Of unit vectors the nearest has the greatest product; the length of A v plays no part.
            projected = vectors.to(self.projection.dtype) @ self.projection.T
            return (projected @ self.codebook.T).argmax(-1)


class BestRqLoss(UnsupLoss):
    """The loss with its softmax layer; arguments as in :class:`UnsupLoss`.

    Statistics: ``acc``; ``masked``, the share of encoder frames that are queries; ``codes``, the
    number of different classes among them.
    """

    stat_names = ("acc", "masked", "codes")

    def __init__(
        self,
        feature_dim: int,
        hidden_dim: int,
        conf: BestRqConf | KmeansConf,
        frame_shift_s: float = 0.01,
        stride: int | None = None,
    ):
        super().__init__(feature_dim, hidden_dim, conf, frame_shift_s, stride)
        self.conf = conf
        self.span = self.frames(conf.mask_length_s)
        check_span(self.span, self.stride, section_of(conf))
        self.quantiser = self.make_quantiser(self.stride * feature_dim)
        self.output = nn.Linear(hidden_dim, conf.codes)

    def make_quantiser(self, size: int) -> nn.Module:
        """Return what gives ``(Q, size)`` vectors their classes ``(Q,)``."""
        return RandomProjectionQuantiser(size, self.conf.codes, self.conf.code_dim, self.conf.seed)

    @property
    def min_frames(self) -> int:
        """Input frames of a span and as much context."""
        return 2 * self.span

    def loss(
        self, encoder: Encoder, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss and its statistics; arguments as in :meth:`UnsupLoss.forward`."""
        mask = draw_mask(lengths, x.shape[1], self.conf.mask_prob, self.span)
        noisy = torch.where(mask.unsqueeze(-1), torch.randn_like(x) * self.conf.noise_std, x)
        h, h_lengths = self.encode(encoder, noisy, lengths)
        self.check_stride(lengths, h_lengths)
        queries = masked_frames(mask, lengths, h_lengths, self.stride)
        if not queries.any():
            return self.nothing(x)
        targets = self.targets(x, lengths, queries)
        with torch.autocast(x.device.type, enabled=False):
            logits = self.output(h[:, : queries.shape[1]][queries])
            loss = functional.cross_entropy(logits, targets)
        stats = {
            "acc": best_share(logits, targets),
            "masked": queries.sum() / inside(h_lengths, queries.shape[1]).sum(),
            "codes": len(targets.unique()),
            "queries": queries.sum(),
        }
        return loss, stats

    @torch.no_grad()
    def targets(self, x: Tensor, lengths: Tensor, queries: Tensor) -> Tensor:
        """Return the classes of the encoder frames chosen.

        Args:
            x: ``(N, T, F)`` unmasked features.
            lengths: ``(N,)``.
            queries: ``(N, T')`` bool.

        Returns:
            ``(Q,)`` classes, utterance by utterance.
        """
        return self.quantiser(self.vectors(x, lengths, queries))

    def vectors(self, x: Tensor, lengths: Tensor, queries: Tensor) -> Tensor:
        """Return what has classes, ``(Q, s F)``; arguments as in :meth:`targets`."""
        features = normalised(full_precision(x), lengths)
        return stacked_frames(features, lengths, queries.shape[1], self.stride)[queries]
