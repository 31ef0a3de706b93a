# SPDX-License-Identifier: Apache-2.0
"""BPE units in time: frame labels from the words and phones of an alignment.

Where a word lies is known, where its units lie inside is not. Rules:

* ``phone_proportional``: a unit gets the share of the word's phones that it has of its letters,
  and the time of these phones;
* ``equal``: all units of a word are equally long;
* ``hybrid_bpe_lexicon``: the aligner's lexicon spelt words in these units, so the phones are they.

Frames outside words are a class of their own, V. Letters: T frames, L units, V size of the
vocabulary, n units and P phones of a word.
"""

import itertools
from collections.abc import Sequence

import numpy as np

from espnet_ext.errors import DataError, UsageError

WORD_START = "\u2581"  # of sentencepiece


class UnitWords:
    """Which word each unit of a transcript belongs to.

    Args:
        tokens: The token list; V names.
        kind: ESPnet's token type: ``bpe``, ``char`` or ``word``.
    """

    def __init__(self, tokens: Sequence[str], kind: str | None = "bpe"):
        self.space = np.array([t == "<space>" for t in tokens])
        if kind == "word":
            self.starts = np.ones(len(tokens), bool)
        else:
            self.starts = np.array([t.startswith(WORD_START) for t in tokens])
        self.letters = np.array(
            [0 if t == WORD_START else len(t.strip(WORD_START)) for t in tokens]
        )
        unnamed = np.array([t.startswith("<") and t.endswith(">") for t in tokens])
        self.letters[unnamed] = 1

    def split(self, units: np.ndarray) -> list[np.ndarray]:
        """Return the units of each word of ``units (L,)``."""
        begins = self.starts[units] | np.concatenate([[False], self.space[units][:-1]])
        if len(units):
            begins[0] = True
        word = np.cumsum(begins) - 1
        spoken = ~self.space[units]
        return [units[(word == w) & spoken] for w in range(word[-1] + 1 if len(units) else 0)]


def unit_bounds(start: int, phone_ends: np.ndarray, letters: np.ndarray, split: str) -> np.ndarray:
    """Return where the units of a word end.

    Args:
        start: First frame of the word.
        phone_ends: ``(P,)`` frame after each phone.
        letters: ``(n,)`` letters of each unit.
        split: ``phone_proportional`` or ``equal``.

    Returns:
        ``(n,)`` frame after each unit; the last is the end of the word.
    """
    n, end = len(letters), int(phone_ends[-1])
    if split == "equal" or letters.sum() == 0:
        ends = start + (end - start) * np.arange(1, n + 1) / n
    else:
        share = np.cumsum(letters) / letters.sum() * len(phone_ends)
        ends = np.interp(share, np.arange(len(phone_ends) + 1), [start, *phone_ends])
    return np.floor(ends + 0.5).astype(np.int64)


def bpe_frame_labels(
    frame_words: np.ndarray,
    frame_phones: np.ndarray | None,
    words: list[np.ndarray],
    letters: np.ndarray,
    split: str = "phone_proportional",
) -> np.ndarray:
    """Return the unit of every frame.

    Args:
        frame_words: ``(T,)`` index of the word, -1 outside words.
        frame_phones: ``(T,)`` phone ids; only for ``phone_proportional``.
        words: The units of each word of the transcript.
        letters: ``(V,)`` letters of every unit.
        split: ``phone_proportional`` or ``equal``.

    Returns:
        ``(T,)`` int64 in ``[0, V]``; all -1 if no word is aligned.

    Raises:
        DataError: The alignment has more words than the transcript.
    """
    frame_words = np.asarray(frame_words)
    if not (frame_words >= 0).any():
        return np.full(len(frame_words), -1, np.int64)
    if frame_words.max() >= len(words):
        raise DataError(
            f"the alignment has {frame_words.max() + 1} words, the text has {len(words)}",
            "align_word", "align the text that is trained on",
        )  # fmt: skip
    out = np.full(len(frame_words), len(letters), np.int64)
    changes = np.flatnonzero(np.diff(frame_words)) + 1
    bounds = [0, *changes.tolist(), len(frame_words)]
    for start, end in itertools.pairwise(bounds):
        word = frame_words[start]
        if word < 0 or len(words[word]) == 0:
            continue
        ends = np.array([end])
        if split == "phone_proportional":
            inside = np.asarray(frame_phones)[start:end]
            ends = np.append(start + 1 + np.flatnonzero(np.diff(inside)), end)
        units = words[word]
        at = unit_bounds(start, ends, letters[units], split)
        which = np.searchsorted(at, np.arange(start, end), side="right")
        out[start:end] = units[np.minimum(which, len(units) - 1)]
    return out


class BpeLabeller:
    """Turn the streams of an utterance into stream ``align_bpe``; runs in the loader's workers.

    Args:
        tokens: The token list.
        token_type: ESPnet's token type.
        split: One of the module's rules.
        phones: Names by phone id, for ``hybrid_bpe_lexicon``.

    Raises:
        UsageError: A phone is not a token, with ``hybrid_bpe_lexicon``.
    """

    def __init__(
        self, tokens: Sequence[str], token_type: str | None, split: str, phones: Sequence[str] = ()
    ):
        self.units, self.split, self.size = UnitWords(tokens, token_type), split, len(tokens)
        self.of_phone: np.ndarray | None = None
        if split == "hybrid_bpe_lexicon":
            ids = {t: i for i, t in enumerate(tokens)}
            lost = [p for p in phones[1:] if p not in ids]
            if lost or len(phones) < 2:
                raise UsageError(
                    f"the alignment's phones are not BPE units: {', '.join(lost[:5]) or 'none'}",
                    "aux.bpe_split", "align with a lexicon that spells words in the BPE units",
                )  # fmt: skip
            self.of_phone = np.array([self.size, *(ids[p] for p in phones[1:])])

    def __call__(self, utt: str, data: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Add ``align_bpe`` to the streams of one utterance; ``text`` holds token ids."""
        frame_words, frame_phones = data["align_word"], data.get("align_phone")
        if self.of_phone is not None:
            aligned = (np.asarray(frame_words) >= 0).any()
            labels = self.of_phone[np.maximum(frame_phones, 0)]
            labels = np.where(np.asarray(frame_words) >= 0, labels, self.size)
            data["align_bpe"] = labels if aligned else np.full(len(labels), -1, np.int64)
            return data
        try:
            data["align_bpe"] = bpe_frame_labels(
                frame_words,
                frame_phones,
                self.units.split(np.asarray(data["text"])),
                self.units.letters,
                self.split,
            )
        except DataError as e:
            raise DataError(f"{utt}: {e.what}", e.where, e.how) from None
        return data
