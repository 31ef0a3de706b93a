# SPDX-License-Identifier: Apache-2.0
"""Clips of video: frames, facts and sound of a file, or of frames that were saved as an array.

A value is ``path [start end]``, times in seconds. The path is that of a video file, which PyAV
reads (the extra ``[video]``), or of a ``.npy`` array ``(T, H, W, 3)`` uint8, which needs nothing:
of an array only the frames that are wanted are read from disk.
"""

from dataclasses import dataclass

import numpy as np

from espnet_ext.data import video_file
from espnet_ext.data.video_plan import (
    VideoValue,
    interval_frames,
    nearest_frames,
    parse_value,
    plan_frames,
)
from espnet_ext.errors import DataError

__all__ = ["Clip", "VideoFacts", "audio_of", "parse_value", "probe", "read_clip"]

LOST = 0.05  # share of the promised frames that may be missing at the end of a file


@dataclass(frozen=True)
class VideoFacts:
    """What a video is.

    Attributes:
        frames: Frames there are.
        fps: Frames a second, on average; 0 for an array.
        width: Pixels, as displayed.
        height: Pixels, as displayed.
        duration_s: Seconds of the picture; 0 for an array.
        has_audio: Whether the file has a sound track with data.
        rotation: Degrees counter-clockwise by which the stored picture is turned to be upright.
        audio_s: Seconds of the sound.
        lost: Frames that the header promises and the file lacks.
        variable: Whether the distances of the frames vary.
    """

    frames: int
    fps: float
    width: int
    height: int
    duration_s: float
    has_audio: bool
    rotation: int = 0
    audio_s: float = 0.0
    lost: int = 0
    variable: bool = False


@dataclass(frozen=True)
class Clip:
    """Frames ``(T, H, W, 3)`` uint8, and how many of them repeat one for want of frames."""

    frames: np.ndarray
    repeated: int


def probe(path: str) -> VideoFacts:
    """Return the facts of a video file or array; of its pictures, only the first is decoded.

    Raises:
        DataError: Missing, not readable, truncated, without a picture or without a frame rate.
        SetupError: It is a video file, and PyAV is not installed.
    """
    if _is_array(path):
        frames, height, width, _ = _load(path).shape
        return VideoFacts(frames, 0.0, width, height, 0.0, False)
    track = video_file.read_track(path)
    if track.lost > max(1, LOST * (track.lost + track.count)):
        what = f"truncated: only {track.count} of {track.lost + track.count} frames"
        raise DataError(what, path, video_file.AGAIN)
    first, rotation = video_file.first_frame(path)
    sound_s = video_file.sound_length(path)
    return VideoFacts(
        frames=track.count,
        fps=track.fps,
        width=first.shape[1],
        height=first.shape[0],
        duration_s=track.grid / track.fps,
        has_audio=sound_s is not None,
        rotation=rotation,
        audio_s=sound_s or 0.0,
        lost=track.lost,
        variable=track.variable,
    )


def read_clip(
    value: str,
    frames: int,
    stride: int,
    sampling: str = "stride",
    start: int | str = 0,
    rng: np.random.Generator | None = None,
    short_side: int | None = None,
) -> Clip:
    """Read some frames of a clip, as RGB, upright.

    Where the distances of the frames vary, frame ``k`` is the one nearest to ``k / fps`` seconds.

    Args:
        value: ``path [start end]``.
        frames: T, how many; see :func:`~espnet_ext.data.video_plan.plan_frames` for which.
        stride: Distance of two frames.
        sampling: ``stride`` or ``uniform``.
        start: 0 or ``random``.
        rng: For ``random``.
        short_side: Larger pictures of a video file are made smaller while they are decoded, to
            this many pixels of the shorter side; None keeps their size.

    Raises:
        DataError: The video cannot be read, or the times are not inside it.
        SetupError: It is a video file, and PyAV is not installed.
    """
    part = parse_value(value)
    choice = (frames, stride, sampling, start, rng)
    if _is_array(part.path):
        array = _load(part.path)
        first, last = interval_frames(part, len(array), 0.0)
        index, repeated = plan_frames(last - first, *choice)
        return Clip(np.ascontiguousarray(array[first + index]), repeated)
    track = video_file.read_track(part.path)
    first, last = interval_frames(part, track.grid, track.fps)
    index, repeated = plan_frames(last - first, *choice)
    at = nearest_frames(track.times_s, (first + index) / track.fps)
    return Clip(video_file.read_at(part.path, track, at, short_side), repeated)


def audio_of(path: str) -> tuple[np.ndarray, int]:
    """Return the sound of a video file: samples ``(N,)`` float32, channels averaged, and Hz.

    The first sample belongs to the first frame.

    Raises:
        DataError: There is no sound, or it cannot be decoded.
        SetupError: PyAV is not installed.
    """
    return video_file.read_sound(path)


def interval(part: VideoValue, facts: VideoFacts) -> tuple[int, int]:
    """Return the half-open range of frames of a value, counted at an even distance.

    Raises:
        DataError: The times are not inside the video.
    """
    even = round(facts.duration_s * facts.fps) if facts.fps else facts.frames
    return interval_frames(part, even, facts.fps)


def length(value: str) -> int:
    """Return the frames of a clip, counted at an even distance.

    Raises:
        DataError: The video cannot be read, or the times are not inside it.
    """
    first, last, _ = _range(value)
    return last - first


def duration_s(value: str) -> float | None:
    """Return the seconds of a clip's picture; None for an array, whose frame rate is unknown.

    Raises:
        DataError: The video cannot be read, or the times are not inside it.
    """
    first, last, fps = _range(value)
    return (last - first) / fps if fps else None


def _range(value: str) -> tuple[int, int, float]:
    part = parse_value(value)
    if _is_array(part.path):
        return *interval_frames(part, len(_load(part.path)), 0.0), 0.0
    track = video_file.read_track(part.path)
    return *interval_frames(part, track.grid, track.fps), track.fps


def _is_array(path: str) -> bool:
    return path.endswith(".npy")


def _load(path: str) -> np.ndarray:
    how = "save frames as an array (T, H, W, 3) of uint8"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as e:
        raise DataError(f"not readable as an array ({e})", path, how) from None
    if array.ndim != 4 or array.shape[3] != 3 or array.dtype != np.uint8:
        raise DataError(f"frames of {array.dtype}, shape {array.shape}", path, how)
    if 0 in array.shape:
        raise DataError("the clip has no picture: the array is empty", path, how)
    return array
