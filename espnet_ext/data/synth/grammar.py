# SPDX-License-Identifier: Apache-2.0
"""Small grammars, one YAML file per family and language: sentences with an intent and slots."""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np

from espnet_ext import yamlfile
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.text import tagged

_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(?:([\w-]+):)?(\w+)\}")
_FILE = re.compile(r"([a-z]+)_([a-z]+)\.yaml")
COMMANDS, TRAVEL, ORDERS = "commands", "travel", "orders"


@dataclass(frozen=True)
class Slot:
    """A slot whose words are ``words[word_start:word_end]`` of its sentence."""

    name: str
    value: str
    word_start: int
    word_end: int


@dataclass(frozen=True)
class Sentence:
    """A sentence in lower case without punctuation, words separated by one space.

    Attributes:
        text: The words.
        intent: Its intent.
        slots: In the order of the words.
        meaning: Keys of intent, template and values, ``ask_price.room:city=rome,room=single``:
            equal for the wordings of a meaning and, in one family, for its translations.
    """

    text: str
    intent: str
    slots: tuple[Slot, ...]
    meaning: str = ""

    @property
    def tagged(self) -> str:
        """The intent as an empty unit, then the words with the slots as units.

        ``<ask_price> > how much is a <room> single > room in <city> rome >``
        """
        words = self.text.split()
        for slot in reversed(self.slots):
            words.insert(slot.word_end, tagged.CLOSE)
            words.insert(slot.word_start, f"<{slot.name}>")
        return " ".join([tagged.wrap(tagged.Unit(self.intent, "")), *words])


@dataclass(frozen=True)
class Speaker:
    """A voice of espeak-ng with its usual rate (words per minute) and pitch (0 to 100)."""

    voice: str
    rate: int
    pitch: int


def families() -> dict[str, list[str]]:
    """Return the families of grammars with their languages."""
    found: dict[str, list[str]] = {}
    for name in sorted(f.name for f in resources.files(__package__).iterdir()):
        if match := _FILE.fullmatch(name):
            found.setdefault(match.group(1), []).append(match.group(2))
    return found


def languages() -> list[str]:
    """Return the languages that have a grammar."""
    return sorted({language for known in families().values() for language in known})


class Grammar:
    """The grammar and the speakers of one language.

    Attributes:
        language: The language.
        source: Text of the YAML file, for hashes.
        speakers: ``train``, ``dev`` and ``test`` to speakers, in ``travel`` and ``orders`` also
            ``pool_dev``; no speaker stands in two of them.

    Args:
        language: ``en``, ``fr``, ``it`` or ``ar``.
        family: ``commands`` (English only), ``travel`` (all) or ``orders`` (English and Italian);
            in the last two, sentences of equal meaning are translations. Default: ``commands`` for
            English, ``travel`` for the others.

    Raises:
        UsageError: There is no such grammar.
    """

    def __init__(self, language: str, family: str | None = None) -> None:
        family = family or (COMMANDS if language in families()[COMMANDS] else TRAVEL)
        known = families().get(family)
        if known is None:
            what = f"there is no family of grammars '{family}'"
            raise UsageError(what, "family", nearest(family, families()))
        if language not in known:
            raise UsageError(
                f"there is no synthetic corpus for language '{language}'",
                "--language",
                nearest(language, known),
            )
        self.language = language
        name = f"{family}_{language}.yaml"
        self.source = (resources.files(__package__) / name).read_text("utf-8")
        rules = yamlfile.parse(self.source, name)
        self._intents = {
            intent: _numbered(templates) for intent, templates in rules["intents"].items()
        }
        self._values: dict[str, dict[str, str]] = {
            kind: _keyed(values) for kind, values in rules["slots"].items()
        }
        self.speakers = {
            split: [Speaker(**s) for s in rows] for split, rows in rules["speakers"].items()
        }

    def sentences(self) -> dict[str, list[Sentence]]:
        """Return all sentences of each intent; no text stands twice."""
        seen: set[str] = set()
        found: dict[str, list[Sentence]] = {}
        for intent, templates in self._intents.items():
            found[intent] = []
            for key, template in templates.items():
                for sentence in expand(template, intent, self._values, key):
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


def _numbered(templates: list[str] | dict[str, str]) -> dict[str, str]:
    """Return templates by key: those of a list are numbered from 1."""
    if isinstance(templates, dict):
        return templates
    return {str(i): template for i, template in enumerate(templates, 1)}


def _keyed(values: Iterable[str] | dict[str, str]) -> dict[str, str]:
    """Return values by key: those of a list are their own keys."""
    return values if isinstance(values, dict) else {value: value for value in values}


def expand(
    template: str, intent: str, values: dict[str, dict[str, str]], key: str = "1"
) -> Iterator[Sentence]:
    """Yield all sentences of one template.

    Args:
        template: Words, ``[a|b|]`` (take one part) and ``{name:kind}`` or ``{kind}`` (a slot).
        intent: Intent of the sentences.
        values: Slot kind to its values by key; two slots of one kind never take the same value.
        key: Of the template among those of its intent.

    Raises:
        DataError: The template is malformed or names an unknown kind of slot.
    """
    choice = _CHOICE.search(template)
    if choice:
        before, after = template[: choice.start()], template[choice.end() :]
        for part in choice.group(1).split("|"):
            yield from expand(before + part + after, intent, values, key)
        return
    pieces = re.sub(r"\s*(\{[^{}]*\})\s*", r" \1 ", template).split()
    for words, slots, taken in _fill(pieces, intent, values, [], (), {}):
        filled = ",".join(f"{name}={taken[name][1]}" for name in sorted(taken))
        text = unicodedata.normalize("NFC", " ".join(words))
        yield Sentence(text, intent, slots, f"{intent}.{key}:{filled}")


_Filled = tuple[list[str], tuple[Slot, ...], dict[str, tuple[str, str]]]


def _fill(
    pieces: list[str],
    intent: str,
    values: dict[str, dict[str, str]],
    words: list[str],
    slots: tuple[Slot, ...],
    taken: dict[str, tuple[str, str]],
) -> Iterator[_Filled]:
    """Yield the completions of ``words`` by ``pieces`` (words and slots).

    ``taken`` has the kind and the value's key of each slot so far.
    """
    if not pieces:
        yield words, slots, taken
        return
    piece, rest = pieces[0], pieces[1:]
    slot = _SLOT.fullmatch(piece)
    if not slot:
        if re.search(r"[\[\]{}|]", piece):
            raise DataError(f"'{piece}' is not a word or a slot", f"intent {intent}")
        yield from _fill(rest, intent, values, [*words, piece], slots, taken)
        return
    kind, name = slot.group(2), slot.group(1) or slot.group(2)
    if kind not in values:
        raise DataError(f"unknown slot '{kind}'", f"intent {intent}", nearest(kind, values))
    if name in taken:
        raise DataError(f"two slots are called '{name}'", f"intent {intent}", "{name:kind}")
    for key, value in values[kind].items():
        if (kind, key) in taken.values():
            continue
        longer = [*words, *value.split()]
        new = Slot(name, value, len(words), len(longer))
        yield from _fill(rest, intent, values, longer, (*slots, new), {**taken, name: (kind, key)})
