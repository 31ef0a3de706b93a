# SPDX-License-Identifier: Apache-2.0
"""What the contrastive loss compares: one embedding of a clip, or one of each step of time.

The paper takes the mean over time, which says what sounds occur and not when. ``aligned`` and
``centred`` are ours: the clip is cut into the time steps of its pictures, and the similarity of
two clips is the mean over the steps of the cosines of sound and picture at the same time.
``centred`` takes the clip's own mean away before, so that nothing that stays the same in a clip
(voice, skin, light) can tell clips apart. Letters: B clips, K tokens of width W, S steps.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def mean_token(tokens: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of the valid tokens ``(B, W)``.

    Args:
        tokens: ``(B, K, W)``.
        valid: ``(B, K)`` bool.
    """
    kept = tokens.masked_fill(~valid[..., None], 0).sum(1)
    return kept / valid.sum(1, keepdim=True).clamp(min=1)


def step_means(tokens: Tensor, step: Tensor, valid: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Return the mean token of each step ``(B, S, W)``, and which steps have any ``(B, S)``.

    Args:
        tokens: ``(B, K, W)``.
        step: Of each token ``(B, K)``.
        valid: ``(B, K)`` bool.
        steps: S.
    """
    member = F.one_hot(step.clamp(0, steps - 1), steps) * valid[..., None]
    count = member.sum(1)
    with torch.autocast(tokens.device.type, enabled=False):
        tokens = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
        total = member.to(tokens.dtype).transpose(1, 2) @ tokens.masked_fill(~valid[..., None], 0)
    return total / count.clamp(min=1)[..., None], count > 0


def step_of(places: Tensor, lengths: Tensor, steps: int) -> Tensor:
    """Return the step of tokens that fill a clip evenly, of the same shape as ``places``.

    Args:
        places: Numbers of tokens ``(B, K)``.
        lengths: Tokens of the whole clip ``(B,)``.
        steps: S.
    """
    return places * steps // lengths.clamp(min=1)[:, None]


def joined(means: Tensor, there: Tensor, centred: bool = False) -> Tensor:
    """Return one vector a clip ``(B, S * W)``, the cosine of which is the mean over the steps.

    That holds where both clips have all steps: each is brought to length 1. A step that a clip
    lacks adds 0.

    Args:
        means: ``(B, S, W)``.
        there: ``(B, S)`` bool.
        centred: Take away the mean over the steps first.
    """
    if centred:
        means = means - mean_token(means, there)[:, None]
    return (F.normalize(means.float(), dim=-1) * there[..., None]).flatten(1)
