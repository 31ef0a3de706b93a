# SPDX-License-Identifier: Apache-2.0
"""Tagged text: words with the concepts that they express, for example
``je voudrais <chambre> une chambre double > à <ville> le mans >``.

A tag ``<name>`` opens a unit, the mark ``>`` closes it; both stand between spaces like words. Units
do not nest. A unit may be empty (``<book_room> >``: an intent). References are checked; hypotheses
of a model may have tags and marks in any order, so every other function takes any string.

Source: layout and the reading of hypotheses as in SpeechBrain's MEDIA recipe, where ``_`` stands
for the space.
"""

import re
from collections.abc import Container, Iterable
from typing import NamedTuple

from espnet_ext.errors import DataError, nearest

CLOSE = ">"
TAG = re.compile(r"<[^<>\s]+>")
RESERVED = frozenset({"blank", "unk", "space", "sos/eos", "sos", "eos", "s", "/s", "pad", "mask"})
_MARKS = re.compile(r"<[^<>\s]*>|[<>]")
_HOW = "write a unit as '<name> words >', with spaces around '<name>' and '>'"


class Unit(NamedTuple):
    """A concept and the words that express it.

    Attributes:
        concept: The tag without its brackets. A hypothesis may begin a word with ``<`` that is no
            tag; the whole word then is the concept, as SpeechBrain has it.
        value: Words separated by one space; may be empty.
    """

    concept: str
    value: str


class Span(NamedTuple):
    """A unit's place among the words of :func:`plain`: ``start`` is in it, ``stop`` is not."""

    concept: str
    start: int
    stop: int


def check(
    tagged: str,
    where: object = None,
    known: Container[str] | None = None,
    reserved: Container[str] = RESERVED,
) -> None:
    """Check a reference.

    Args:
        tagged: Words, tags and closing marks.
        where: Named in the message, for example ``data/train/text:12``.
        known: The tags that exist, brackets included; None allows all.
        reserved: Names in lower case that no tag may have.

    Raises:
        DataError: A unit is not closed, stands in another, or is closed twice; a word has a ``<``
            or ``>`` that belongs to no tag; a tag is not among the known ones, or has the name of
            one of ESPnet's own symbols. Names the word's number, from 1.
    """
    opened: tuple[str, int] | None = None
    words = tagged.split()
    for place, word in enumerate(words, 1):
        problem, how = _problem(word, opened, known, reserved)
        if problem:
            raise DataError(problem, f"{where}, word {place}" if where else f"word {place}", how)
        if word == CLOSE:
            opened = None
        elif TAG.fullmatch(word):
            opened = word, place
    if opened:
        tag, place = opened
        at = f"word {place} of {len(words)}"
        raise DataError(f"{tag} is not closed", f"{where}, {at}" if where else at, _HOW)


def plain(tagged: str) -> str:
    """Return the words alone, separated by one space: no tags, no ``<``, no ``>``."""
    return " ".join(blanked(tagged).split())


def blanked(tagged: str) -> str:
    """Return the text with spaces over tags and marks: every other character keeps its place."""
    return _MARKS.sub(lambda mark: " " * len(mark[0]), tagged)


def units(tagged: str) -> list[Unit]:
    """Return the units in order.

    A word that begins with ``<`` opens a unit and closes an open one; one that begins with ``>``
    closes; other words belong to the open unit, if there is one; the end closes.
    """
    return [Unit(concept, " ".join(words)) for concept, words, _ in _opened(tagged)]


def spans(tagged: str) -> list[Span]:
    """Return where the units of :func:`units` are among the words of :func:`plain`."""
    return [
        Span(concept, start, start + sum(len(plain(word).split()) for word in words))
        for concept, words, start in _opened(tagged)
    ]


def wrap(unit: Unit) -> str:
    """Return a unit as text, ``<name> words >``."""
    return " ".join([f"<{unit.concept}>", *unit.value.split(), CLOSE])


def tags(tagged: str) -> list[str]:
    """Return the tags, brackets included, in order."""
    return [word for word in tagged.split() if TAG.fullmatch(word)]


def symbols(texts: Iterable[str]) -> list[str]:
    """Return the symbols that must stay one token: the tags, sorted, and the closing mark.

    Without a tag in any of the texts the list is empty.
    """
    found = sorted({tag for text in texts for tag in tags(text)})
    return [*found, CLOSE] if found else []


def _problem(
    word: str,
    opened: tuple[str, int] | None,
    known: Container[str] | None,
    reserved: Container[str],
) -> tuple[str, str]:
    """Return what is wrong with a word of a reference, and how to mend it; empty if nothing is."""
    if word == CLOSE:
        return ("", "") if opened else (f"'{CLOSE}' closes nothing", _HOW)
    if "<" not in word and ">" not in word:
        return "", ""
    if not TAG.fullmatch(word):
        return f"'{word}' has a '<' or '>' but is no tag", _HOW
    if word[1:-1].lower() in reserved:
        how = f"rename the tag, for example <{word[1:-1]}_>"
        return f"{word} cannot be a tag: ESPnet has a symbol of this name", how
    if opened:
        return f"{word} stands within {opened[0]} (word {opened[1]}), which is not closed", _HOW
    if known is not None and word not in known:
        how = "correct the tag, or add it to the list"
        if isinstance(known, Iterable):
            how += f"; {nearest(word, known)}"
        return f"{word} is not in the list of symbols", how
    return "", ""


def _opened(tagged: str) -> list[tuple[str, list[str], int]]:
    """Return each unit's concept, its words, and the number of plain words before its words."""
    found: list[tuple[str, list[str], int]] = []
    is_open, count = False, 0
    for word in tagged.split():
        count += len(plain(word).split())
        if word.startswith("<"):
            found.append((word[1:-1] if TAG.fullmatch(word) else word, [], count))
            is_open = True
        elif word.startswith(CLOSE):
            is_open = False
        elif is_open:
            found[-1][1].append(word)
    return found
