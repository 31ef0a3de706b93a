# SPDX-License-Identifier: Apache-2.0
"""``utt file.npy``: one array ``(T, ...)`` an utterance."""

import numpy as np

from espnet_ext.data.streams.base import FileStream
from espnet_ext.errors import DataError


class Npy(FileStream):
    """Arrays of numpy; the length is that of the first axis, read from the header."""

    loader = "npy"

    def read(self, value: str) -> np.ndarray:
        return np.asarray(self._load(value, None))

    def length(self, value: str) -> int:
        shape = self._load(value, "r").shape
        if not shape:
            raise DataError("the array has no axis of time", value, "save an array (T, ...)")
        return int(shape[0])

    def _load(self, value: str, mode: str | None) -> np.ndarray:
        try:
            return np.load(value, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as e:
            raise DataError(f"not readable as an array ({e})", value, "make it again") from None
