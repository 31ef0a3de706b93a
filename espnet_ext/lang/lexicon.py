# SPDX-License-Identifier: Apache-2.0
"""Pronunciation dictionaries: words and their variants as phone names.

Formats (``kind``):

    cmudict     ``WORD PH PH``, variants ``WORD(2)``, comments ``;;;`` at the start and `` # `` at
                the end of a line; CMUdict, AN4's an4.dic, TED-LIUM's TEDLIUM.152k.dic
    kaldi       lexicon.txt, ``word ph ph``, a variant is a further line of the word
    kaldi_prob  lexiconp.txt, ``word probability ph ph``, probability in (0, 1]

``auto`` decides so: kaldi_prob if the file is named lexiconp.txt or the second field of its first
20 entries is a number with a point or an exponent; else cmudict if there is a ``;;;`` line or a
word with a number in brackets; else kaldi.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from espnet_ext.errors import DataError, UsageError, nearest

KINDS = ("cmudict", "kaldi", "kaldi_prob")
SILENCE_ENTRIES = frozenset(
    ("<SIL>", "<sil>", "!SIL", "SIL", "<s>", "</s>", "<eps>", "!SENT_START", "!SENT_END")
)
VOWELS = frozenset((
    "AA", "AE", "AH", "AO", "AW", "AX", "AXR", "AY", "EH", "ER", "EY", "IH", "IX", "IY", "OW",
    "OY", "UH", "UW", "UX",
))  # fmt: skip
_VARIANT = re.compile(r"(.+)\(\d+\)")
_POSITION = re.compile(r"(.+)_[BEIS]")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")
_SNIFFED = 20

Variants = list[tuple[tuple[str, ...], float]]


@dataclass
class Lexicon:
    """Words, each with one or more ``(phone names, natural log probability)``.

    Args:
        words: Keys in Unicode's form NFC. Files without probabilities give each variant 0.
        source: File it was read from, for messages.
    """

    words: dict[str, Variants] = field(default_factory=dict)
    source: str = ""

    @classmethod
    def read(
        cls, path: Path | str, kind: str = "auto", *, stress: bool = False, positions: bool = False
    ) -> "Lexicon":
        """Read a file; silence entries such as ``<SIL>`` and ``!SIL`` are left out.

        Args:
            path: UTF-8, or Latin-1 for cmudict (version 0.7b).
            kind: ``cmudict``, ``kaldi``, ``kaldi_prob`` or ``auto``, see above.
            stress: Keep the stress digits 0-2 of ARPAbet vowels; other digits (tones) stay anyway.
            positions: Keep ``_B _E _I _S``; they are taken for word positions if all phones of
                the file end so.

        Raises:
            DataError: Missing, no entries, or a bad line (``file:line``).
            UsageError: There is no such kind.
        """
        path = Path(path)
        if kind not in ("auto", *KINDS):
            raise UsageError(f"there is no kind of lexicon '{kind}'", path, nearest(kind, KINDS))
        if not path.is_file():
            raise DataError("the lexicon is missing", path, "correct the path")
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
        lines = _decode(raw, path, kind)
        if kind == "auto":
            kind = detect(path.name, lines)
        entries = [e for e in _entries(lines, kind, path) if e[0] not in SILENCE_ENTRIES]
        if not entries:
            raise DataError("the lexicon has no words", path, "give a pronunciation dictionary")
        strip = not positions and all(_POSITION.fullmatch(p) for _, ps, _ in entries for p in ps)
        lexicon = cls(source=str(path))
        for word, phones, logp in entries:
            if strip:
                phones = [p[:-2] for p in phones]
            lexicon.add(word, phones if stress else map(without_stress, phones), logp)
        return lexicon

    @classmethod
    def graphemes(cls, words: Iterable[str]) -> "Lexicon":
        """Spell words; those that :func:`spell` cannot spell are left out."""
        lexicon = cls(source="letters")
        for word in words:
            if letters := spell(word):
                lexicon.add(word, letters)
        return lexicon

    def add(self, word: str, phones: Iterable[str], logp: float = 0.0) -> None:
        """Add a variant; equal ones become one, with the higher probability."""
        phones = tuple(phones)
        variants = self.words.setdefault(unicodedata.normalize("NFC", word), [])
        for i, (known, other) in enumerate(variants):
            if known == phones:
                variants[i] = (phones, max(logp, other))
                return
        variants.append((phones, logp))

    def lookup(self, word: str) -> Variants:
        """Return the variants of the word as written, else upper case, else lower case; or []."""
        word = unicodedata.normalize("NFC", word)
        for form in (word, word.upper(), word.lower()):
            if found := self.words.get(form):
                return found
        return []

    @cached_property
    def phones(self) -> frozenset[str]:
        """All phone names; complete once all words are added."""
        return frozenset(p for vs in self.words.values() for ps, _ in vs for p in ps)

    @cached_property
    def graphemic(self) -> bool:
        """Whether every pronunciation is the word's spelling."""
        return all(ps == spell(w) for w, vs in self.words.items() for ps, _ in vs)


def spell(word: str) -> tuple[str, ...]:
    """Return the letters of a word as phones, or () if it cannot be spelt.

    Letters are those of the lower-case word in form NFC, and dependent vowel signs (marks of
    combining class 0). Apostrophe, hyphen, punctuation, accents without a composed form and
    viramas are dropped. A word with a digit has no spelling: it is not spoken as written.
    """
    text = unicodedata.normalize("NFC", word.lower())
    if any(unicodedata.category(c)[0] == "N" for c in text):
        return ()
    kinds = [(c, unicodedata.category(c)[0]) for c in text]
    return tuple(c for c, k in kinds if k == "L" or (k == "M" and not unicodedata.combining(c)))


def without_stress(phone: str) -> str:
    """Return an ARPAbet vowel without its stress digit, any other phone as it is."""
    base = phone[:-1]
    return base if phone[-1] in "012" and base.upper() in VOWELS else phone


def detect(name: str, lines: list[str]) -> str:
    """Return the kind of a file by the rule of this module."""
    rows = [line.split() for line in lines if line.strip() and not line.startswith(";;;")]
    second = [row[1] if len(row) > 1 else "" for row in rows[:_SNIFFED]]
    if name == "lexiconp.txt" or (second and all(map(_DECIMAL.fullmatch, second))):
        return "kaldi_prob"
    commented = any(line.startswith(";;;") for line in lines)
    return "cmudict" if commented or any(_VARIANT.fullmatch(r[0]) for r in rows) else "kaldi"


def _decode(raw: list[bytes], path: Path, kind: str) -> list[str]:
    lines = []
    for number, line in enumerate(raw, 1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError:
            old = kind == "cmudict" or (kind == "auto" and any(x.startswith(b";;;") for x in raw))
            if not old:
                raise DataError(
                    "the line is not UTF-8", f"{path}:{number}", "convert the file to UTF-8"
                ) from None
            return _decode([x.decode("latin-1").encode() for x in raw], path, kind)
        if "\0" in text:
            raise DataError(
                "the line has a NUL", f"{path}:{number}", "give a text file, e.g. not UTF-16"
            )
        lines.append(text)
    return lines


def _entries(lines: list[str], kind: str, path: Path) -> Iterator[tuple[str, list[str], float]]:
    for number, line in enumerate(lines, 1):
        where, logp = f"{path}:{number}", 0.0
        if kind == "cmudict":
            line = "" if line.startswith(";;;") else re.split(r"\s#(?=\s|$)", line)[0]
        word, *phones = line.split() or [""]
        if not word:
            continue
        if kind == "cmudict" and (variant := _VARIANT.fullmatch(word)):
            word = variant[1]
        if kind == "kaldi_prob":
            logp = _log_probability(phones[0] if phones else "", where)
            phones = phones[1:]
            if phones and _DECIMAL.fullmatch(phones[0]):
                raise DataError(
                    "a second number follows the probability", where, "give lexiconp.txt, "
                    "not lexiconp_silprob.txt",
                )  # fmt: skip
        if not phones:
            raise DataError(f"'{word}' has no phones", where, "complete or remove the line")
        yield word, phones, logp


def _log_probability(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 1:
        raise DataError(
            f"'{text}' is not a probability", where, "write a number above 0 and up to 1"
        )
    return math.log(value)
