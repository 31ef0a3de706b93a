# SPDX-License-Identifier: Apache-2.0
"""Cutting pictures: one random part of all frames of a clip in training, the middle otherwise."""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

RATIOS = (3 / 4, 4 / 3)  # of width to height, before the part becomes a square
TRIES = 10


class Box(NamedTuple):
    """A part of a picture, in pixels."""

    top: int
    left: int
    height: int
    width: int


def centre_box(height: int, width: int) -> Box:
    """Return the largest square in the middle of a picture."""
    side = min(height, width)
    return Box((height - side) // 2, (width - side) // 2, side, side)


def random_box(
    height: int, width: int, scale: tuple[float, float], rng: np.random.Generator
) -> Box:
    """Draw a part of a picture.

    Args:
        height: Of the picture.
        width: Of the picture.
        scale: Least and largest share of its area, drawn uniformly; the ratio of the sides is
            drawn uniformly on a log scale from :data:`RATIOS`.
        rng: Source of the draws.

    Returns:
        The part, or the square in the middle if :data:`TRIES` draws did not fit.
    """
    for _ in range(TRIES):
        area = height * width * rng.uniform(*scale)
        ratio = math.exp(rng.uniform(*map(math.log, RATIOS)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            return Box(int(top), int(left), h, w)
    return centre_box(height, width)


def cut(frames: np.ndarray, box: Box, size: int) -> torch.Tensor:
    """Cut the same part out of all frames and resize it, smoothly where it becomes smaller.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
        box: The part.
        size: S, pixels of a side of the result.

    Returns:
        ``(T, S, S, 3)`` uint8.
    """
    part = frames[:, box.top : box.top + box.height, box.left : box.left + box.width]
    pictures = torch.from_numpy(np.ascontiguousarray(part)).permute(0, 3, 1, 2)
    if (box.height, box.width) != (size, size):
        pictures = F.interpolate(pictures, (size, size), mode="bilinear", antialias=True)
    return pictures.permute(0, 2, 3, 1).contiguous()


def random_resized_crop(
    frames: np.ndarray,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
    flip: bool = True,
    rng: np.random.Generator | None = None,
) -> torch.Tensor:
    """Cut a random part, the same of all frames, and mirror every second clip.

    Args:
        frames: ``(T, H, W, 3)`` uint8.
        size: S, pixels of a side of the result.
        scale: See :func:`random_box`.
        flip: Mirror left and right with probability 1/2.
        rng: Source of the draws; None takes the middle and mirrors nothing.

    Returns:
        ``(T, S, S, 3)`` uint8.

    Source: arXiv 2403.19822, section on training: random resized crop, random horizontal flip.
    """
    height, width = frames.shape[1:3]
    if rng is None:
        return cut(frames, centre_box(height, width), size)
    out = cut(frames, random_box(height, width, scale, rng), size)
    return out.flip(2).contiguous() if flip and rng.random() < 0.5 else out
