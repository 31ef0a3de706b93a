# SPDX-License-Identifier: Apache-2.0
"""From the best path of CTC to tagged text, words, and concepts with their times."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from espnet_ext.errors import UsageError
from espnet_ext.text import tagged

SPACE = "<space>"
END = "<sos/eos>"  # a symbol of decoders; it is read as nothing, as ESPnet's search leaves it out
_FORMS: dict[str, Callable[[str], str]] = {
    "char": lambda token: " " if token == SPACE else token,
    "word": lambda token: f" {token} ",
    "bpe": lambda token: token.replace("\u2581", " "),
}


@dataclass(frozen=True)
class Concept:
    """A unit that was heard.

    Attributes:
        concept: Its name, without the brackets of the tag.
        value: The words that express it; empty for a concept of the whole utterance (an intent).
        start_s, end_s: When they were said: from the first frame of the first character to the end
            of the last frame of the last one. CTC's symbols are peaks, so that these times lie
            within the words rather than at their edges. None for an empty value.
    """

    concept: str
    value: str
    start_s: float | None
    end_s: float | None


@dataclass(frozen=True)
class Reading:
    """Tagged text, its words alone, and its units."""

    tagged: str
    words: str
    concepts: tuple[Concept, ...]


def pieces(tokens: Sequence[str], kind: str) -> list[str]:
    """Return what each token adds to a text.

    Args:
        tokens: The token list.
        kind: ESPnet's ``token_type``: ``char``, ``word`` or ``bpe``.

    Raises:
        UsageError: Another kind.
    """
    if kind not in _FORMS:
        how = f"one of {', '.join(_FORMS)}"
        raise UsageError(f"tokens of type '{kind}' are not supported", "token_type", how)
    return ["" if token == END else _FORMS[kind](token) for token in tokens]


def read(
    path: Sequence[int],
    pieces: Sequence[str],
    starts_s: Sequence[float],
    shift_s: float,
    blank: int = 0,
) -> Reading:
    """Read the best symbol of each frame.

    Scoring reads :attr:`Reading.tagged` by SpeechBrain's rule, where a tag without a space behind
    it swallows the word: ``<city>milan`` is one unit of that name. The model wrote two symbols, so
    here the concept is ``city`` and its value ``milan``.

    Args:
        path: T symbols.
        pieces: What each symbol adds to the text, see :func:`pieces`.
        starts_s: Where each of the T frames begins, in seconds.
        shift_s: Length of a frame, in seconds.
        blank: Number of the blank.
    """
    said, text = "", ""  # as written, and with spaces around tags and closing marks
    first, last = [], []  # the frames of each character of the latter
    for symbol, run in groupby(enumerate(path), key=lambda x: x[1]):
        frames = [i for i, _ in run]
        if symbol != blank:
            said += (piece := pieces[symbol])
            if piece == tagged.CLOSE or tagged.TAG.fullmatch(piece):
                piece = f" {piece} "
            text += piece
            first += [frames[0]] * len(piece)
            last += [frames[-1]] * len(piece)
    words = [(m.start(), m.end()) for m in re.finditer(r"\S+", tagged.blanked(text))]
    found = []
    for unit, span in zip(tagged.units(text), tagged.spans(text), strict=True):
        start_s = end_s = None
        if span.start < span.stop:
            start_s = starts_s[first[words[span.start][0]]]
            end_s = starts_s[last[words[span.stop - 1][1] - 1]] + shift_s
        found.append(Concept(unit.concept, unit.value, _rounded(start_s), _rounded(end_s)))
    return Reading(" ".join(said.split()), tagged.plain(said), tuple(found))


def _rounded(seconds: float | None) -> float | None:
    """Return milliseconds' precision; never before the audio begins."""
    return None if seconds is None else round(max(0.0, float(seconds)), 3)
