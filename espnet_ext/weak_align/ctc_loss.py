# SPDX-License-Identifier: Apache-2.0
"""CTC of an inner layer against the label sequence of an alignment: the control without times.

The label sequence is that of the frame labels with repetitions merged, the last of the K + 1
classes is the blank. Letters: B utterances, T frames, K label classes, L labels.
"""

import torch
from torch import Tensor
from torch.nn import functional

from espnet_ext.weak_align.loss import full_precision


def collapse(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Merge repetitions of frame labels and drop frames without a label.

    Equal labels with an unlabelled frame between them stay two.

    Args:
        labels: ``(B, T)``, -1 = no label or padding.

    Returns:
        ``(B, L)`` sequences, filled up with 0, and their lengths ``(B,)``.
    """
    before = functional.pad(labels, (1, 0), value=-1)[:, :-1]
    keep = (labels >= 0) & (labels != before)
    lengths = keep.sum(1)
    order = torch.argsort((~keep).to(torch.uint8), dim=1, stable=True)
    packed = labels.gather(1, order)[:, : max(1, int(lengths.max()))]
    inside = torch.arange(packed.shape[1], device=labels.device) < lengths.unsqueeze(1)
    return torch.where(inside, packed, 0), lengths


def collapsed_ctc(logits: Tensor, logit_lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the CTC loss, sum over utterances divided by B as ESPnet's, and what it left out.

    Args:
        logits: ``(B, T, K + 1)``, the blank last.
        logit_lengths: ``(B,)``.
        labels: ``(B, T')`` frame labels at any rate, -1 = no label.

    Returns:
        The loss, a scalar; and the share of utterances with labels that are too long for their
        frames and count 0.
    """
    logits = full_precision(logits)
    targets, lengths = collapse(labels)
    repeats = ((targets[:, 1:] == targets[:, :-1]) & _inside(targets, lengths)[:, 1:]).sum(1)
    fits = (lengths > 0) & (lengths + repeats <= logit_lengths.to(lengths.device))
    losses = functional.ctc_loss(
        logits.log_softmax(-1).transpose(0, 1),
        targets,
        logit_lengths.to(logits.device),
        lengths,
        blank=logits.shape[-1] - 1,
        reduction="none",
        zero_infinity=True,
    )
    left_out = ((lengths > 0) & ~fits).sum() / (lengths > 0).sum().clamp(min=1)
    return torch.where(fits, losses, 0.0).sum() / len(losses), left_out


def _inside(targets: Tensor, lengths: Tensor) -> Tensor:
    return torch.arange(targets.shape[1], device=targets.device) < lengths.unsqueeze(1)
