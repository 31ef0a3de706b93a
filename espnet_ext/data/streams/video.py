# SPDX-License-Identifier: Apache-2.0
"""``utt file.mp4 [start end]``: clips of video; see :mod:`espnet_ext.data.video`.

ESPnet's data set makes float32 or int64 of each array, 4 or 8 bytes of a pixel's one, and refuses
uint8. So it gets the value as a text and hands it on; the method's preprocessor reads the frames it
wants (:mod:`espnet_ext.multistage.preprocess`).
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from espnet_ext.data import video
from espnet_ext.data.streams.base import Remark, StreamType, apart
from espnet_ext.errors import DataError


class Video(StreamType):
    """Clips of video, or of frames in arrays; the length is counted in frames."""

    loader = "text"

    def read(self, value: str) -> np.ndarray:
        """Return all frames ``(T, H, W, 3)`` uint8."""
        return video.read_clip(value, self.length(value), 1).frames

    def length(self, value: str) -> int:
        return video.length(value)

    def duration_s(self, value: str) -> float | None:
        """Return the seconds of the picture; None for an array."""
        return video.duration_s(value)

    def check(self, value: str, full: bool = True) -> Iterator[Remark]:
        """Yield what is wrong with a clip; all frames are found, the first one is decoded."""
        try:
            part = video.parse_value(value)
            facts = video.probe(part.path)
            video.interval(part, facts)
        except DataError as e:
            yield "error", f"{e.what}: {e.where}", e.how or ""
            return
        if facts.lost:
            yield "warning", "lacks a frame that its header promises", "copy the file again"
        if facts.variable:
            how = "nothing to do: frames are taken by time"
            yield "warning", "has frames at varying distances", how
        if facts.has_audio and apart(facts.duration_s, facts.audio_s):
            what = "its picture and its own sound differ in length"
            yield "warning", what, "check that the file is complete"

    def format(self, value: str, utt: str, folder: Path) -> str:
        """Return the value with an absolute path; the file stays where it is."""
        super().format(value, utt, folder)
        part = video.parse_value(value)
        return " ".join([os.path.abspath(part.path), *value[len(part.path) :].split()])
