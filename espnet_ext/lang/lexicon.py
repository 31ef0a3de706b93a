# SPDX-License-Identifier: Apache-2.0
"""Pronunciation dictionaries: words and their variants as phone names.

Formats (``kind``):

    cmudict     ``WORD PH PH``, variants ``WORD(2)``, comments ``;;;`` at the start and `` # `` at
                the end of a line; CMUdict, AN4's an4.dic, TED-LIUM's TEDLIUM.152k.dic
    kaldi       lexicon.txt, ``word ph ph``, a variant is a further line of the word
    kaldi_prob  lexiconp.txt, ``word probability ph ph``, probability in (0, 1]; up to three more
                numbers, of the silences around the word (lexiconp_silprob.txt, dictionaries of the
                Montreal Forced Aligner), are checked and not used

``auto`` decides so: cmudict if there is a ``;;;`` line or a word with a number in brackets, else
kaldi; and lines may begin with probabilities, or have none (1), if the file is named lexiconp.txt,
if any line has a number with a point or an exponent before its phones, first or after whole ones,
or if all whole numbers before phones are 1 and none stands among the phones (they may be phones:
X-SAMPA has 2 and 9).
"""

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from espnet_ext.errors import DataError, UsageError, nearest

KINDS = ("cmudict", "kaldi", "kaldi_prob")
SILENCE_ENTRIES = frozenset(
    ("<SIL>", "<sil>", "!SIL", "SIL", "<s>", "</s>", "<eps>", "!SENT_START", "!SENT_END")
)
POLICIES = ("auto", "g2p", "espeak", "grapheme", "spn", "skip")  # see pronounce.py
VOWELS = frozenset((
    "AA", "AE", "AH", "AO", "AW", "AX", "AXR", "AY", "EH", "ER", "EY", "IH", "IX", "IY", "OW",
    "OY", "UH", "UW", "UX",
))  # fmt: skip
_VARIANT = re.compile(r"(.+)\(\d+\)")
_POSITION = re.compile(r"(.+)_[BEIS]")
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(\.\d*)?[eE][+-]?\d+)")
_WHOLE = re.compile(r"[+-]?\d+")
COLUMNS = 4  # of numbers before the phones

Variants = list[tuple[tuple[str, ...], float]]
Row = tuple[str, str, list[str]]  # file:line, word, what follows it
Entry = tuple[str, list[str], float]  # word, phones, log probability


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
        rows, numbers = list(_rows(lines, kind, path)), kind == "kaldi_prob"
        if kind == "auto":
            numbers = path.name == "lexiconp.txt" or _has_probabilities(rows)
        entries = _probable(rows, kind) if numbers else _plain(rows)
        entries = [e for e in entries if e[0] not in SILENCE_ENTRIES]
        if not entries:
            raise DataError("the lexicon has no words", path, "give a pronunciation dictionary")
        strip = not positions and all(_POSITION.fullmatch(p) for _, ps, _ in entries for p in ps)
        lexicon = cls(source=str(path))
        for word, phones, logp in entries:
            if strip:
                phones = [p[:-2] for p in phones]
            lexicon.add(word, phones if stress else map(without_stress, phones), logp)
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


def _rows(lines: list[str], kind: str, path: Path) -> Iterator[Row]:
    """Yield ``(file:line, word, what follows it)`` of the lines that have an entry."""
    if kind == "auto":
        first = [line.split(None, 1)[0] for line in lines if line.strip()]
        cmudict = any(w.startswith(";;;") or _VARIANT.fullmatch(w) for w in first)
    else:
        cmudict = kind == "cmudict"
    for number, line in enumerate(lines, 1):
        if cmudict:
            line = "" if line.startswith(";;;") else re.split(r"\s#(?=\s|$)", line)[0]
        word, *fields = line.split() or [""]
        if cmudict and (variant := _VARIANT.fullmatch(word)):
            word = variant[1]
        if word and not fields:
            raise DataError(
                f"'{word}' has no phones", f"{path}:{number}", "complete or remove the line"
            )
        if word:
            yield f"{path}:{number}", word, fields


def _has_probabilities(rows: list[Row]) -> bool:
    """Tell whether lines begin with probabilities, by the rule of this module."""
    first = [fields[0] for _, _, fields in rows]
    if any(map(_DECIMAL.fullmatch, (f for _, _, fs in rows for f in fs[: _numbers(fs)]))):
        return True
    whole = {f for f in first if _WHOLE.fullmatch(f)}
    inside = any(_WHOLE.fullmatch(f) for _, _, fields in rows for f in fields[1:])
    alone = any(_WHOLE.fullmatch(fields[0]) and len(fields) == 1 for _, _, fields in rows)
    return whole == {"1"} and not inside and not alone


def _plain(rows: list[Row]) -> Iterator[Entry]:
    for where, word, phones in rows:
        if _DECIMAL.fullmatch(phones[0]):
            raise DataError(
                f"'{phones[0]}' stands where a phone should be", where,
                "a lexicon with probabilities is of the kind kaldi_prob, or auto",
            )  # fmt: skip
        yield word, phones, 0.0


def _probable(rows: list[Row], kind: str) -> Iterator[Entry]:
    """Yield entries of lines with probabilities before the phones."""
    counts = [_numbers(fields) for _, _, fields in rows]
    usual = Counter(n for n in counts if n).most_common(1)
    for (where, word, fields), n in zip(rows, counts, strict=True):
        if kind == "kaldi_prob" and not n:
            _log_probability(fields[0], where)
        if n == len(fields):
            raise DataError(f"'{word}' has no phones", where, "complete or remove the line")
        extra = [f for f in fields[usual[0][0] : n] if _WHOLE.fullmatch(f)] if n else []
        if extra or n > COLUMNS:
            raise DataError(
                f"'{(extra or fields)[0]}' may be a phone or one of {n} numbers", where,
                f"write the same 1 to {COLUMNS} numbers in each line, or none",
            )  # fmt: skip
        for text in fields[1:n]:
            if not 0 <= float(text) < math.inf:
                raise DataError(f"'{text}' is not a factor of a silence", where, "correct it")
        yield word, fields[n:], _log_probability(fields[0], where) if n else 0.0


def _numbers(fields: list[str]) -> int:
    """Return how many numbers stand before the phones."""
    return len(list(takewhile(lambda f: _DECIMAL.fullmatch(f) or _WHOLE.fullmatch(f), fields)))


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
