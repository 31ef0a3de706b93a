# SPDX-License-Identifier: Apache-2.0
"""``utt file.wav``: audio, one channel of float samples.

The audio in wav.scp says which utterances there are (segments, speed copies), so its way through
format is :mod:`espnet_ext.data.format_job`. Further audio streams keep their files, which must have
the rate of the result.
"""

from collections.abc import Iterator

import numpy as np

from espnet_ext.data import audio, content
from espnet_ext.data.streams.base import FileStream, Remark
from espnet_ext.errors import DataError


class Sound(FileStream):
    """Audio files; the length is counted in samples."""

    loader = "sound"

    def read(self, value: str) -> np.ndarray:
        return audio.read(value)[0]

    def length(self, value: str) -> int:
        return audio.info(value).frames

    def rate_hz(self, value: str) -> int:
        return audio.info(value).rate

    def check(self, value: str, full: bool = True) -> Iterator[Remark]:
        """Yield what is wrong with the header and, with ``full``, with the samples."""
        try:
            with audio.open_audio(value) as f:
                last = f.frames
                found = audio.check_frames(f, 0 if full else last - 1, last, value)
        except DataError as e:
            yield "error", f"{e.what}: {e.where}", e.how or ""
            return
        if full and (fault := found.fault()):
            level = "error" if fault.reason in content.BROKEN else "warning"
            yield level, f"{fault.reason}: {fault.detail}", fault.how
