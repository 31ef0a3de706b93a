# SPDX-License-Identifier: Apache-2.0
r"""Label-smoothed cross-entropy of frames against an alignment.

For one frame with logits ``z (K,)``, ``logp = log_softmax(z)``, label ``a`` and
smoothing ``m``::

    uniform_all     q = (1 - m) onehot(a) + m / K
                    loss = - sum_k q[k] logp[k]
    uniform_other   q = (1 - m) onehot(a) + m / (K - 1) (1 - onehot(a))
                    loss = - sum_k q[k] logp[k] - H(q)            (optimum 0)

The gradient of a frame with respect to ``z`` is ``softmax(z) - q`` in both. Sources:
arXiv 2311.14835 (the loss, m = 0.5); ``uniform_other`` is the form of RWTH's
toolkit. Letters: B utterances, T frames, K classes, N labels of one frame (several
with soft labels).
"""

import math

import torch
from torch import Tensor

NO_LABEL = -1
FORMS = ("uniform_all", "uniform_other")
NORMALISE = ("frame_mean", "utterance_mean", "utterance_sum", "match_attention")


def frame_losses(
    logits: Tensor,
    labels: Tensor,
    smoothing: float,
    form: str = "uniform_all",
    weights: Tensor | None = None,
) -> Tensor:
    """Return the loss of every frame; 0 where there is no label.

    Args:
        logits: ``(B, T, K)``.
        labels: ``(B, T)`` int in ``[0, K)``, -1 = no label; ``(B, T, N)`` with
            ``weights``.
        smoothing: m in ``[0, 1]``; 0 is one-hot, 1 holds no alignment information.
        form: One of :data:`FORMS`.
        weights: ``(B, T, N)`` shares of the labels of a frame, sum 1; None for one
            label.

    Returns:
        ``(B, T)`` nats.
    """
    logits = full_precision(logits)
    if weights is None:
        labels, weights = labels.unsqueeze(-1), torch.ones_like(labels).unsqueeze(-1)
    weights = torch.where(labels >= 0, weights, 0).to(logits.dtype)
    classes = logits.shape[-1]
    log_norm = logits.logsumexp(-1)
    hit = logits.gather(-1, labels.clamp(min=0))
    ce = log_norm - (weights * hit).sum(-1)
    uniform = log_norm - logits.mean(-1)
    if form == "uniform_all":
        losses = (1 - smoothing) * ce + smoothing * uniform
    else:
        others = (classes * uniform - ce) / (classes - 1)
        losses = (1 - smoothing) * ce + smoothing * others
        losses = losses - target_entropy(labels, weights, classes, smoothing)
    return torch.where((labels >= 0).any(-1), losses, 0.0)


def full_precision(x: Tensor) -> Tensor:
    """Return half precision as float32, the rest as it is."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def target_entropy(labels: Tensor, weights: Tensor, classes: int, smoothing: float) -> Tensor:
    """Return the entropy of each frame's ``uniform_other`` target, ``(B, T)`` nats.

    Args:
        labels: ``(B, T, N)``; a label may stand several times.
        weights: ``(B, T, N)``.
        classes: K.
        smoothing: m.
    """
    rest = smoothing / (classes - 1)
    same = labels.unsqueeze(-1) == labels.unsqueeze(-2)
    mass = (same * weights.unsqueeze(-2)).sum(-1)
    # Of equal labels in a frame only the first counts.
    repeated = same.tril(-1).any(-1) | (weights == 0)
    q = (1 - smoothing) * mass + rest * (1 - mass)
    named = torch.where(repeated, 0.0, -torch.xlogy(q, q)).sum(-1)
    unnamed = classes - (~repeated).sum(-1).to(mass.dtype)
    return named - unnamed * (rest * math.log(rest) if rest > 0 else 0.0)


def reduce_frames(
    losses: Tensor, valid: Tensor, normalise: str = "frame_mean", tokens: Tensor | None = None
) -> Tensor:
    """Combine the frames of a batch; 0 if none is valid.

    Args:
        losses: ``(B, T)``, 0 on invalid frames.
        valid: ``(B, T)`` bool, frames with a label.
        normalise: ``frame_mean`` over all valid frames of the batch;
            ``utterance_mean``, the mean of the means of the utterances that have
            labels; ``utterance_sum``, sums divided by B (the scale of ESPnet's CTC
            loss); ``match_attention``, the frame mean times the mean number of target
            tokens: next to ESPnet's attention loss, a sum over tokens, it has the
            share that a frame mean has next to a token mean.
        tokens: ``(B,)`` numbers of target tokens, for ``match_attention``.
    """
    if normalise == "utterance_sum":
        return losses.sum() / len(losses)
    if normalise == "utterance_mean":
        means = losses.sum(1) / valid.sum(1).clamp(min=1)
        return means.sum() / valid.any(1).sum().clamp(min=1)
    mean = losses.sum() / valid.sum().clamp(min=1)
    if normalise == "frame_mean":
        return mean
    if tokens is None:
        raise ValueError("match_attention needs the numbers of target tokens")
    return mean * tokens.to(mean.dtype).mean()


def smoothed_ce(
    logits: Tensor,
    labels: Tensor,
    smoothing: float = 0.5,
    form: str = "uniform_all",
    weights: Tensor | None = None,
    normalise: str = "frame_mean",
    tokens: Tensor | None = None,
) -> Tensor:
    """Return the loss of a batch.

    The arguments are those of :func:`frame_losses` and :func:`reduce_frames`.
    """
    losses = frame_losses(logits, labels, smoothing, form, weights)
    valid = (labels >= 0).any(-1) if labels.dim() == 3 else labels >= 0
    return reduce_frames(losses, valid, normalise, tokens)


def loss_floor(classes: int, smoothing: float) -> float:
    """Return the least ``uniform_all`` loss of a frame: its target's entropy in nats."""
    top, rest = 1 - smoothing + smoothing / classes, smoothing / classes
    return -top * math.log(top) - ((classes - 1) * rest * math.log(rest) if rest else 0.0)


def frame_accuracy(logits: Tensor, labels: Tensor, leave_out: Tensor | None = None) -> Tensor:
    """Return the share of labelled frames whose best class is the label, or NaN.

    Args:
        logits: ``(B, T, K)``.
        labels: ``(B, T)``, -1 = no label.
        leave_out: ``(S,)`` labels whose frames do not count, e.g. silence.
    """
    valid = labels >= 0
    if leave_out is not None:
        valid = valid & ~torch.isin(labels, leave_out)
    # Not whether its value is the greatest: half precision has many ties.
    hits = (logits.argmax(-1) == labels) & valid
    return hits.sum() / valid.sum()
