# SPDX-License-Identifier: Apache-2.0
"""Labels at the frames of an encoder layer, looked up by time.

A grid of frames is its shift and the centre of its first frame. A label frame covers
half a shift on either side of its centre (half-open); the window of an encoder frame is
one encoder shift around its centre. Letters: B utterances, T label frames, T_l encoder
frames, N frames of a window.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

RULES = ("centre", "first", "majority", "soft")
# Of a label frame: times are products of decimals that binary numbers miss.
_ROUNDING = 1e-6


class FrameGrid(NamedTuple):
    """Frame t is centred at ``centre_s + t * shift_s`` seconds."""

    shift_s: float
    centre_s: float


class Targets(NamedTuple):
    """Labels of encoder frames.

    Attributes:
        labels: ``(B, T_l)``, -1 = no label; what accuracy is counted against.
        soft: ``(B, T_l, N)`` labels of the window, or None with any hard rule.
        weights: ``(B, T_l, N)`` their shares, sum 1 on frames with a label.
    """

    labels: Tensor
    soft: Tensor | None = None
    weights: Tensor | None = None


def positions(
    grid: FrameGrid, encoder: FrameGrid, frames: int, device: torch.device | str = "cpu"
) -> tuple[Tensor, ...]:
    """Return the label frames of each encoder frame, whatever an utterance's length.

    Args:
        grid: Grid of the labels.
        encoder: Grid of the encoder frames.
        frames: T_l.
        device: Of the result.

    Returns:
        ``(T_l,)`` each: the label frame at the centre, the first one whose centre lies
        in the window, and the one after the last such; the window may be empty.
    """
    steps = torch.arange(frames, dtype=torch.float64, device=device)
    # Label frame t covers [t, t + 1) in these units.
    at = (encoder.centre_s + steps * encoder.shift_s - grid.centre_s) / grid.shift_s + 0.5
    half = encoder.shift_s / grid.shift_s / 2
    bounds = [torch.ceil(at + side * half - 0.5 - _ROUNDING).long() for side in (-1, 1)]
    return torch.floor(at + _ROUNDING).long(), *bounds


def resample(
    labels: Tensor,
    lengths: Tensor,
    frames: int,
    frame_lengths: Tensor,
    grid: FrameGrid,
    encoder: FrameGrid,
    rule: str = "centre",
) -> Tensor | Targets:
    """Return the labels of encoder frames.

    Args:
        labels: ``(B, T)`` int, -1 = no label.
        lengths: ``(B,)`` label frames; beyond the last one counts the last.
        frames: T_l, padded.
        frame_lengths: ``(B,)`` encoder frames; beyond them there is no label.
        grid: Grid of the labels.
        encoder: Grid of the encoder frames.
        rule: ``centre``, the label at the frame's centre; ``first``, that at the start
            of its window; ``majority``, the most frequent one in its window, on a tie
            the centre; ``soft``, all labels of its window in equal shares.
    """
    device = labels.device
    centre, first, end = positions(grid, encoder, frames, device)
    lengths, frame_lengths = lengths.to(device), frame_lengths.to(device)
    at_centre = _look_up(labels, lengths, centre)
    alive = torch.arange(frames, device=device) < frame_lengths.unsqueeze(1)
    alive = alive & (lengths > 0).unsqueeze(1)
    if rule == "centre":
        return Targets(torch.where(alive, at_centre, -1))
    if rule == "first":
        return Targets(torch.where(alive, _look_up(labels, lengths, first), -1))
    width = max(1, math.ceil(encoder.shift_s / grid.shift_s - _ROUNDING))
    index = first.unsqueeze(1) + torch.arange(width, device=device)
    window = _look_up(labels, lengths, index.flatten()).unflatten(1, (frames, width))
    outside = (index < 0) | (index >= end.unsqueeze(1)) | (index >= lengths.view(-1, 1, 1))
    window = torch.where(outside | ~alive.unsqueeze(-1), -1, window)
    empty = outside.all(-1) & alive  # no label frame's centre lies in the window
    window[..., 0] = torch.where(empty, at_centre, window[..., 0])
    if rule == "majority":
        return Targets(torch.where(alive, _majority(window, at_centre), -1))
    known = window >= 0
    weights = known / known.sum(-1, keepdim=True).clamp(min=1)
    hard = torch.where(alive & known.any(-1), at_centre, -1)
    return Targets(hard, window, weights)


def _look_up(labels: Tensor, lengths: Tensor, index: Tensor) -> Tensor:
    """Return ``(B, len(index))`` labels, the ends of each utterance repeated."""
    rows = index.unsqueeze(0).expand(len(labels), -1)
    last = (lengths - 1).clamp(min=0).unsqueeze(1)
    return labels.gather(1, torch.minimum(rows.clamp(min=0), last))


def _majority(window: Tensor, at_centre: Tensor) -> Tensor:
    known = window >= 0
    same = (window.unsqueeze(-1) == window.unsqueeze(-2)) & known.unsqueeze(-1)
    counts = same.sum(-1)
    most, where = counts.max(-1)
    winner = window.gather(-1, where.unsqueeze(-1)).squeeze(-1)
    tie = ((counts == most.unsqueeze(-1)) & (window != winner.unsqueeze(-1)) & known).any(-1)
    return torch.where(tie, at_centre, winner)


def without(labels: Tensor, classes: Tensor) -> Tensor:
    """Return labels with those of ``classes (S,)`` turned into -1."""
    return torch.where(torch.isin(labels, classes), -1, labels)


def stretch(labels: Tensor, lengths: Tensor, new_lengths: Tensor) -> Tensor:
    """Spread labels linearly over another number of frames.

    Args:
        labels: ``(B, T)``.
        lengths: ``(B,)``, at least 1.
        new_lengths: ``(B,)``; an utterance whose length is right stays as it is.

    Returns:
        ``(B, max(new_lengths))``, -1 beyond the new length.
    """
    steps = torch.arange(int(new_lengths.max()), device=labels.device).unsqueeze(0)
    old, new = lengths.unsqueeze(1), new_lengths.unsqueeze(1).clamp(min=1)
    index = ((2 * steps + 1) * old).div(2 * new, rounding_mode="floor")
    index = torch.minimum(index, (old - 1).clamp(min=0))
    return torch.where(steps < new_lengths.unsqueeze(1), labels.gather(1, index), -1)
