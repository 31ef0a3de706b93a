# SPDX-License-Identifier: Apache-2.0
"""Which frames of a video a clip has, and what a line of video.scp says."""

import math
from typing import NamedTuple

import numpy as np

from espnet_ext.errors import DataError, UsageError

SAMPLINGS, STARTS = ("stride", "uniform"), ("0", "random")
BEYOND_S = 0.5  # an end beyond the video by this much is that of the sound, which may be longer


class VideoValue(NamedTuple):
    """A line of video.scp after the id: ``path [start end]``, times in seconds."""

    path: str
    start_s: float | None = None
    end_s: float | None = None


def parse_value(value: str) -> VideoValue:
    """Return the parts of a value; a path may have spaces.

    Raises:
        DataError: The times are no interval.
    """
    words = value.rsplit(maxsplit=2)
    try:
        start_s, end_s = map(float, words[1:])
    except ValueError:
        return VideoValue(value)
    if not (0 <= start_s < end_s and math.isfinite(end_s)):
        how = "0 <= start < end, in seconds"
        raise DataError(f"[{start_s:g}, {end_s:g}) s is no interval", words[0], how)
    return VideoValue(words[0], start_s, end_s)


def plan_frames(
    count: int,
    frames: int,
    stride: int,
    sampling: str = "stride",
    start: int | str = 0,
    rng: np.random.Generator | None = None,
) -> tuple[np.ndarray, int]:
    """Choose ``frames`` of ``count`` frames.

    ``stride`` takes every ``stride``-th frame from the first, or from a random one from which all
    fit; where the video ends before, its last frame is repeated. ``uniform`` cuts the video into
    ``frames`` equal parts and takes the middle of each, or the same random place in each.

    Args:
        count: Frames there are, at least 1.
        frames: Frames to choose.
        stride: Distance of two chosen frames; of no meaning to ``uniform``.
        sampling: One of :data:`SAMPLINGS`.
        start: 0 or ``random``.
        rng: For ``random``; without one it starts as 0 does.

    Returns:
        Ascending indices ``(frames,)`` and how many of them repeat the one before for want of
        frames.

    Raises:
        UsageError: An unknown ``sampling`` or ``start``.
    """
    for name, given, known in (("sampling", sampling, SAMPLINGS), ("start", str(start), STARTS)):
        if given not in known:
            how = f"one of {', '.join(known)}"
            raise UsageError(f"there is no such choice of frames: '{given}'", f"video_{name}", how)
    drawn = rng is not None and start == "random"
    if sampling == "uniform":
        place = rng.random() if drawn else 0.5
        index = np.floor((np.arange(frames) + place) * count / frames).astype(np.int64)
        return index, frames - len(np.unique(index))
    first = 0
    free = count - (frames - 1) * stride - 1
    if drawn and free > 0:
        first = int(rng.integers(free + 1))
    index = first + stride * np.arange(frames)
    return np.minimum(index, count - 1), int((index >= count).sum())


def interval_frames(value: VideoValue, count: int, fps: float) -> tuple[int, int]:
    """Return the half-open range of frames of a value, of ``count`` frames at ``fps``.

    Frame ``i`` belongs to ``[start, end)`` when ``round(start * fps) <= i < round(end * fps)``.

    Raises:
        DataError: The interval is not inside the video.
    """
    if value.start_s is None or value.end_s is None:
        return 0, count
    if not fps:
        how = "give an array of this interval alone"
        raise DataError("an array has no times: its frame rate is unknown", value.path, how)
    first, last = round(value.start_s * fps), round(value.end_s * fps)
    if first >= count or value.end_s > count / fps + BEYOND_S:
        what = f"[{value.start_s:g}, {value.end_s:g}) s is not inside the video"
        raise DataError(f"{what} of {count / fps:.3f} s", value.path, "correct the times")
    return first, max(first + 1, min(last, count))


def nearest_frames(times_s: np.ndarray, wanted_s: np.ndarray) -> np.ndarray:
    """Return for each wanted time the index of the nearest of the ascending ``times_s``."""
    right = np.clip(np.searchsorted(times_s, wanted_s), 1, max(1, len(times_s) - 1))
    left = right - 1
    right = np.minimum(right, len(times_s) - 1)
    closer = np.abs(times_s[right] - wanted_s) < np.abs(times_s[left] - wanted_s)
    return np.where(closer, right, left)
