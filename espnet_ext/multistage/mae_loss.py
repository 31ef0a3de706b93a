# SPDX-License-Identifier: Apache-2.0
"""Loss of masked auto-encoding: L = mean over scored tokens of mean_p (x_p - x'_p)^2.

The mean over a token's elements comes first, so that a video token of 1536 elements weighs as much
as an audio token of 320. Letters: B clips, N tokens, P elements of a token.
"""

import torch
from torch import Tensor

EPSILON = 1e-6  # added to the variance of a token


def normalised(target: Tensor) -> Tensor:
    """Return targets ``(B, N, P)`` with mean 0 and variance 1 over each token's elements."""
    variance, mean = torch.var_mean(target, dim=-1, keepdim=True)
    return (target - mean) / (variance + EPSILON).sqrt()


def mae_loss(target: Tensor, predicted: Tensor, scored: Tensor, normalise: bool = False) -> Tensor:
    """Return the mean squared error of the scored tokens of a batch.

    Args:
        target: ``(B, N, P)``.
        predicted: ``(B, N, P)``.
        scored: ``(B, N)`` bool; if nothing is, the loss is 0.
        normalise: Bring each target token to mean 0 and variance 1.

    Source: arXiv 2403.19822 (squared error); mean over elements and normalisation: MAE-ST.
    """
    if normalise:
        target = normalised(target.float())
    error = (predicted.float() - target.float()).square().mean(-1)
    return error.masked_fill(~scored, 0).sum() / scored.sum().clamp(min=1)


def mean_error(target: Tensor, scored: Tensor, normalise: bool = False) -> Tensor:
    """Return the loss of the best constant: the mean of the scored target tokens ``(P,)``.

    Args:
        target: ``(B, N, P)``.
        scored: ``(B, N)`` bool.
        normalise: As in :func:`mae_loss`.
    """
    target = normalised(target.float()) if normalise else target.float()
    total = target.masked_fill(~scored[..., None], 0).sum((0, 1))
    return mae_loss(target, (total / scored.sum().clamp(min=1)).expand_as(target), scored)
