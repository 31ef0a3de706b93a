# SPDX-License-Identifier: Apache-2.0
"""Video files by PyAV, the extra ``[video]``: times of the frames, frames at given times, sound.

Times of frames come from the packets, which are read without decoding them: what a header says of
frames and durations is often missing or wrong.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from espnet_ext.errors import DataError, SetupError
from espnet_ext.installation import install

AGAIN = "copy, download or encode the file again"
SEEKABLE = ("mov", "matroska")  # containers with an index; others land anywhere
SEEK_S = 2.0  # a shorter way is decoded


class Track(NamedTuple):
    """What the packets of a video stream say.

    Attributes:
        pts: Presentation times of the frames, ascending, in units of ``base_s``; empty where the
            container has none.
        base_s: Seconds of a unit.
        count: Frames.
        lost: Frames that the header promises and the file lacks.
        fps: Frames a second.
    """

    pts: np.ndarray
    base_s: float
    count: int
    lost: int
    fps: float

    @property
    def times_s(self) -> np.ndarray:
        """Seconds of each frame from the first, ``(count,)``."""
        if not len(self.pts):
            return np.arange(self.count) / self.fps
        return (self.pts - self.pts[0]) * self.base_s

    @property
    def grid(self) -> int:
        """Frames of a video of the same length whose frames are ``1 / fps`` apart."""
        return max(1, round(float(self.times_s[-1]) * self.fps) + 1)

    @property
    def variable(self) -> bool:
        """Whether some frame is more than half a frame away from where it would be then."""
        even = np.arange(self.count) / self.fps
        return bool(np.abs(self.times_s - even).max() * self.fps > 0.5)


@contextmanager
def opened(path: str) -> Iterator[Any]:
    """Open a local file as a container of PyAV; what goes wrong inside is told as a DataError.

    Raises:
        DataError: Missing, empty or no video file.
        SetupError: PyAV is not installed.
    """
    try:
        import av
    except ImportError:
        frames = "give frames as .npy arrays (T, H, W, 3) of uint8"
        how = f"{install(extra='video')}, or {frames}"
        raise SetupError("video files need PyAV", path, how) from None
    try:
        if os.stat(path).st_size == 0:
            raise DataError("the video file is empty", path, AGAIN)
    except (OSError, ValueError):
        how = "correct the path in video.scp (relative paths start at the current directory)"
        raise DataError("the video file is missing", path, how) from None
    try:
        # "file:" keeps a path with a colon from being taken for an address.
        with av.open(f"file:{path}") as container:
            yield container
    except av.FFmpegError as e:
        raise DataError(f"not readable as video ({e.strerror})", path, AGAIN) from None


def picture(container: Any, path: str) -> Any:
    """Return the video stream, without cover pictures of sound files, decoded by one thread.

    Raises:
        DataError: There is none.
    """
    import av

    cover = int(av.stream.Disposition.attached_pic)
    for stream in container.streams.video:
        if not int(stream.disposition) & cover:
            stream.codec_context.thread_count = 1  # loaders' workers are the parallel part
            return stream
    raise DataError("the clip has no picture", path, "leave it out, or give its video")


def read_track(path: str) -> Track:
    """Return the times of all frames of a video file; no frame is decoded.

    Raises:
        DataError: Not readable, no frames, or a frame rate that nothing tells.
    """
    with opened(path) as container:
        stream = picture(container, path)
        packets = [p for p in container.demux(stream) if p.size and not p.is_corrupt]
        shown = [p.pts for p in packets if not p.is_discard]
        if not shown:
            raise DataError("the clip has no picture: its video has no frames", path, AGAIN)
        base_s = float(stream.time_base) if stream.time_base else 0.0
        timed = base_s > 0 and None not in shown and len(set(shown)) == len(shown)
        pts = np.array(sorted(shown) if timed else [], dtype=np.int64)
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        if fps <= 0 and len(pts) > 1:
            fps = (len(pts) - 1) / float((pts[-1] - pts[0]) * base_s)
        if not 0 < fps < 1e4:
            raise DataError("the frame rate is unknown", path, "encode the file again with one")
        lost = max(0, (stream.frames or 0) - len(packets))
        return Track(pts, base_s, len(shown), lost, fps)


def read_at(path: str, track: Track, index: np.ndarray, short_side: int | None) -> np.ndarray:
    """Return frames of a video as RGB, upright.

    A frame that cannot be decoded is replaced by the nearest that can.

    Args:
        path: Of the file.
        track: Of the file.
        index: Ascending indices into its frames, ``(T,)``.
        short_side: Larger pictures are made smaller, to this many pixels of the shorter side.

    Returns:
        ``(T, H, W, 3)`` uint8.

    Raises:
        DataError: None of them can be decoded.
    """
    needed = np.unique(index)
    found = _decode(path, track, needed, short_side, seek=track.times_s[needed[0]] > SEEK_S)
    if found is None:
        found = _decode(path, track, needed, short_side, seek=False)
    if not found:
        raise DataError("no frame of the video can be decoded", path, AGAIN)
    have = np.array(sorted(found))
    return np.stack([found[int(have[np.abs(have - i).argmin()])] for i in index])


def _decode(
    path: str, track: Track, needed: np.ndarray, short_side: int | None, seek: bool
) -> dict[int, np.ndarray] | None:
    """Return ``{index: frame}``; None if a seek went too far."""
    out: dict[int, np.ndarray] = {}
    upright = _Upright(short_side)
    timed = len(track.pts) > 0
    position = {int(track.pts[i]) if timed else int(i): int(i) for i in needed}
    last = max(position)
    with opened(path) as container:
        stream = picture(container, path)
        seek = seek and timed and container.format.name.split(",")[0] in SEEKABLE
        if seek:
            container.seek(min(position), stream=stream)
        for number, frame in enumerate(_frames(container, stream)):
            at = frame.pts if timed and frame.pts is not None else number
            if seek and number == 0 and at > min(position):
                return None
            if at in position:
                out[position[at]] = upright(frame)
            if at >= last:
                break
    return out


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    """Yield what can be decoded; a broken packet costs its own frames only."""
    import av

    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.InvalidDataError:
            continue


class _Upright:
    """Turns frames of one video into arrays ``(H, W, 3)`` of one size.

    PyAV's own ``frame.reformat`` keeps one scaler for all videos of a thread, and the scaler has
    threads: a worker that is forked later inherits it without them and waits for ever. This one
    belongs to one reading and has none.
    """

    def __init__(self, short_side: int | None = None):
        from av.video.reformatter import VideoReformatter

        self.scaler, self.short_side = VideoReformatter(), short_side
        self.size: tuple[int, int] | None = None  # of the first frame, before it is turned

    def __call__(self, frame: Any) -> np.ndarray:
        if self.size is None:
            side = min(frame.width, frame.height)
            scale = min(1.0, (self.short_side or side) / side)
            self.size = (max(1, round(frame.width * scale)), max(1, round(frame.height * scale)))
        width, height = self.size
        rgb = self.scaler.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="AREA", threads=1
        )
        return np.rot90(rgb.to_ndarray(), round(frame.rotation / 90) % 4)


def first_frame(path: str) -> tuple[np.ndarray, int]:
    """Return the first frame ``(H, W, 3)`` uint8, upright, and the degrees it was turned by.

    Raises:
        DataError: It cannot be decoded.
    """
    with opened(path) as container:
        for frame in _frames(container, picture(container, path)):
            return _Upright()(frame), round(frame.rotation) % 360
    raise DataError("no frame of the video can be decoded", path, AGAIN)


def sound_length(path: str) -> float | None:
    """Return the seconds of a file's sound by its packets; None without a sound track."""
    with opened(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        ends = [
            ((p.pts or 0) + (p.duration or 0), p.pts or 0)
            for p in container.demux(stream)
            if p.size and not p.is_discard
        ]
        if not ends:
            return None
        return float((max(e for e, _ in ends) - min(b for _, b in ends)) * stream.time_base)


def read_sound(path: str) -> tuple[np.ndarray, int]:
    """Return the sound of a file as one channel, ``(N,)`` float32, and its rate in Hz.

    The first sample belongs to the first frame of the picture: a sound that begins later is
    filled with zeros, of one that begins earlier the first part is left out.

    Raises:
        DataError: There is no sound, or it cannot be decoded.
    """
    import av

    with opened(path) as container:
        if not container.streams.audio:
            how = "leave the clip out, or give its audio in wav.scp"
            raise DataError("the clip has no sound", path, how)
        stream = container.streams.audio[0]
        rate = stream.rate
        begin, parts = None, []
        resampler = av.AudioResampler(format="fltp", rate=rate)  # of the format alone
        for frame in _frames(container, stream):
            begin = float(frame.time or 0.0) if begin is None else begin
            parts += _mono(resampler.resample(frame))
        parts += _mono(resampler.resample(None)) if parts else []
        offset_s = (begin or 0.0) - _picture_start(container)
    if not parts:
        raise DataError("the sound of the clip cannot be decoded", path, AGAIN)
    speech, offset = np.concatenate(parts), round(offset_s * rate)
    if offset > 0:
        speech = np.concatenate([np.zeros(offset, np.float32), speech])
    return speech[max(0, -offset) :], rate


def _picture_start(container: Any) -> float:
    for stream in container.streams.video:
        if stream.start_time is not None and stream.time_base:
            return float(stream.start_time * stream.time_base)
    return 0.0


def _mono(frames: Iterable[Any]) -> list[np.ndarray]:
    return [f.to_ndarray().mean(axis=0, dtype=np.float32) for f in frames]
