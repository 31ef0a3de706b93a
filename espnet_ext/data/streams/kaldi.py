# SPDX-License-Identifier: Apache-2.0
"""``utt archive.ark:1234``: matrices and vectors in Kaldi archives."""

import os
from pathlib import Path

import numpy as np

from espnet_ext.data.streams.base import StreamType
from espnet_ext.errors import DataError


class KaldiArk(StreamType):
    """Arrays ``(T, ...)`` of Kaldi archives, read with ESPnet's own library."""

    loader = "kaldi_ark"

    def read(self, value: str) -> np.ndarray:
        from omniio import kaldi

        try:
            found = kaldi.load_mat(value)
        except Exception as e:  # the library raises whatever its parser meets
            how = "make the archive again"
            raise DataError(f"not readable as a Kaldi archive ({e})", value, how) from None
        return np.asarray(found[1] if isinstance(found, tuple) else found)

    def format(self, value: str, utt: str, folder: Path) -> str:
        super().format(value, utt, folder)
        file, colon, offset = value.rpartition(":")
        return f"{os.path.abspath(file)}:{offset}" if colon else os.path.abspath(value)
