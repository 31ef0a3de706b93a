# SPDX-License-Identifier: Apache-2.0
r"""The semantic loss: an utterance's vector points where its text's vector points.

With e_i of the speech and y_i of a frozen sentence encoder, both of width E::

    d_i    = 1 - cos(e_i, y_i)                         from 0 to 2
    L_samu = scale * reduce_i d_i                      reduce: sum or mean over the batch

The batch is the whole one, however many processes share it: ESPnet averages the processes'
gradients by their numbers of utterances, so a process with B_r of B utterances computes the sum as
B times the mean of its own; their average is the sum over all. (With R processes, sums over B_r
would average to about 1/R of it, and lambda would change its meaning.) Batches that ``accum_grad``
joins to one update are averaged, as all of ESPnet's losses are.

No gradient flows into y. With ``sum`` the loss grows with the batch; lambda of the dual loss has a
meaning only together with scale and reduction, so neither has a default. d, which is what should be
reported, depends on neither.

Source: SAMU-XLSR (arXiv 2205.08180); scale 50 and ``sum`` are those of a co-author's public code,
the values of arXiv 2406.12141 are not known.
Letters: B utterances, E width of the sentence vectors.
"""

import math

import torch
from torch import Tensor, distributed

from espnet_ext.dual_task.masks import full_precision
from espnet_ext.errors import UsageError, nearest

REDUCTIONS = ("sum", "mean")
SMALLEST_NORM = 1e-8  # a shorter vector has no direction


def samu_loss(
    e: Tensor, y: Tensor, scale: float | None, reduce: str | None, batch: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the loss and what it is made of.

    Args:
        e: ``(B, E)`` vectors of the utterances, of any length.
        y: ``(B, E)`` sentence vectors of their texts, of any length.
        scale: Factor, above 0.
        reduce: One of :data:`REDUCTIONS`.
        batch: Utterances of all processes, see :func:`whole_batch`; default: B.

    Returns:
        L_samu, scalar, and d ``(B,)``, the cosine distances; float32 or better.

    Raises:
        UsageError: Scale or reduction is missing or not possible.
        ValueError: The shapes differ.
    """
    if scale is None or not 0 < scale < math.inf:
        raise UsageError(f"the scale of L_samu is {scale}", "samu_scale", "a number above 0")
    if reduce not in REDUCTIONS:
        how = nearest(str(reduce), REDUCTIONS)
        raise UsageError(f"there is no reduction '{reduce}' of L_samu", "samu_reduce", how)
    distance = cosine_distance(e, y.detach())
    times = (len(distance) if batch is None else batch) if reduce == "sum" else 1
    return scale * times * distance.mean(), distance


def whole_batch(count: int, device: torch.device) -> int:
    """Return the utterances that all processes have in this update; a collective operation.

    Args:
        count: Utterances of this process.
        device: Where processes exchange tensors: that of the batch.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return count
    total = torch.tensor(count, device=device)
    distributed.all_reduce(total)
    return int(total)


def cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cos of the last dimension, float32 or better; 1 for a vector of no direction.

    Args:
        a: ``(..., E)``.
        b: ``(..., E)``.

    Raises:
        ValueError: The shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"vectors of shape {tuple(a.shape)} and {tuple(b.shape)}")
    with torch.autocast(a.device.type, enabled=False):
        a, b = unit(full_precision(a)), unit(full_precision(b))
        return 1 - (a * b).sum(-1)


def unit(x: Tensor) -> Tensor:
    """Return ``x`` ``(..., E)`` at length 1."""
    return x / x.norm(dim=-1, keepdim=True).clamp_min(SMALLEST_NORM)
