# SPDX-License-Identifier: Apache-2.0
r"""Distillation against forgetting: speech is still heard as the specialised model hears it.

A frozen copy of the specialised encoder and its pooling head is the teacher, with H* and e*::

    embeddings    L = mean_i (1 - cos(e_i, e*_i))
    frames        L = sum over valid frames (1 - cos(H_it, H*_it)) / number of valid frames

Unlike L_samu it needs no text, and no sentence encoder in the SLU step.

Source: a baseline of this package, in the manner of arXiv 1606.09282 (learning without forgetting);
arXiv 2406.12141 has no results of it. Letters: B utterances, T frames, D width of the encoder, E
width of the sentence vectors.
"""

from torch import Tensor

from espnet_ext.dual_task.masks import check_lengths, valid_frames
from espnet_ext.dual_task.samu_loss import cosine_distance


def embedding_distil_loss(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of the utterances' vectors.

    Args:
        student: ``(B, E)`` e.
        teacher: ``(B, E)`` e*; no gradient flows into it.

    Returns:
        Mean, scalar, and the distances ``(B,)``.

    Raises:
        ValueError: The shapes differ.
    """
    distance = cosine_distance(student, teacher.detach())
    return distance.mean(), distance


def frame_distil_loss(student: Tensor, teacher: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss of the hidden states.

    Args:
        student: ``(B, T, D)`` H.
        teacher: ``(B, T, D)`` H*; no gradient flows into it.
        lengths: ``(B,)`` valid frames, each from 1 to T.

    Returns:
        Mean over all valid frames, scalar, and the mean of each utterance's ``(B,)``.

    Raises:
        DataError: An utterance has no valid frame.
        ValueError: The shapes do not fit.
    """
    check_lengths(student, lengths)
    if student.shape != teacher.shape:
        raise ValueError(f"frames {tuple(student.shape)} and {tuple(teacher.shape)}")
    padded = ~valid_frames(lengths, student.shape[1]).to(student.device)
    # Masked before the cosine: what stands in the padding must not reach the gradient as NaN.
    keep = padded.unsqueeze(-1)
    distance = cosine_distance(
        student.masked_fill(keep, 0), teacher.detach().masked_fill(keep, 0)
    ).masked_fill(padded, 0)
    sums = distance.sum(1)
    lengths = lengths.to(sums.device)
    return sums.sum() / lengths.sum(), sums / lengths
