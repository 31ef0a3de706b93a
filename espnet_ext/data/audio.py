# SPDX-License-Identifier: Apache-2.0
"""Reading and resampling audio with soundfile; every failure names the file.

Whoever reads gets one channel: the average, or a chosen one. What no model can use (samples that
are no finite numbers, channels that cancel) is refused; see :mod:`espnet_ext.data.content`.

Times are in seconds (``_s``), intervals half-open: sample ``i`` belongs to ``[start_s, end_s)``
when ``round(start_s * rate) <= i < round(end_s * rate)``.
"""

import io
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile as sf
import soxr

from espnet_ext.data import content
from espnet_ext.data.pipes import is_pipe, run_pipe
from espnet_ext.data.tar_member import parse_member, read_member
from espnet_ext.errors import DataError

END_TOLERANCE_S = 0.02  # an end beyond the audio by this much is rounding in the annotation
BLOCK = 1 << 20  # samples that are checked at once
_STREAMED = 0x7FFF0000  # tools that write WAV to a pipe cannot know the length and put a huge one
_HEAD_BYTES = 1024
_BAD = (sf.SoundFileError, RuntimeError, OSError, ValueError, TypeError)


@dataclass(frozen=True)
class AudioInfo:
    """Length in samples per channel, sampling rate in Hz, channels, libsndfile's format names."""

    frames: int
    rate: int
    channels: int
    format: str = ""
    subtype: str = ""

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frames / self.rate


def info(path: str | os.PathLike, allow_pipes: bool = False) -> AudioInfo:
    """Read the header of an audio file and try its last sample.

    Args:
        path: Audio file, or a piped ``wav.scp`` value.
        allow_pipes: Run piped values (without a shell) instead of refusing them.

    Raises:
        DataError: Missing, zero-length, truncated, not audio, or a refused pipe.
    """
    with open_audio(path, allow_pipes) as f:
        got = describe(f)
        _read_frames(f, max(0, got.frames - 1), got.frames, path)
        return got


def read(
    path: str | os.PathLike,
    start_s: float | None = None,
    end_s: float | None = None,
    allow_pipes: bool = False,
    channel: int | None = None,
) -> tuple[np.ndarray, int]:
    """Read ``[start_s, end_s)`` of an audio file.

    Args:
        path: Audio file, or a piped ``wav.scp`` value.
        start_s: Start in seconds; None is the beginning.
        end_s: End in seconds, up to 0.02 s beyond the audio; None is the end of the audio.
        allow_pipes: Run piped values (without a shell) instead of refusing them.
        channel: Channel to take, counted from 0; None averages all.

    Returns:
        Samples ``(N,)`` float32 in [-1, 1] and the rate in Hz.

    Raises:
        DataError: The file is not usable, or the times are not inside it.
        ContentError: A sample is not finite, or the channels cancel each other.
    """
    with open_audio(path, allow_pipes) as f:
        first, last = frame_range(describe(f), start_s, end_s, path)
        return read_frames(f, first, last, path, channel), f.samplerate


def resample(speech: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Resample ``speech`` ``(N,)`` float32 from ``from_hz`` to ``to_hz``; about N * to / from."""
    if from_hz == to_hz:
        return speech
    return soxr.resample(speech, from_hz, to_hz).astype(np.float32, copy=False)


@contextmanager
def open_audio(path: str | os.PathLike, allow_pipes: bool = False) -> Iterator[sf.SoundFile]:
    """Open audio for reading and check that all of it is there; see :func:`info`."""
    name = os.fspath(path)
    if is_pipe(name):
        if not allow_pipes:
            raise DataError(
                "the entry is a command, and commands are refused",
                name,
                "allow pipes if you trust who wrote wav.scp",
            )
        source, head = io.BytesIO(run_pipe(name, name)), b""
    elif member := parse_member(name):
        data = read_member(member)
        source, head = io.BytesIO(data), data[:_HEAD_BYTES]
    else:
        source, head = os.fsencode(name), _head(name)
    if head.startswith(b"ajkg") or (head.startswith(b"NIST_1A") and b"shorten" in head):
        raise DataError(
            "the NIST sphere file is compressed with shorten, which libsndfile cannot read",
            name,
            "use 'sph2pipe -f wav FILE |' in wav.scp, or convert the file",
        )
    try:
        f = sf.SoundFile(source)
    except _BAD as e:
        raise DataError(f"not readable as audio ({e})", name, "replace the file") from None
    with f:
        expected = _declared_frames(name, head, f) if head else f.frames
        if expected > f.frames or f.frames <= 0 or f.samplerate <= 0:
            found = f"only {f.frames} of {expected} samples" if f.frames > 0 else "no samples"
            raise DataError(f"truncated: {found}", name, "copy or download the file again")
        yield f


def describe(f: sf.SoundFile) -> AudioInfo:
    """Return what the header of an open file says."""
    return AudioInfo(f.frames, f.samplerate, f.channels, f.format, f.subtype)


def frame_range(
    audio: AudioInfo, start_s: float | None, end_s: float | None, where: object
) -> tuple[int, int]:
    """Turn times in seconds into a half-open range of samples inside the audio.

    Raises:
        DataError: ``0 <= start_s < end_s <= duration + 0.02`` does not hold.
    """
    start_s = 0.0 if start_s is None else start_s
    end_s = audio.duration_s if end_s is None else end_s
    inside = 0 <= start_s < min(end_s, audio.duration_s)
    if not inside or end_s > audio.duration_s + END_TOLERANCE_S:
        raise DataError(
            f"[{start_s:g}, {end_s:g}) s is not inside the audio of {audio.duration_s:.3f} s",
            where,
            "correct the times in segments",
        )
    return round(start_s * audio.rate), min(round(end_s * audio.rate), audio.frames)


def read_frames(
    f: sf.SoundFile, first: int, last: int, where: object, channel: int | None = None
) -> np.ndarray:
    """Read samples ``[first, last)`` of an open file as mono ``(last - first,)`` float32.

    Raises:
        DataError: The samples are not readable, or there is no such channel.
        ContentError: A sample is not finite, or the channels cancel each other.
    """
    speech, found = read_content(f, first, last, where, channel)
    found.require(where, content.BROKEN)
    return speech


def read_content(
    f: sf.SoundFile, first: int, last: int, where: object, channel: int | None = None
) -> tuple[np.ndarray, content.Content]:
    """Like :func:`read_frames`, with the figures of the audio, whatever they are.

    Raises:
        DataError: The samples are not readable, or there is no such channel.
    """
    data = _of_channel(_read_frames(f, first, last, where), channel, where)
    speech = data[:, 0] if data.shape[1] == 1 else data.mean(axis=1, dtype=np.float32)
    return speech, content.inspect(data)


def check_frames(
    f: sf.SoundFile, first: int, last: int, where: object, channel: int | None = None
) -> content.Content:
    """Read samples ``[first, last)`` of an open file block by block and return their figures.

    Raises:
        DataError: The samples are not readable (damaged in the middle), or no such channel.
    """
    found = content.Content(f.channels if channel is None else 1)
    for begin in range(first, last, BLOCK):
        block = _read_frames(f, begin, min(begin + BLOCK, last), where)
        found.add(_of_channel(block, channel, where))
    return found


def _of_channel(data: np.ndarray, channel: int | None, where: object) -> np.ndarray:
    """Return the columns ``(N, C)`` that are averaged: all, or the chosen one."""
    if channel is None:
        return data
    if wrong := content.channel_fault(channel, data.shape[1]):
        raise DataError(wrong, where, "choose another channel, or the average of all")
    return data[:, channel : channel + 1]


def _read_frames(f: sf.SoundFile, first: int, last: int, where: object) -> np.ndarray:
    how = "copy or download the file again"
    try:
        f.seek(first)
        data = f.read(last - first, dtype="float32", always_2d=True)
    except _BAD as e:
        raise DataError(f"samples {first} to {last} are not readable ({e})", where, how) from None
    if len(data) < last - first:
        raise DataError(f"the audio breaks off at sample {first + len(data)}", where, how)
    return data


def _head(name: str) -> bytes:
    try:
        status = os.stat(name)
        if not stat.S_ISREG(status.st_mode):
            raise DataError("the audio path is not a file", name, "give the path of an audio file")
        if status.st_size == 0:
            raise DataError("the audio file is empty", name, "copy or download the file again")
        with open(name, "rb") as f:
            return f.read(_HEAD_BYTES)
    except (OSError, ValueError) as e:
        ark = re.search(r"\.ark:\d+$", name)
        raise DataError(
            "the audio file is missing" if isinstance(e, FileNotFoundError) else f"not usable: {e}",
            name,
            "Kaldi archives are not read: give audio files"
            if ark
            else "correct the path in wav.scp (relative paths start at the current directory)",
        ) from None


def _declared_frames(name: str, head: bytes, f: sf.SoundFile) -> int:
    """Samples the header promises; libsndfile silently trims WAV and sphere to what is there."""
    if head.startswith(b"NIST_1A"):
        count = re.search(rb"sample_count -i (\d+)", head)
        return int(count[1]) if count else f.frames
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        member = parse_member(name)
        with io.BytesIO(read_member(member)) if member else open(name, "rb") as riff:
            declared, present = _riff_data_bytes(riff)
        if present < declared < _STREAMED and f.frames > 0 and present > 0:
            return -(-f.frames * declared // present)
    return f.frames


def _riff_data_bytes(f: BinaryIO) -> tuple[int, int]:
    """Return the bytes that the data chunk of a WAV file should hold and those it does hold."""
    size, position = f.seek(0, os.SEEK_END), 12
    while position + 8 <= size:
        f.seek(position)
        chunk, length = f.read(4), int.from_bytes(f.read(4), "little")
        if chunk == b"data":
            return length, max(0, size - position - 8)
        position += 8 + length + length % 2
    return 0, 0
