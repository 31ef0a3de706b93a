# SPDX-License-Identifier: Apache-2.0
"""How alike words sound: their phones as strings, and the edit distance of these.

Phones come from one of three sources:

    lexicon        a pronunciation dictionary (CMUdict, Kaldi); words it lacks are converted by the
                   aligner's rule (package g2p_en, if it is there)
    espeak VOICE   the embedded synthesiser, in IPA: any word, numbers and abbreviations as spoken
    letters        the spelling

A word without phones is compared by its spelling, whatever the source.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein

from espnet_ext.data.synth.events import SILENCE
from espnet_ext.errors import SetupError, UsageError
from espnet_ext.lang.lexicon import Lexicon
from espnet_ext.lang.pronounce import pronounce

Phones = dict[str, tuple[str, ...]]
Convert = Callable[[Iterable[str]], Phones]

SOURCES = ("lexicon", "espeak", "letters")
_PRIVATE = 0xE000  # phones become characters of the private use area, so no letter equals one
_PRIVATE_CHAR = chr(_PRIVATE)
_RATE_WPM = 400
_AT_ONCE = 60


def converter(lexicon: Path | str | None = None, voice: str = "en-us") -> tuple[str, Convert]:
    """Return the source and a function that gives the phones of words.

    Args:
        lexicon: Pronunciation dictionary; None takes the synthesiser if it is installed, else
            letters.
        voice: espeak-ng voice, which decides the language.

    Raises:
        DataError: The lexicon is not usable.
        UsageError: There is no such voice.
    """
    if lexicon is not None:
        words = Lexicon.read(lexicon)
        return "lexicon", lambda asked: _from_lexicon(words, asked)
    try:
        from espnet_ext.data.synth.espeak import Espeak

        espeak = Espeak()
    except SetupError:
        return "letters", lambda asked: {}
    espeak.synthesize("a", voice=voice)
    return f"espeak {voice}", lambda asked: _from_espeak(espeak, voice, asked)


def same_converter(source: str, lexicon: Path | str | None = None) -> Convert | None:
    """Return the function that gives a model's kind of phones, or None if it is not available.

    Args:
        source: The model's source, as :func:`converter` returned it.
        lexicon: The pronunciation dictionary, if the source is one.

    Raises:
        UsageError: A lexicon is given to a model of other phones.
    """
    kind, _, voice = source.partition(" ")
    if lexicon is not None and kind != "lexicon":
        what = f"the model's phones are of '{source}', not of a lexicon"
        raise UsageError(what, "--lexicon", "leave it out, or estimate with --lexicon")
    if kind == "espeak" or lexicon is not None:
        found, convert = converter(lexicon, voice)
        return convert if found == source else None
    return None


def _from_lexicon(lexicon: Lexicon, asked: Iterable[str]) -> Phones:
    found = pronounce(asked, lexicon)
    return {w: max(vs, key=lambda v: v[1])[0] for w, vs in found.words.items() if vs}


def _from_espeak(espeak: "Espeak", voice: str, asked: Iterable[str]) -> Phones:  # noqa: F821
    words, out = sorted(set(asked)), {}
    for i in range(0, len(words), _AT_ONCE):
        # A paragraph each: so a word gets the phones it has when it is spoken alone.
        text = "\n\n".join(words[i : i + _AT_ONCE])
        spoken = espeak.synthesize(text, voice=voice, rate_wpm=_RATE_WPM)
        phones = [p for p in spoken.phones if p.label != SILENCE]
        k = 0
        for word in spoken.words:
            first = k
            while k < len(phones) and phones[k].end_s <= word.end_s:
                k += 1
            out[word.label] = tuple(p.label for p in phones[first:k])
    return {w: p for w, p in out.items() if p}


class PhoneTable:
    """Words with their phones, and distances between phrases (words joined by spaces).

    Args:
        source: One of ``SOURCES``, espeak with its voice behind a space.
        phones: Phones by word.
    """

    def __init__(self, source: str, phones: Mapping[str, Sequence[str]]):
        self.source = source
        self.phones: Phones = {}
        self._chars: dict[str, str] = {}
        self._keys: dict[str, str] = {}
        self._distances: dict[tuple[str, str], float] = {}
        self.add(phones)

    def add(self, phones: Mapping[str, Sequence[str]]) -> None:
        """Take in the phones of further words."""
        for word, names in phones.items():
            self.phones[word] = tuple(names)
            self._keys[word] = "".join(
                self._chars.setdefault(p, chr(_PRIVATE + len(self._chars))) for p in names
            )

    def key(self, phrase: str) -> str:
        """Return a string of one character a phone, or :func:`spelling` if a word has none."""
        if phrase not in self._keys:
            keys = [self._keys.get(w, "") for w in phrase.split()]
            self._keys[phrase] = "".join(keys) if all(keys) else spelling(phrase)
        return self._keys[phrase]

    def length(self, phrase: str) -> int:
        """Return the number of phones (letters, if it has none)."""
        return len(self.key(phrase))

    def distance(self, a: str, b: str) -> float:
        """Return the edit distance of two phrases' phones over the longer one's length, in [0, 1].

        Where only one of them has phones, the spellings are compared.
        """
        found = self._distances.get((a, b))
        if found is None:
            x, y = self.key(a), self.key(b)
            if _has_phones(x) != _has_phones(y):
                x, y = spelling(a), spelling(b)
            found = Levenshtein.normalized_distance(x, y)
            self._distances[a, b] = found
        return found


class Inventory:
    """Phrases to be looked up by sound, all at once.

    Args:
        table: Phones of their words.
        phrases: What can be found.
    """

    def __init__(self, table: PhoneTable, phrases: Iterable[str]):
        self.table = table
        self.phrases = list(phrases)
        self._keys = [table.key(p) for p in self.phrases]
        self._spellings = [spelling(p) for p in self.phrases]
        self._sounded = np.array([_has_phones(k) for k in self._keys], bool)

    def distances(self, phrases: Sequence[str]) -> np.ndarray:
        """Return ``(len(phrases), len(self.phrases))`` float32, as :meth:`PhoneTable.distance`."""
        keys = [self.table.key(p) for p in phrases]
        out = _cdist(keys, self._keys)
        sounded = np.array([_has_phones(k) for k in keys], bool)
        for has in (True, False):
            rows, columns = np.flatnonzero(sounded == has), np.flatnonzero(self._sounded != has)
            if len(rows) and len(columns):
                spelt = [spelling(phrases[i]) for i in rows]
                out[np.ix_(rows, columns)] = _cdist(spelt, [self._spellings[j] for j in columns])
        return out


def spelling(phrase: str) -> str:
    """Return the letters and digits of a phrase in lower case (all of it if it has none)."""
    return "".join(c for c in phrase.lower() if c.isalnum()) or phrase


def _cdist(keys: list[str], others: list[str]) -> np.ndarray:
    return process.cdist(
        keys, others, scorer=Levenshtein.normalized_distance, dtype=np.float32, workers=1
    )


def _has_phones(key: str) -> bool:
    return key[:1] >= _PRIVATE_CHAR
