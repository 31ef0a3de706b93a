# SPDX-License-Identifier: Apache-2.0
"""Pronunciations of the words of a corpus, and what becomes of words that the lexicon lacks.

Policies for out-of-vocabulary words (``oov``):

    g2p       by the package g2p_en: English, phones of CMUdict
    espeak    by espeak-ng (extra ``synth``): English, phones of CMUdict
    grapheme  spelt; beside a lexicon of phones, letters are phones of their own, ``letter:a``
    spn       one phone of spoken noise, as Kaldi's recipes do: the one the lexicon gives to its
              unknown word, else ``SPN``
    skip      no pronunciation, so that the aligner skips the utterance and lists it
    auto      grapheme if the lexicon itself is spelling; spn if its phones are not those of
              CMUdict; else g2p or espeak, whichever is there, or else skip. Without a lexicon,
              grapheme, or for a model that has the phones of CMUdict as with such a lexicon

Noise tags such as ``[NOISE]``, ``<unk>`` and ``++UM++`` are words as all others: the lexicon may
hold them. If it does not, they are spoken noise under ``spn`` and skipped otherwise, never spelt,
unless ``silence_words`` names them: then they are silence.
"""

import contextlib
import importlib
import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, SetupError, UsageError, nearest
from espnet_ext.files import write_text
from espnet_ext.installation import install
from espnet_ext.lang.espeak_words import espeak_solver
from espnet_ext.lang.lexicon import POLICIES, VOWELS, Lexicon, Variants, spell, without_stress
from espnet_ext.lang.long_phones import split_phones
from espnet_ext.lang.phones import (
    LETTER,
    NOISE_PHONES,
    SILENCE,
    SPOKEN_NOISE,
    PhoneSet,
    special_phones,
)

CONSONANTS = frozenset((
    "B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T",
    "TH", "V", "W", "Y", "Z", "ZH",
))  # fmt: skip
FOREIGN = "unknown phone"  # in Pronunciations.oov, beside policies and "silence"
SAID = {
    "skip": "have no pronunciation",
    "spn": "are not in the lexicon, aligned as spoken noise",
    FOREIGN: "have phones that the model lacks",
}
UNKNOWN = ("<unk>", "<UNK>", "[UNK]", "<spoken_noise>", "<SPOKEN_NOISE>")
_TAG = re.compile(r"[\[<({].*[\]>)}]|\+\+.*\+\+|\*.*\*")
_SHOWN = 10


@dataclass
class Pronunciations:
    """What the aligner knows of each word.

    Args:
        words: Each word as in the transcripts; no variants if it is skipped.
        oov: Words that the lexicon lacks, and how each was solved: ``g2p``, ``espeak``,
            ``grapheme``, ``spn``, ``silence``, ``skip`` or ``unknown phone`` (the model lacks a
            phone; skipped).
        phones: Names by id, silence first.
    """

    words: dict[str, Variants]
    oov: dict[str, str]
    phones: tuple[str, ...]
    _ids: dict[str, list[tuple[tuple[int, ...], float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _set: PhoneSet = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._set = PhoneSet(self.phones)

    def phone_set(self) -> PhoneSet:
        """Return the phones: those of the words, or of the model that the words are for."""
        return self._set

    def variants(self, word: str) -> Variants:
        """Return ``[(phone names, log probability), ...]``, [] for an unknown or skipped word."""
        return self.words.get(word, [])

    def ids(self, word: str) -> list[tuple[tuple[int, ...], float]]:
        """Return ``[(phone ids, log probability), ...]``, [] for an unknown or skipped word."""
        if word not in self._ids:
            found = self.variants(word)
            self._ids[word] = [(tuple(map(self._set.id, names)), logp) for names, logp in found]
        return self._ids[word]

    def with_halves(self, own: PhoneSet | Collection[str]) -> "Pronunciations":
        """Return the same words in the aligner's own phones: the long ones as two halves.

        Args:
            own: Phones of a trained model, or the names of the long phones.
        """
        long = frozenset(own.long if isinstance(own, PhoneSet) else own)
        words = {w: [(split_phones(p, long), q) for p, q in vs] for w, vs in self.words.items()}
        names = own.names if isinstance(own, PhoneSet) else split_phones(self.phones, long)
        return Pronunciations(words, self.oov, names)

    def counts(self) -> dict[str, int]:
        """Return numbers: words, variants, phones (silence not counted), and each of ``oov``."""
        variants = sum(map(len, self.words.values()))
        own = {"words": len(self.words), "variants": variants, "phones": len(self._set.whole) - 1}
        return own | dict(sorted(Counter(self.oov.values()).items()))

    def summary(self) -> list[str]:
        """Return lines for a person."""
        n = self.counts()
        lines = [f"{n['words']} words, {n['variants']} pronunciations, {n['phones']} phones"]
        for how in sorted(set(self.oov.values())):
            words = sorted(w for w, h in self.oov.items() if h == how)
            more = ", ..." if len(words) > _SHOWN else ""
            text = ", ".join(words[:_SHOWN]) + more
            said = SAID.get(how, f"are not in the lexicon, solved by {how}")
            lines.append(f"{len(words)} words {said}: {text}")
        return lines + special_phones(
            (w, names)
            for w, found in self.words.items()
            for names, _ in found
            if self.oov.get(w) != "silence"
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        words = {w: [[" ".join(ps), logp] for ps, logp in vs] for w, vs in self.words.items()}
        return {"words": words, "oov": self.oov, "phones": list(self.phones)}

    def save(self, path: Path | str) -> None:
        """Write JSON atomically."""
        text = json.dumps(self.to_json(), ensure_ascii=False, sort_keys=True)
        write_text(path, text + "\n")

    @classmethod
    def load(cls, path: Path | str) -> "Pronunciations":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: Missing or damaged.
        """
        try:
            got = json.loads(Path(path).read_text(encoding="utf-8"))
            words = {
                w: [(tuple(names.split(" ")), float(logp)) for names, logp in vs]
                for w, vs in got["words"].items()
            }
            return cls(words, got["oov"], tuple(got["phones"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise DataError(
                f"the pronunciations are not readable ({e})", path, "remove it and run again"
            ) from None


def pronounce(
    words: Iterable[str],
    lexicon: Lexicon | None,
    oov: str = "auto",
    *,
    phones: PhoneSet | None = None,
    silence_words: Collection[str] = (),
) -> Pronunciations:
    """Find the pronunciations of words.

    Args:
        words: Words of the transcripts.
        lexicon: None spells all words, or with ``g2p`` converts them.
        oov: Policy, see above.
        phones: Phones of a trained model: variants with others are dropped.
        silence_words: Words that are silence, whatever the lexicon says.

    Raises:
        UsageError: There is no such policy, or it leaves no pronunciations.
        SetupError: ``g2p`` is asked for and the package is missing.
        DataError: ``g2p`` is asked for and the lexicon has other phones.
    """
    words = sorted(set(words))
    if oov not in POLICIES:
        raise UsageError(f"there is no OOV policy '{oov}'", "oov", nearest(oov, POLICIES))
    if lexicon is None and oov == "skip":
        raise UsageError("without a lexicon all words are skipped", "oov", "use grapheme")
    unknown = [w for w in words if not (lexicon and lexicon.lookup(w)) and not _TAG.fullmatch(w)]
    how, solve = _solver(lexicon, oov, phones, unknown)
    found: dict[str, Variants] = {}
    solved: dict[str, str] = {}
    for word in words:
        if word in silence_words:
            found[word], solved[word] = [((SILENCE,), 0.0)], "silence"
            continue
        variants = lexicon.lookup(word) if lexicon else []
        if not variants:
            spelt = how == "spn" or not _TAG.fullmatch(word)
            variants = _variants(word, how, solve(word)) if spelt else []
            if lexicon or not variants or how in ENGLISH:
                solved[word] = how if variants else "skip"
        if phones and variants:
            variants = [v for v in variants if set(v[0]) <= set(phones.names)]
            if not variants:
                solved[word] = FOREIGN
        found[word] = variants
    used = (p for vs in found.values() for names, _ in vs for p in names)
    return Pronunciations(found, solved, (phones or PhoneSet.of(used)).names)


def _variants(word: str, how: str, names: tuple[str, ...]) -> Variants:
    variants = [(names, 0.0)] if names else []
    if how == "espeak" and word.upper() == "A":  # the letter is what espeak-ng says
        variants.append((("AH0" if names[0][-1].isdigit() else "AH",), 0.0))
    return variants


def _are_cmu(phones: Iterable[str]) -> bool:
    """Tell whether phones are those of CMUdict, noise phones aside."""
    own = {without_stress(p) for p in phones} - NOISE_PHONES
    return bool(own) and own <= VOWELS | CONSONANTS


def _solver(
    lexicon: Lexicon | None, oov: str, phones: PhoneSet | None, words: list[str]
) -> tuple[str, Callable[[str], tuple[str, ...]]]:
    """Return the name of the policy in effect, and the function of one of the words (() if it
    fails)."""
    names = lexicon.phones if lexicon else phones.names if phones else ()
    graphemic, cmu = lexicon is None or lexicon.graphemic, _are_cmu(names)
    stress = any(without_stress(p) != p for p in names)
    if oov == "auto":
        oov = "spn" if not graphemic and not cmu else "skip" if cmu else "grapheme"
        for name in ENGLISH if cmu else ():
            with contextlib.suppress(SetupError):
                return name, ENGLISH[name](stress, words)
    if oov in ENGLISH:
        if lexicon is not None and not cmu:
            raise DataError(
                f"{oov} gives phones of CMUdict, the lexicon has others", lexicon.source,
                "use the OOV policy skip or grapheme",
            )  # fmt: skip
        return oov, ENGLISH[oov](stress, words)
    if oov == "grapheme":
        if graphemic:
            return oov, spell
        return oov, lambda word: tuple(LETTER + c for c in spell(word))
    if oov == "spn":
        noise = (_spoken_noise(lexicon),)
        return oov, lambda word: noise
    return "skip", lambda word: ()


def _spoken_noise(lexicon: Lexicon | None) -> str:
    """Return the phone of the lexicon's unknown word, else a phone of such a name, else SPN."""
    for word in UNKNOWN if lexicon else ():
        for names, _ in lexicon.lookup(word):
            if len(names) == 1:
                return names[0]
    own = lexicon.phones if lexicon else ()
    return next((p for p in own if p.upper() == SPOKEN_NOISE), SPOKEN_NOISE)


def _g2p(stress: bool, words: list[str]) -> Callable[[str], tuple[str, ...]]:
    try:
        # Not declared in pyproject.toml: it depends on a package that has no wheel.
        convert = importlib.import_module("g2p_en").G2p()
    except (ImportError, LookupError, OSError) as e:  # its data may be missing as well
        raise SetupError(
            f"the OOV policy g2p needs the package g2p_en ({e})",
            "oov",
            f"{install('g2p_en')}, or use the policy skip or grapheme",
        ) from None

    def solve(word: str) -> tuple[str, ...]:
        names = [p for p in convert(word) if without_stress(p) in VOWELS | CONSONANTS]
        return tuple(names if stress else map(without_stress, names))

    return solve


ENGLISH = {"g2p": _g2p, "espeak": espeak_solver}  # the first that is installed serves ``auto``
