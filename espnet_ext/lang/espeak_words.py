# SPDX-License-Identifier: Apache-2.0
"""English words in phones of CMUdict by espeak-ng, for words that no lexicon has.

espeak-ng writes IPA after its voice ``en-us``; the table below maps it. Of 3,000 words drawn from
CMUdict, mostly names, some 59 % get one of the dictionary's pronunciations exactly, and 10 % of the
phones differ.
"""

from collections.abc import Callable, Sequence

from espnet_ext.errors import SetupError
from espnet_ext.installation import install
from espnet_ext.lang.lexicon import VOWELS

STRESS = {"ˈ": "1", "ˌ": "2"}
_SAME = {c: c.upper() for c in "pbtdkfvszmnlw"}
TABLE: dict[str, tuple[str, ...]] = {
    ipa: tuple(names.split())
    for ipa, names in {
        **_SAME, "ɡ": "G", "θ": "TH", "ð": "DH", "ʃ": "SH", "ʒ": "ZH", "tʃ": "CH", "dʒ": "JH",
        "ŋ": "NG", "ɹ": "R", "r": "R", "j": "Y", "h": "HH", "ɾ": "T", "ʔ": "T", "x": "K",
        "iː": "IY", "i": "IY", "ɪ": "IH", "ᵻ": "IH", "ɛ": "EH", "æ": "AE", "a": "AE", "ɑː": "AA",
        "ɑ": "AA", "ɔː": "AO", "ɔ": "AO", "oː": "AO", "ʊ": "UH", "uː": "UW", "u": "UW", "ʌ": "AH",
        "ə": "AH", "ɐ": "AH", "ɚ": "ER", "ɜː": "ER", "eɪ": "EY", "aɪ": "AY", "aʊ": "AW",
        "ɔɪ": "OY", "oʊ": "OW", "iə": "IY AH", "aɪə": "AY AH", "aɪɚ": "AY ER", "əl": "AH L",
        "n̩": "AH N", "ɑːɹ": "AA R", "ɔːɹ": "AO R", "oːɹ": "AO R", "ɪɹ": "IH R", "ɛɹ": "EH R",
        "ʊɹ": "UH R",
    }.items()
}  # fmt: skip


def cmu_phones(ipa: list[str], stress: bool = False) -> tuple[str, ...]:
    """Return phones of CMUdict for what espeak-ng wrote; () where it has a phone of another kind.

    Args:
        ipa: Phones of a word with stress marks; "" stands between two vowels.
        stress: Whether vowels get 0, 1 or 2.

    >>> cmu_phones(["ˈiː", "t"]), cmu_phones(["ˈiː", "t"], stress=True)
    (('IY', 'T'), ('IY1', 'T'))
    """
    out: list[str] = []
    for i, written in enumerate(ipa):
        mark, phone = STRESS.get(written[:1], "0"), written.lstrip("ˈˌ")
        if phone == "ɪ" and ipa[i + 1 : i + 2] == [""]:
            phone = "i"  # media: the last vowel but one, before another
        if not phone:
            continue
        if phone not in TABLE:
            return ()
        first, *rest = TABLE[phone]
        out += [first + (mark if stress and first in VOWELS else "")]
        out += [p + ("0" if stress and p in VOWELS else "") for p in rest]
    return tuple(out)


def espeak_solver(stress: bool, words: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Return the function that pronounces one of the words; () where espeak-ng says nothing.

    Raises:
        SetupError: espeak-ng is not installed.
    """
    try:
        from espnet_ext.data.synth.espeak import Espeak

        engine = Espeak()
    except SetupError as e:
        how = f"{install(extra='synth')}, or use the policy skip or grapheme"
        raise SetupError(f"the OOV policy espeak needs espeak-ng ({e.what})", "oov", how) from None

    # A capital alone is a letter of the alphabet; in words, capitals may be read as initials.
    said = [word if len(word) == 1 else word.lower() for word in words]
    found = zip(words, engine.phonemes(said, voice="en-us"), strict=True)
    return {word: cmu_phones(ipa, stress) for word, ipa in found}.__getitem__
