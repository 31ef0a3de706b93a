# SPDX-License-Identifier: Apache-2.0
r"""Frame cross-entropy on phones: what gives a small encoder its first idea of speech.

::

    L_phones = - 1/N sum_{valid frames j} log softmax(logits_j)[label(t_j)]

t_j is the centre of encoder frame j; the label is that of the label frame in which it lies. A small
encoder with random weights stays for hundreds of updates on CTC's plateau; trained like this first,
on the phones of all languages, it stands in for a multilingual speech encoder.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

IGNORED = -1


def at_centres(
    labels: Tensor,
    label_lengths: Tensor,
    frame_lengths: Tensor,
    shift_s: float,
    first_centre_s: float,
    label_shift_s: float = 0.01,
) -> Tensor:
    """Return the label of each encoder frame.

    Args:
        labels: ``(B, L)`` integers, one each ``label_shift_s``: label k is of ``[k, k + 1)`` of it.
        label_lengths: ``(B,)``; beyond the last label the last one holds.
        frame_lengths: ``(B,)`` encoder frames.
        shift_s: Seconds between encoder frames.
        first_centre_s: Seconds at the centre of frame 0.
        label_shift_s: Seconds of a label.

    Returns:
        ``(B, T)`` int64, T the longest of ``frame_lengths``; :data:`IGNORED` beyond an utterance.
    """
    frames = torch.arange(int(frame_lengths.max()), device=labels.device)
    centres = (first_centre_s + shift_s * frames.double()) / label_shift_s
    index = torch.floor(centres + 1e-6).long()[None, :]
    index = index.clamp(min=0).minimum(label_lengths[:, None] - 1).clamp(min=0)
    taken = labels.long().gather(1, index)
    inside = (frames[None, :] < frame_lengths[:, None]) & (label_lengths[:, None] > 0)
    return torch.where(inside, taken, IGNORED)


def phone_loss(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy over labelled frames, and the share of frames that are right.

    Args:
        logits: ``(B, T, P)``; computed in float32 whatever their type.
        targets: ``(B, T)``; :data:`IGNORED` where there is no label. Without any label the loss is
            0, with a gradient of 0.
    """
    wanted = targets != IGNORED
    count = wanted.sum().clamp(min=1)
    total = F.cross_entropy(
        logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="sum"
    )
    right = (logits.argmax(-1) == targets) & wanted
    return total / count, right.sum() / count
