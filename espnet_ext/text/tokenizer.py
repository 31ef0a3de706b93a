# SPDX-License-Identifier: Apache-2.0
"""What training needs to know of a text encoder, and its tokenizer; without torch and transformers.

``about.json`` beside the model holds it, so that data loading needs the light package tokenizers.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError

ABOUT = "about.json"
EMPTY = "<empty>"  # stands for an empty text in dump/: ESPnet reads no line without a value


@dataclass(frozen=True)
class About:
    """What stage 4 wrote down of an encoder.

    Attributes:
        source: Folder or name it came from; empty: made here, with random weights.
        vocab_size: Rows of its embedding.
        pad_id, mask_id: Sub-words of these meanings.
        special_ids: All special sub-words: never masked.
        max_tokens: Longest text it can take, in sub-words.
        name: What people call it, e.g. ``all-MiniLM-L6-v2``; empty: made here, or not written down.
        layers, layers_of: How many of its layers are used, the lowest ones, and how many it has; 0
            where this was not written down.
        random_head: Whether its masked-LM head has random weights, as the folder has none.
    """

    source: str
    vocab_size: int
    pad_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    max_tokens: int
    name: str = ""
    layers: int = 0
    layers_of: int = 0
    random_head: bool = False


def read_about(folder: Path | str) -> About:
    """Read ``about.json``.

    Raises:
        DataError: It is missing or broken.
    """
    path = Path(folder) / ABOUT
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        return About(**{**about, "special_ids": tuple(about["special_ids"])})
    except (OSError, ValueError, TypeError, KeyError) as e:
        how = "./run.sh --stage tokens"
        raise DataError(f"no usable text encoder: {type(e).__name__}", path, how) from None


class TextTokenizer:
    """Text to sub-word ids, with the encoder's special ones around them.

    Args:
        folder: Of the encoder.
        max_tokens: Longer texts are cut.
    """

    def __init__(self, folder: Path | str, max_tokens: int = 64):
        from tokenizers import Tokenizer

        self.about = read_about(folder)
        path = Path(folder) / "tokenizer.json"
        try:
            self.tokenizer = Tokenizer.from_file(str(path))
        except Exception as e:  # the package raises bare exceptions
            raise DataError(f"the tokenizer cannot be read: {e}", path) from None
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(min(max_tokens, self.about.max_tokens))

    def __call__(self, text: str) -> np.ndarray:
        """Return ``(T,)`` int64; an empty text has its special sub-words only."""
        return np.array(self.tokenizer.encode("" if text == EMPTY else text).ids, dtype=np.int64)
