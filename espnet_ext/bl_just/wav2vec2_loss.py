# SPDX-License-Identifier: Apache-2.0
r"""The wav2vec 2.0 loss on features: masked frames against their quantised input.

Spans of the input features are replaced by a learned vector. For a masked encoder frame t with
projected vector c_t, quantised unmasked input q_t and K distractors q~ of other masked frames of
its utterance::

    L_t = -log exp(cos(c_t, q_t) / kappa) / sum_{q in {q_t} + q~} exp(cos(c_t, q) / kappa)
    g = mean_t L_t + alpha diversity

A distractor with the codes of q_t is no negative and drops out. Source: arXiv 2006.11477; there q
comes from a convolutional encoder of the samples, here from the features under an encoder frame.
Letters: M masked frames of an utterance at most, C code_dim; the rest as in unsup_base.py.
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
from espnet_ext.bl_just.quantiser import GumbelQuantiser, code_perplexity, diversity_loss
from espnet_ext.bl_just.unsup_base import Encoder, UnsupLoss, full_precision, inside
from espnet_ext.bl_just.unsup_conf import Wav2vec2Conf, section_of


class Wav2vec2Loss(UnsupLoss):
    """The loss with its mask vector, quantiser and projections; arguments as :class:`UnsupLoss`.

    Statistics: ``acc``, the share of queries nearer to their own target than to any distractor;
    ``contrastive`` and ``diversity``, the terms of the loss; ``perplexity``, the mean number of
    entries used of a codebook; ``masked``, the share of encoder frames that are queries.
    """

    stat_names = ("acc", "contrastive", "diversity", "perplexity", "masked")

    def __init__(
        self,
        feature_dim: int,
        hidden_dim: int,
        conf: Wav2vec2Conf,
        frame_shift_s: float = 0.01,
        stride: int | None = None,
    ):
        super().__init__(feature_dim, hidden_dim, conf, frame_shift_s, stride)
        self.conf = conf
        span = self.frames(conf.mask_length_s)
        check_span(span, self.stride, section_of(conf))
        self.span = span - span % self.stride
        self.mask_vector = nn.Parameter(0.1 * torch.randn(feature_dim))
        self.quantiser = GumbelQuantiser(
            self.stride * feature_dim,
            conf.codebooks,
            conf.codes,
            conf.code_dim,
            conf.gumbel_temperature,
        )
        self.project_target = nn.Linear(conf.code_dim, conf.project_dim)
        self.project_context = nn.Linear(hidden_dim, conf.project_dim)

    @property
    def min_frames(self) -> int:
        """Input frames of a span and as much context."""
        return 2 * self.frames(self.conf.mask_length_s)

    def loss(
        self, encoder: Encoder, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss and its statistics; arguments as in :meth:`UnsupLoss.forward`."""
        mask = draw_mask(lengths, x.shape[1], self.conf.mask_prob, self.span, self.stride)
        hidden = torch.where(mask.unsqueeze(-1), self.mask_vector.to(x.dtype), x)
        h, h_lengths = self.encode(encoder, hidden, lengths)
        self.check_stride(lengths, h_lengths)
        queries = masked_frames(mask, lengths, h_lengths, self.stride)
        queries = queries & (queries.sum(1, keepdim=True) > 1)  # one alone has no distractor
        if not queries.any():
            return self.nothing(x)
        features = normalised(full_precision(x.detach()), lengths)
        stacked = stacked_frames(features, lengths, queries.shape[1], self.stride)
        with torch.autocast(x.device.type, enabled=False):
            quantised, codes, shares = self.quantiser(stacked[queries])
            context = self.project_context(h[:, : queries.shape[1]][queries])
            logits = contrastive_logits(
                context, self.project_target(quantised), codes, queries.sum(1), self.conf
            )
            contrastive = (logits.logsumexp(-1) - logits[:, 0]).mean()
            diversity = diversity_loss(shares)
            loss = contrastive + self.conf.diversity_weight * diversity
        stats = {
            # The target is the first column: of equal logits it would always be the best.
            "acc": (logits[:, 0] > logits[:, 1:].amax(-1)).float().mean(),
            "contrastive": contrastive,
            "diversity": diversity,
            "perplexity": code_perplexity(shares).mean(),
            "masked": queries.sum() / inside(h_lengths, queries.shape[1]).sum(),
            "queries": queries.sum(),
        }
        return loss, stats


def contrastive_logits(
    context: Tensor, targets: Tensor, codes: Tensor, counts: Tensor, conf: Wav2vec2Conf
) -> Tensor:
    """Return cosines over kappa of each query with its target and its distractors.

    Args:
        context: ``(Q, P)``, utterance by utterance.
        targets: ``(Q, P)``.
        codes: ``(Q, G)`` entries of the targets.
        counts: ``(N,)`` queries of each utterance, sum Q.
        conf: ``negatives``, ``temperature``.

    Returns:
        ``(Q, 1 + K)``, the target first; -inf for distractors with the target's codes.
    """
    frames = int(counts.max())
    others = draw_distractors(counts, frames, conf.negatives)
    valid = inside(counts, frames)
    context, targets, codes = (pack(v, valid) for v in (context, targets, codes))
    # All products within an utterance take less memory than K vectors for each query.
    cosines = functional.normalize(context, dim=-1) @ functional.normalize(targets, dim=-1).mT
    logits = cosines / conf.temperature
    same = (codes.unsqueeze(2) == codes.unsqueeze(1)).all(-1)
    negatives = logits.masked_fill(same, float("-inf")).gather(2, others)
    own = logits.diagonal(dim1=1, dim2=2).unsqueeze(-1)
    return torch.cat([own, negatives], -1)[valid]


def draw_distractors(counts: Tensor, frames: int, number: int) -> Tensor:
    """Draw distractors uniformly among the other queries of the same utterance.

    Args:
        counts: ``(N,)`` queries of each utterance, none of them 1.
        frames: M, the greatest count.
        number: K.

    Returns:
        ``(N, M, K)`` places in ``[0, count)``, never the query's own.
    """
    rest = (counts - 1).clamp(min=1)[:, None, None]
    draws = torch.rand(len(counts), frames, number, device=counts.device)
    drawn = (draws * rest).long().minimum(rest - 1)
    drawn = drawn + (drawn >= torch.arange(frames, device=counts.device).unsqueeze(1)).long()
    return drawn.clamp(max=frames - 1)


def pack(rows: Tensor, valid: Tensor) -> Tensor:
    """Return ``rows (Q, P)`` at the places of ``valid (N, M)``, the rest 0: ``(N, M, P)``."""
    packed = rows.new_zeros(*valid.shape, rows.shape[-1])
    packed[valid] = rows
    return packed
