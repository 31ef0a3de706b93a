# SPDX-License-Identifier: Apache-2.0
"""Pictures of a mouth that moves with the phones of an utterance, whose times are exact.

What does not follow from the sound (place, size, colours, noise) is drawn for each clip: were it
the speaker's, sound and picture could be matched by the voice, and the mouth were never looked at.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from espnet_ext.data.synth.events import SILENCE

FPS = 25
SIZE = 32
SMOOTH_S = 0.09  # length of the Hann window by which the mouth goes from shape to shape
STEP_S = 0.005


class Shape(NamedTuple):
    """How a mouth looks, 0 to 1: how far it is open, how wide it is, how much teeth it shows."""

    opening: float
    width: float
    teeth: float = 0.0


REST = Shape(0.05, 0.6)
OTHER = Shape(0.35, 0.6)
_SHAPES = {  # by the first letter of an IPA label
    **dict.fromkeys("pbm", Shape(0.0, 0.55)),
    **dict.fromkeys("fv", Shape(0.08, 0.6, 1.0)),
    **dict.fromkeys("szʃʒ", Shape(0.2, 0.75, 0.9)),
    **dict.fromkeys("tdnlθðɾ", Shape(0.25, 0.65, 0.6)),
    **dict.fromkeys("kɡŋhg", Shape(0.35, 0.6, 0.2)),
    **dict.fromkeys("ɹrj", Shape(0.25, 0.45, 0.1)),
    **dict.fromkeys("w", Shape(0.15, 0.2)),
    **dict.fromkeys("uʊ", Shape(0.22, 0.25)),
    **dict.fromkeys("oɔ", Shape(0.6, 0.35)),
    **dict.fromkeys("iɪᵻy", Shape(0.3, 0.95, 0.3)),
    **dict.fromkeys("eɛ", Shape(0.5, 0.85, 0.2)),
    **dict.fromkeys("əɐɚɜʌ", Shape(0.5, 0.6)),
    **dict.fromkeys("aæɑ", Shape(1.0, 0.75, 0.1)),
}


def shape_of(phone: str) -> Shape:
    """Return the shape of the mouth in a phone, of its first letter in a diphthong."""
    return REST if phone == SILENCE else _SHAPES.get(phone[:1], OTHER)


def movement(phones: Sequence[Sequence], duration_s: float, times_s: np.ndarray) -> np.ndarray:
    """Return the shapes (T, 3) at given times.

    Args:
        phones: ``(label, start_s, end_s)``, without gaps, from 0 to ``duration_s``.
        duration_s: Length of the utterance; the mouth rests before and after it.
        times_s: (T,) seconds, within it.
    """
    half = round(SMOOTH_S / STEP_S / 2)
    grid = np.arange(-half, round(duration_s / STEP_S) + half + 1) * STEP_S
    ends = np.array([end_s for _, _, end_s in phones])
    shapes = np.array([shape_of(label) for label, *_ in phones] + [REST])
    at = np.where(grid < 0, len(phones), np.searchsorted(ends, grid, side="right"))
    window = np.hanning(2 * half + 3)[1:-1]
    window /= window.sum()
    smooth = np.stack([np.convolve(row, window, mode="valid") for row in shapes[at].T])
    inner = grid[half : half + smooth.shape[1]]
    return np.stack([np.interp(times_s, inner, row) for row in smooth], axis=1)


def draw(
    phones: Sequence[Sequence],
    duration_s: float,
    rng: np.random.Generator,
    size: int = SIZE,
    fps: int = FPS,
) -> np.ndarray:
    """Return the pictures of one clip.

    Args:
        phones: ``(label, start_s, end_s)``, without gaps, from 0 to ``duration_s``.
        duration_s: Length of the utterance, in seconds.
        rng: Draws what does not follow from the sound, for this clip.
        size: S, pixels of a side.
        fps: Frames a second; frame k shows the mouth at ``k / fps`` seconds.

    Returns:
        ``(T, S, S, 3)`` uint8, T = ``duration_s * fps``, rounded, at least 1.
    """
    count = max(1, round(duration_s * fps))
    opening, width, teeth = movement(phones, duration_s, np.arange(count) / fps).T[..., None, None]
    scale = size * rng.uniform(0.85, 1.15)
    centre = size / 2 - 0.5 + rng.uniform(-2, 2, 2) * size / SIZE
    y, x = np.meshgrid(*(np.arange(size) - c for c in centre), indexing="ij")

    def inside(wide: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Return (T, S, S) in 0..1: 1 within an ellipse, with a soft edge."""
        distance = np.sqrt((x / wide) ** 2 + (y / high) ** 2)
        return np.clip((1 - distance) * np.minimum(wide, high) + 0.5, 0, 1)

    half_width = scale * (0.14 + 0.22 * width)
    half_height = scale * (0.01 + 0.24 * opening)
    lips = inside(half_width + 0.07 * scale, half_height + 0.07 * scale)
    mouth = inside(half_width, half_height)
    upper = mouth * teeth * np.clip(0.5 - y - 0.3 * half_height, 0, 1)
    skin = rng.uniform(110, 200) * rng.uniform(0.85, 1.15, 3)
    red = skin * rng.uniform(0.6, 0.8) * np.array([1.25, 0.8, 0.8])
    picture = np.broadcast_to(skin, (count, size, size, 3))
    for mask, colour in ((lips, red), (mouth, 25.0), (upper, 235.0)):
        picture = picture + mask[..., None] * (colour - picture)
    picture = picture + rng.normal(0, 6, picture.shape)
    return np.clip(np.round(picture), 0, 255).astype(np.uint8)
