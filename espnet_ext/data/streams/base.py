# SPDX-License-Identifier: Apache-2.0
"""What a type of data stream brings; see :mod:`espnet_ext.data.streams`."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.errors import DataError

if TYPE_CHECKING:  # plans name types of streams, and importing numpy takes half a second
    import numpy as np

Remark = tuple[str, str, str]  # level (error or warning), what, how to fix it
APART_S = 0.5  # by which the audio and what runs beside it may differ in length


class StreamType:
    """One type of stream; subclass it and give :meth:`read`.

    Attributes:
        loader: Name of ESPnet's own reader of this type; empty: :meth:`read` is used.
        with_speed: Whether a speed copy of the audio may keep the value as it is. A text may, what
            runs beside the audio (video, frame labels) may not.
        in_table: The value itself is the data: quick to format, no need of workers.
        in_shards: Audio inside tar files can be read; format leaves it there.
        usual_form: How format writes such data, for the note on those that it changed.
    """

    loader = ""
    with_speed = False
    in_table = False
    in_shards = False
    usual_form = ""

    def read(self, value: str) -> "np.ndarray":
        """Return what the model gets of a table's value: ``(T, ...)``, or ``(N,)`` for sound.

        Raises:
            DataError: The value cannot be read.
        """
        raise NotImplementedError

    def length(self, value: str) -> int:
        """Return the length of a value, in the unit in which batches are counted."""
        return len(self.read(value))

    def rate_hz(self, value: str) -> int | None:
        """Return the samples per second of a value where that must be ``format.fs``."""
        return None

    def duration_s(self, value: str) -> float | None:
        """Return the seconds of a value that must last as long as the audio; None: it need not.

        Raises:
            DataError: The value cannot be read.
        """
        return None

    def check(self, value: str, full: bool = True) -> Iterator[Remark]:
        """Yield what is wrong with a value; by default, whether it can be read and is not empty.

        Args:
            value: Of the table, after the key.
            full: Read all of it; else what is quick to tell.
        """
        try:
            length = self.length(value) if full else 1
        except DataError as e:
            yield "error", e.what if e.where is None else f"{e.what}: {e.where}", e.how or ""
            return
        if length < 1:
            yield "error", "is empty", "give its data, or remove the utterance"

    def format(self, value: str, utt: str, folder: Path) -> str:
        """Return the value for ``dump/``, usable from any folder.

        Args:
            value: Of the source.
            utt: Utterance id.
            folder: Where this stream may write files; made by who writes.

        Raises:
            DataError: The utterance cannot be used.
        """
        for level, what, how in self.check(value):
            if level == "error":
                raise DataError(what, utt, how)
        return value


def apart(beside_s: float, audio_s: float) -> str | None:
    """Say how long both are where what runs beside the audio does not fit it, else None."""
    if abs(beside_s - audio_s) <= APART_S:
        return None
    return f"it lasts {beside_s:.2f} s, and the audio {audio_s:.2f} s"


class FileStream(StreamType):
    """A type whose values are paths of files, one an utterance."""

    def check(self, value: str, full: bool = True) -> Iterator[Remark]:
        """Yield what is wrong: a missing file, then what the base says."""
        try:
            empty = os.stat(value).st_size == 0
        except (OSError, ValueError):
            yield "error", f"the file is missing: {value}", "correct the path"
            return
        if empty:
            yield "error", f"the file is empty: {value}", "make it again"
        else:
            yield from super().check(value, full)

    def format(self, value: str, utt: str, folder: Path) -> str:
        """Return the absolute path; the file stays where it is."""
        super().format(value, utt, folder)
        return os.path.abspath(value)
