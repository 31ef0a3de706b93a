# SPDX-License-Identifier: Apache-2.0
"""Small command grammars: sentences with an intent and slots, from one YAML file per language."""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np

from espnet_ext import yamlfile
from espnet_ext.errors import DataError, UsageError, nearest

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(?:(\w+):)?(\w+)\}")


@dataclass(frozen=True)
class Slot:
    """A slot whose words are ``words[word_start:word_end]`` of its sentence."""

    name: str
    value: str
    word_start: int
    word_end: int


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case without punctuation, words parted by one space."""

    text: str
    intent: str
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng with its usual rate (words per minute) and pitch (0 to 100)."""

    voice: str
    rate: int
    pitch: int


def languages() -> list[str]:
    """Return the languages that have a grammar."""
    folder = resources.files(__package__)
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".yaml"))


class Grammar:
    """The grammar and the speakers of one language.

    Attributes:
        source: Text of the YAML file, for hashes.
        speakers: ``train``, ``dev`` and ``test`` to speakers; no speaker stands in two of them.

    Args:
        language: ``en``, ``fr``, ``it`` or ``ar``.

    Raises:
        UsageError: There is no grammar for the language.
    """

    def __init__(self, language: str) -> None:
        known = languages()
        if language not in known:
            raise UsageError(
                f"there is no synthetic corpus for language '{language}'",
                "--language",
                nearest(language, known),
            )
        self.language = language
        self.source = (resources.files(__package__) / f"{language}.yaml").read_text("utf-8")
        rules = yamlfile.parse(self.source, f"{language}.yaml")
        self._intents: dict[str, list[str]] = rules["intents"]
        self._values: dict[str, list[str]] = rules["slots"]
        self.speakers = {
            split: [Speaker(**s) for s in rows] for split, rows in rules["speakers"].items()
        }

    def sentences(self) -> dict[str, list[Sentence]]:
        """Return all sentences of each intent; no text stands twice."""
        seen: set[str] = set()
        found: dict[str, list[Sentence]] = {}
        for intent, templates in self._intents.items():
            found[intent] = []
            for template in templates:
                for sentence in expand(template, intent, self._values):
                    if sentence.text not in seen:
                        seen.add(sentence.text)
                        found[intent].append(sentence)
        return found

    def draw(self, rng: np.random.Generator) -> Iterator[Sentence]:
        """Yield every sentence once, in random order, intents evenly mixed while they last."""
        pools = {intent: list(rows) for intent, rows in self.sentences().items()}
        for rows in pools.values():
            rng.shuffle(rows)
        while pools:
            intents = list(pools)
            intent = intents[int(rng.integers(len(intents)))]
            yield pools[intent].pop()
            if not pools[intent]:
                del pools[intent]

    def vocabulary(self) -> set[str]:
        """Return all words of all sentences."""
        return {w for rows in self.sentences().values() for s in rows for w in s.text.split()}


def expand(template: str, intent: str, values: dict[str, list[str]]) -> Iterator[Sentence]:
    """Yield all sentences of one template.

    Args:
        template: Words, ``[a|b|]`` (take one part) and ``{name:kind}`` or ``{kind}`` (a slot).
        intent: Intent of the sentences.
        values: Slot kind to its values; two slots of one kind never take the same value.

    Raises:
        DataError: The template is malformed or names an unknown kind of slot.
    """
    choice = _CHOICE.search(template)
    if choice:
        for part in choice.group(1).split("|"):
            yield from expand(
                template[: choice.start()] + part + template[choice.end() :], intent, values
            )
        return
    pieces = re.sub(r"\s*(\{[^{}]*\})\s*", r" \1 ", template).split()
    yield from _fill(pieces, intent, values, [], (), frozenset())


def _fill(
    pieces: list[str],
    intent: str,
    values: dict[str, list[str]],
    words: list[str],
    slots: tuple[Slot, ...],
    taken: frozenset[tuple[str, str]],
) -> Iterator[Sentence]:
    """Yield the completions of ``words`` by ``pieces`` (words and slots)."""
    if not pieces:
        yield Sentence(unicodedata.normalize("NFC", " ".join(words)), intent, slots)
        return
    piece, rest = pieces[0], pieces[1:]
    slot = _SLOT.fullmatch(piece)
    if not slot:
        if re.search(r"[\[\]{}|]", piece):
            raise DataError(f"'{piece}' is not a word or a slot", f"intent {intent}")
        yield from _fill(rest, intent, values, [*words, piece], slots, taken)
        return
    kind = slot.group(2)
    if kind not in values:
        raise DataError(f"unknown slot '{kind}'", f"intent {intent}", nearest(kind, values))
    for value in values[kind]:
        if (kind, value) in taken:
            continue
        longer = [*words, *value.split()]
        new = Slot(slot.group(1) or kind, value, len(words), len(longer))
        yield from _fill(rest, intent, values, longer, (*slots, new), taken | {(kind, value)})
