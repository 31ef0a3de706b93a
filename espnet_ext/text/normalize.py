# SPDX-License-Identifier: Apache-2.0
"""Normalisation of transcripts, so that manual and ASR text are written alike."""

import unicodedata

from espnet_ext.errors import UsageError, nearest

MODES = ("none", "lower", "words")
_RIGHT_QUOTE = "\N{RIGHT SINGLE QUOTATION MARK}"


def normalize(text: str, mode: str) -> str:
    """Normalise one sentence; doing it twice changes nothing more.

    Modes:
        none: As it is.
        lower: Lower case.
        words: Lower case; every character that is no letter, digit or apostrophe becomes a space;
            spaces are joined. Vowel signs and accents count as part of their letter, the
            typographic apostrophe becomes the plain one, and words of nothing but apostrophes
            (quotation marks) are dropped.

    Raises:
        UsageError: There is no such mode.
    """
    if mode not in MODES:
        raise UsageError(f"there is no normalisation '{mode}'", "normalize", nearest(mode, MODES))
    if mode == "none":
        return text
    text = text.lower()
    if mode == "lower":
        return text
    kept = "".join(c if _belongs(c) else " " for c in text.replace(_RIGHT_QUOTE, "'"))
    return " ".join(w for w in kept.split() if w.strip("'"))


def _belongs(char: str) -> bool:
    return char == "'" or unicodedata.category(char)[0] in "LMN"
