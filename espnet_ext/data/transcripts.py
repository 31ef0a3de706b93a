# SPDX-License-Identifier: Apache-2.0
"""One form of text for training and scoring: Unicode NFC, plain spaces, nothing invisible.

Text that looks the same should be the same: otherwise one word is two, and a recogniser that wrote
what a person reads is counted as wrong. Case and punctuation are left alone; joiners that change
how letters are written (U+200C, U+200D) stay.
"""

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.data.tables import iter_table

_SPACES = re.compile(
    "[\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000\x1c-\x1f\x85\t\v\f\r]"
)
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_UNKNOWN = re.compile(r"(?<!\S)[<\[(]unk[>\])](?!\S)", re.IGNORECASE)
_RESERVED = re.compile(r"(?<!\S)<(?:blank|space|sos/eos|sos|eos|s|/s)>(?!\S)", re.IGNORECASE)
_TIDIED = "format writes it in the usual form; correct the source if others use it"


def tidy(text: str) -> str:
    """Return ``text`` in NFC with single plain spaces and without invisible characters."""
    if not text.isascii():
        text = _SPACES.sub(" ", _INVISIBLE.sub("", unicodedata.normalize("NFC", text)))
    return " ".join(text.split())


def read_texts(path: Path | str) -> dict[str, str]:
    """Return ``{utterance: tidy text}`` of a table."""
    return {utt: tidy(text) for utt, text in iter_table(path)}


def remarks(text: str) -> Iterator[tuple[str, str]]:
    """Yield ``(what, how)`` for each thing about ``text`` that is likely to be a mistake."""
    if not text.isascii():
        for kind, found in (("unusual space", _SPACES), ("invisible character", _INVISIBLE)):
            if match := found.search(text):
                code = f"U+{ord(match[0]):04X}"
                yield f"contains an {kind} ({code})", _TIDIED
        if not unicodedata.is_normalized("NFC", text):
            yield "is not in Unicode NFC: letters and accents stand apart (NFD)", _TIDIED
    if match := _UNKNOWN.search(text):
        how = "write what was said, or drop the utterance: the model would learn to write it"
        yield f"contains '{match[0]}'", how
    if match := _RESERVED.search(text):
        how = "remove it: ESPnet's token lists use it for something else"
        yield f"contains '{match[0]}'", how
