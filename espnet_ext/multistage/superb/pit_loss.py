# SPDX-License-Identifier: Apache-2.0
"""Permutation-invariant loss of diarisation.

L_b = min_p 1 / (T_b S) sum_t sum_s bce(logit_{t,s}, target_{t,p(s)}), averaged over utterances.

Source: Fujita et al. (arXiv 1909.05952), equation 5.
"""

from itertools import permutations

import torch
from torch.nn import functional


def pit_loss(
    logits: torch.Tensor, targets: torch.Tensor, lengths: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the loss under the best order of speakers of each utterance.

    Args:
        logits: ``(B, T, S)``.
        targets: ``(B, T, S)``, 1 where a speaker talks.
        lengths: ``(B,)`` valid frames.

    Returns:
        The loss, a scalar, and ``(B, S)``: the target that each output stands for.
    """
    frames, speakers = logits.shape[1:]
    valid = (torch.arange(frames, device=logits.device) < lengths[:, None]).to(logits.dtype)
    orders = torch.tensor(list(permutations(range(speakers))), device=logits.device)  # (P, S)
    # (B, S, S): binary cross-entropy of output i against target j, averaged over valid frames
    pairs = torch.stack([
        functional.binary_cross_entropy_with_logits(
            logits, targets[:, :, j, None].expand_as(logits).to(logits.dtype), reduction="none"
        ).mul(valid.unsqueeze(2)).sum(1)
        for j in range(speakers)
    ], 2) / lengths.clamp_min(1).to(logits.dtype)[:, None, None]  # fmt: skip
    outputs = torch.arange(speakers, device=logits.device)
    losses = pairs[:, outputs, orders].mean(2)  # (B, P)
    best = losses.argmin(1)
    return losses.gather(1, best[:, None]).mean(), orders[best]
