# SPDX-License-Identifier: Apache-2.0
"""Texts of the stream ``sentence`` become vectors; made in the processes that load data."""

from typing import Any

import numpy as np

from espnet_ext.text.sentence_store import SentenceStore


class DualPreprocess:
    """ESPnet's preprocessor for the other streams; ``sentence`` is looked up in the store.

    Args:
        stock: ESPnet's, or None.
        sentences: Folder of the store.
        width: Values that a vector must have.
    """

    def __init__(self, stock: Any, sentences: str, width: int):
        self.stock, self.store = stock, SentenceStore(sentences, width)

    def __call__(self, utt: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        """Return the streams as arrays, ``sentence`` as ``(E,)`` float32."""
        rest = {k: v for k, v in data.items() if k != "sentence"}
        rest = self.stock(utt, rest) if self.stock is not None else rest
        return {**rest, "sentence": self.store[data["sentence"]]} if "sentence" in data else rest
