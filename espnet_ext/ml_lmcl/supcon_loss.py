# SPDX-License-Identifier: Apache-2.0
r"""The supervised contrastive loss of stage 2: utterances of a class draw together.

With the cosine s, labels y and, where asked for, soft labels p ``(N, C)``, all of them constants::

    w_ij = [y_i = y_j, j != i] + soft_weight <p_i, p_j>
    l_ij = -log( exp(s(h_i, h_j)/tau) / sum_{k != i} exp(s(h_i, h_k)/tau) )

    reduction
    positives    L_c = (1/N) sum_i (sum_{j != i} w_ij l_ij) / (sum_{j != i} w_ij)
    sum          L_c = (1/N) sum_i sum_{j != i} w_ij l_ij

"positives" is a mean over the positives of each utterance (L_out of supervised contrastive
learning); an utterance without any adds 0 and counts in N. "sum" is SpokenCSE's: each of n_c
utterances of a class has n_c - 1 terms, so that the class weighs about n_c^2 and the loss grows
with the batch. Without a positive pair the loss is 0. One class and equal vectors: ln(N - 1), or
(N - 1) ln(N - 1) with "sum". A row with the label -1 (unknown) is neither anchor nor positive, soft
labels or not, but a negative of the others, and counts in N.

SpokenCSE adds the soft term for j = i too, soft_weight <p_i, p_i> l_ii with s(h_i, h_i) = 1: an
utterance is a positive of itself without standing in the denominator, so that l_ii is no logarithm
of a probability and may be negative. ``soft_self=True`` reproduces that, with j = i in both sums.

Source: arXiv 2311.11375 and SpokenCSE (Chang and Chen, Interspeech 2022); supervised contrastive
learning is arXiv 2004.11362, whose L_out is eq. 2. Letters: N utterances, D dimensions, C classes.
"""

import torch
from torch import Tensor

from espnet_ext.ml_lmcl.nt_xent_loss import (
    check_one_of,
    cosine_matrix,
    full_precision,
    without_self,
)

UNKNOWN = -1
CONTRASTIVE_REDUCTIONS = ("positives", "sum")


def supervised_contrastive_loss(
    h: Tensor,
    labels: Tensor,
    temperature: float = 0.2,
    soft: Tensor | None = None,
    soft_weight: float = 10.0,
    soft_self: bool = False,
    reduction: str = "positives",
) -> Tensor:
    """Return L_c.

    Args:
        h: ``(N, D)`` representations.
        labels: ``(N,)`` int, :data:`UNKNOWN` for none.
        temperature: tau.
        soft: ``(N, C)`` probabilities; no gradient flows into them.
        soft_weight: Their weight next to equal labels.
        soft_self: Whether an utterance's soft labels make it a positive of itself, as published.
        reduction: One of :data:`CONTRASTIVE_REDUCTIONS`.

    Returns:
        Scalar, nats.

    Raises:
        UsageError: There is no such reduction.
        ValueError: The numbers of rows differ, or there are none.
    """
    check_one_of(reduction, CONTRASTIVE_REDUCTIONS, "contrastive_reduction")
    rows = {len(h), len(labels), len(h if soft is None else soft)}
    if len(rows) > 1 or not len(h):
        raise ValueError(f"rows of h, labels and soft labels differ or are none: {sorted(rows)}")
    if len(h) == 1:  # nothing to compare with: the denominator is an empty sum
        return full_precision(h).sum() * 0.0
    logits = cosine_matrix(h, h) / temperature
    losses = without_self(logits).logsumexp(1, keepdim=True) - logits
    weights = pair_weights(labels, soft, soft_weight, soft_self, losses.dtype)
    if reduction == "positives":
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total > 0, total, 1.0)
    return (weights * losses).sum() / len(h)


@torch.no_grad()
def pair_weights(
    labels: Tensor, soft: Tensor | None, soft_weight: float, soft_self: bool, dtype: torch.dtype
) -> Tensor:
    """Return w ``(N, N)``; arguments as in :func:`supervised_contrastive_loss`."""
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    same = labels.unsqueeze(1) == labels.unsqueeze(0)
    weights = same.masked_fill(itself, False).to(dtype)
    if soft is not None:
        with torch.autocast(soft.device.type, enabled=False):
            p = soft.to(dtype)
            likeness = soft_weight * (p @ p.T)
        weights = weights + (likeness if soft_self else likeness.masked_fill(itself, 0.0))
    known = labels != UNKNOWN
    return weights * (known.unsqueeze(1) & known.unsqueeze(0))
