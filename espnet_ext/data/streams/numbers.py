# SPDX-License-Identifier: Apache-2.0
"""``utt 3 1 2``: numbers in the table itself."""

import numpy as np

from espnet_ext.data.streams.base import StreamType
from espnet_ext.errors import DataError


class TextInt(StreamType):
    """Whole numbers, separated by spaces."""

    loader, separator, dtype = "text_int", None, np.int64
    in_table = True

    def read(self, value: str) -> np.ndarray:
        words = value.split(self.separator)
        try:
            return np.array([self.dtype(word) for word in words], dtype=self.dtype)
        except ValueError as e:
            raise DataError(f"not a list of numbers ({e})", None, "correct the line") from None


class CsvInt(TextInt):
    """Whole numbers, separated by commas."""

    loader, separator = "csv_int", ","


class TextFloat(TextInt):
    """Numbers, separated by spaces."""

    loader, dtype = "text_float", np.float32


class CsvFloat(TextInt):
    """Numbers, separated by commas."""

    loader, separator, dtype = "csv_float", ",", np.float32
