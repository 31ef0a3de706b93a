# SPDX-License-Identifier: Apache-2.0
"""``utt some words``: text in the table itself; the task's preprocessor makes tokens of it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from espnet_ext.data.streams.base import Remark, StreamType
from espnet_ext.data.transcripts import remarks, tidy


class Text(StreamType):
    """Text; the length is counted in words."""

    loader = "text"
    with_speed = True
    in_table = True
    usual_form = "in Unicode NFC, with single plain spaces"

    def read(self, value: str) -> np.ndarray:
        return np.array(value.split())

    def check(self, value: str, full: bool = True) -> Iterator[Remark]:
        for what, how in remarks(value):
            yield "warning", what, how

    def format(self, value: str, utt: str, folder: Path) -> str:
        """Return the text in the one form that training and scoring use."""
        return tidy(value)
