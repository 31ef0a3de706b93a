# SPDX-License-Identifier: Apache-2.0
"""Phones that move from one sound to another: two units in a row inside the aligner.

Three states cannot follow a diphthong or a vowel that ends in r: the next phone takes over its
second half. Such a phone is split where the pronunciations enter the aligner (``AY`` becomes
``AY|1 AY|2``) and put together where an alignment leaves it (:class:`~.phones.PhoneSet`).

``ER``, ``ɚ`` and ``ɜː`` have the r from the beginning and stay whole: split, they made boundaries
worse (synthetic speech: median 7.8 ms against 7.4, within 50 ms 97.1 % against 97.8).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from espnet_ext.errors import UsageError
from espnet_ext.lang.manner import is_arpabet, plain
from espnet_ext.lang.phones import HALVES, LETTER, NOISE_PHONES, is_silence

AUTO, NONE = "auto", "none"
ARPABET = frozenset(["AW", "AY", "EY", "OW", "OY"])
_VOWELS = "aeiouyɑæɐɒɔəɘɚɛɜɝɞɨɪᵻɯɵøœɶʉʊʌʏɤ" + "@{EIOUAQV}"  # IPA, then X-SAMPA
_GLIDES = "jwɹrɻlɫ"
_TWO_TARGETS = re.compile(f"([{_VOWELS}])(?!\\1)[{_VOWELS}{_GLIDES}]([{_VOWELS}{_GLIDES}])?")
_SPELLING = 4  # letters of a name that is no phone but a piece of writing
_NO_PIECE = (LETTER, "<", "[", "{", "(", "+", "*")  # letters beside phones, and tags of noise


def long_phones(setting: str, names: Iterable[str]) -> tuple[str, ...]:
    """Choose the phones to split.

    Args:
        setting: ``auto``: diphthongs and vowels that end in r or l, by name, in ARPAbet, IPA and
            X-SAMPA; ``none``; or phones with blanks or commas between them.
        names: All phones.

    Returns:
        Names in order. With ``auto`` none where the names are spelling: letters or word pieces.

    Raises:
        UsageError: A phone that is asked for does not exist, or a name is kept for halves.
    """
    names = sorted(n for n in set(names) if not is_silence(n))
    if taken := [n for n in names if n.endswith(HALVES)]:
        raise UsageError(
            f"the phone '{taken[0]}' has the name of half a phone", "lexicon", "rename it"
        )
    if setting == NONE or (setting == AUTO and _spelling(names)):
        return ()
    arpabet = is_arpabet(names)
    chosen = [n for n in names if _moves(n, arpabet)]
    if setting != AUTO:
        chosen = sorted(set(setting.replace(",", " ").split()))
        if lost := [n for n in chosen if n not in names]:
            raise UsageError(
                f"there is no phone '{lost[0]}' to split", "align.long_phones",
                f"auto, none, or some of: {' '.join(names)}",
            )  # fmt: skip
    return tuple(chosen)


def split_phones(phones: Sequence[str], chosen: frozenset[str]) -> tuple[str, ...]:
    """Return a pronunciation with the chosen phones as two halves each."""
    return tuple(
        part for p in phones for part in ([p + half for half in HALVES] if p in chosen else [p])
    )


def _moves(name: str, arpabet: bool) -> bool:
    bare = plain(name)
    if arpabet:
        return bare.upper() in ARPABET
    base = "".join(c for c in unicodedata.normalize("NFD", bare) if not unicodedata.combining(c))
    return bool(_TWO_TARGETS.fullmatch(base.replace("ː", "").replace(":", "").replace("_", "")))


def _spelling(names: Iterable[str]) -> bool:
    """Tell whether names are letters or word pieces rather than phones."""
    pieces = [n for n in names if not (n.upper() in NOISE_PHONES or n.startswith(_NO_PIECE))]
    letters = [sum(unicodedata.category(c) in ("Ll", "Lu", "Lo") for c in n) for n in pieces]
    return max(letters, default=0) not in range(2, _SPELLING) or any("▁" in n for n in pieces)
