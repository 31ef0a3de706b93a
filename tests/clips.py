# SPDX-License-Identifier: Apache-2.0
"""Real video files for tests: frames whose brightness tells their number, with or without sound."""

from fractions import Fraction
from pathlib import Path

import numpy as np

STEP = 3  # of brightness from one frame to the next


def brightness(number: int) -> int:
    """Return the grey of a frame; from number 75 on, that of an earlier one."""
    return 10 + STEP * (number % 75)


def numbers(frames: np.ndarray) -> list[int]:
    """Return the numbers of frames ``(T, H, W, 3)`` that were read back."""
    return [round((float(np.median(f)) - 10) / STEP) for f in frames]


def picture(number: int, width: int, height: int) -> np.ndarray:
    """Return a frame ``(H, W, 3)`` uint8."""
    out = np.full((height, width, 3), brightness(number), np.uint8)
    out[:, : width // 3] //= 2
    return out


def write_clip(
    path: Path,
    frames: int = 75,
    *,
    size: tuple[int, int] = (32, 24),
    fps: int = 25,
    times: list[int] | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    sound_s: float | None = None,
    rate: int = 16000,
    sound_codec: str = "aac",
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video file.

    Args:
        path: Its ending is the kind of container.
        frames: How many; frame ``i`` has the brightness ``10 + 3 i``, its left third is darker.
        size: Width and height in pixels.
        fps: Frames a second.
        times: Time of each frame in units of ``1 / fps``; None: one after the other.
        codec: Name of ffmpeg's encoder; ``pix_fmt`` likewise.
        rotation: Degrees counter-clockwise by which players turn it.
        sound_s: Seconds of a 440 Hz tone in two channels; None for no sound track.
        rate: Of the sound, in Hz; ``sound_codec`` is the name of ffmpeg's encoder of it.
        options: Of the container, e.g. ``{"movflags": "faststart"}``.
    """
    import av

    with av.open(str(path), "w", options=options or {}) as out:
        video = out.add_stream(codec, rate=fps)
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        video.time_base = Fraction(1, fps)
        # Keyframes in the middle, and frames that are not stored in the order in which they show.
        video.options = {"g": "12", "bf": "2", "crf": "4"} if codec == "libx264" else {}
        if rotation:
            video.set_display_rotation(rotation)
        sound = None if sound_s is None else out.add_stream(sound_codec, rate, layout="stereo")
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(picture(i, *size), format="rgb24")
            frame.pts = times[i] if times else i
            # The stream takes another when its header is written.
            frame.time_base = Fraction(1, fps)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        if sound is not None:
            write_tone(out, sound, sound_s, rate)
    return path


def write_tone(out, stream, seconds: float, rate: int) -> None:
    """Write a tone in two channels."""
    import av

    t = np.arange(round(seconds * rate)) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * t).astype(np.float32)
    frame = av.AudioFrame.from_ndarray(np.stack([tone, tone]), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
    fifo = av.AudioFifo()
    fifo.write(frame)
    for part in fifo.read_many(1024, partial=True):
        out.mux(stream.encode(part))
    out.mux(stream.encode())


def write_array(path: Path, frames: int = 75, size: tuple[int, int] = (32, 24)) -> Path:
    """Write such frames as an array ``(T, H, W, 3)``."""
    width, height = size
    array = np.empty((frames, height, width, 3), np.uint8)
    array[:] = np.array([brightness(i) for i in range(frames)], np.uint8)[:, None, None, None]
    np.save(path, array)
    return path
