# SPDX-License-Identifier: Apache-2.0
"""Transcripts and labels as numbers: what ESPnet's data loading calls for each utterance."""

from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.text.tokenizer import TextTokenizer

UNKNOWN = -1  # label that the training set lacks


def read_label_lists(folder: Path | str) -> dict[str, list[str]]:
    """Return the labels of each head, ``<head>.txt`` in the folder, by the heads' order.

    Raises:
        DataError: There is none, or no order.
    """
    folder = Path(folder)
    order = folder / "heads.txt"
    if not order.is_file():
        raise DataError("there are no lists of labels", folder, "./run.sh --stage format")
    heads = order.read_text(encoding="utf-8").split()
    return {h: (folder / f"{h}.txt").read_text(encoding="utf-8").splitlines() for h in heads}


class TextPreprocessor:
    """Callable of ``(utterance, streams)``: text becomes ``(T,)`` int64, labels ``(H,)``.

    Args:
        text_encoder: Folder of the encoder, for its tokenizer.
        labels: Folder of the lists of labels; None if there is no stream ``label``.
        max_tokens: Longer texts are cut.
    """

    def __init__(self, text_encoder: str, labels: str | None, max_tokens: int):
        self.tokenizer = TextTokenizer(text_encoder, max_tokens)
        lists = read_label_lists(labels) if labels else {}
        self.ids = [{name: i for i, name in enumerate(names)} for names in lists.values()]

    def __call__(self, uid: str, data: dict) -> dict[str, np.ndarray]:
        """Return the streams as numbers; a label that training lacks is :data:`UNKNOWN`."""
        out = {k: self.tokenizer(v) for k, v in data.items() if k != "label"}
        if "label" in data:
            names = data["label"].split()
            pairs = zip(self.ids, names, strict=True)
            out["label"] = np.array([ids.get(name, UNKNOWN) for ids, name in pairs], dtype=np.int64)
        return out
