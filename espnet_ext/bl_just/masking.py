# SPDX-License-Identifier: Apache-2.0
"""Masked spans of input frames, and what lies under an encoder frame.

An encoder of stride s is read as follows: its frame t stands for the input frames
``[t s, (t + 1) s)``. With the convolutional front ends of ESPnet these lie inside the receptive
field of frame t (``conv2d``: ``[4 t, 4 t + 7)``). Frames from the utterance's end on repeat its
last frame. Everything follows from an utterance's own length, nothing from padding.
"""

import torch
from torch import Tensor
from torch.nn import functional

from espnet_ext.bl_just.unsup_base import inside
from espnet_ext.errors import UsageError

MIN_FRAMES_IN_SPAN = 4  # encoder frames; the ends of convolutions may cost two


def check_span(span: int, stride: int, where: str) -> None:
    """Check that a span of input frames hides encoder frames wholly.

    Raises:
        UsageError: It is too short.
    """
    if span < MIN_FRAMES_IN_SPAN * stride:
        raise UsageError(
            f"a masked span of {span} frames is too short for an encoder of stride {stride}",
            f"{where}.mask_length_s",
            f"{MIN_FRAMES_IN_SPAN * stride} input frames or more",
        )


def draw_mask(lengths: Tensor, frames: int, prob: float, span: int, block: int = 1) -> Tensor:
    """Draw masked spans; an utterance without a whole one gets one, inside it if it fits.

    All numbers are drawn on the device of ``lengths``, nothing waits for it. On a CPU they depend
    on the lengths, not on ``frames``.

    Args:
        lengths: ``(N,)`` frames.
        frames: T.
        prob: Probability that a span begins at a block.
        span: Frames of a span, a multiple of ``block``.
        block: Frames that are masked together.

    Returns:
        ``(N, T)`` bool; spans may overlap and end with the utterance.
    """
    count, wide, size, device = len(lengths), -(-frames // block), span // block, lengths.device
    blocks = (lengths + block - 1).div(block, rounding_mode="floor")
    valid = inside(blocks, wide)
    places = (blocks - size).clamp(min=0) + 1
    forced = (torch.rand(count, device=device) * places).long().clamp(max=places - 1)
    # Block by block, so that further blocks draw further numbers.
    starts = (prob > torch.rand(wide, count, device=device).T) & valid
    order = torch.arange(wide, device=device)
    # A span that begins near the end may be too short to hide an encoder frame.
    whole = (starts & (order < places.unsqueeze(1))).any(1, keepdim=True)
    starts = starts | ((order == forced.unsqueeze(1)) & ~whole)
    begun = starts.long().cumsum(1)
    ended = functional.pad(begun, (size, 0))[:, :wide]
    masked = ((begun > ended) & valid).repeat_interleave(block, 1)[:, :frames]
    return masked & inside(lengths, frames)


def masked_frames(mask: Tensor, lengths: Tensor, h_lengths: Tensor, stride: int) -> Tensor:
    """Return the encoder frames whose input frames are all masked.

    Args:
        mask: ``(N, T)`` bool.
        lengths: ``(N,)`` input frames.
        h_lengths: ``(N,)`` encoder frames.
        stride: s.

    Returns:
        ``(N, T')`` bool with ``T' = max(h_lengths)``.
    """
    count = int(h_lengths.max())
    whole = mask.gather(1, frame_places(lengths, count, stride).flatten(1))
    return whole.unflatten(1, (count, stride)).all(-1) & inside(h_lengths, count)


def stacked_frames(x: Tensor, lengths: Tensor, count: int, stride: int) -> Tensor:
    """Return the input frames under each encoder frame, ``(N, count, stride F)``.

    Args:
        x: ``(N, T, F)``.
        lengths: ``(N,)``.
        count: Encoder frames.
        stride: s.
    """
    places = frame_places(lengths, count, stride).flatten(1)
    rows = torch.arange(len(x), device=x.device).unsqueeze(1)
    return x[rows, places].unflatten(1, (count, stride)).flatten(2)


def frame_places(lengths: Tensor, count: int, stride: int) -> Tensor:
    """Return the places of the input frames under each encoder frame, ``(N, count, stride)``."""
    places = torch.arange(count * stride, device=lengths.device).unflatten(0, (count, stride))
    return places.minimum((lengths - 1)[:, None, None])


def normalised(x: Tensor, lengths: Tensor) -> Tensor:
    """Return each utterance's features with mean 0 and variance 1 over its frames.

    Args:
        x: ``(N, T, F)``.
        lengths: ``(N,)``.

    Returns:
        ``(N, T, F)``, padding 0.
    """
    valid = inside(lengths, x.shape[1]).unsqueeze(-1)
    count = lengths.to(x.dtype)[:, None, None]
    mean = torch.where(valid, x, 0).sum(1, keepdim=True) / count
    centred = torch.where(valid, x - mean, 0)
    variance = (centred**2).sum(1, keepdim=True) / count
    return centred / (variance + 1e-5).sqrt()
