# SPDX-License-Identifier: Apache-2.0
"""Manner of articulation of phones by their names: ARPAbet, IPA and X-SAMPA."""

import re
import unicodedata
from collections.abc import Callable, Iterable

from espnet_ext.lang.phones import is_silence

CLASSES = ("vowel", "glide", "liquid", "nasal", "fricative", "affricate", "stop")
OTHER = "other"

_ARPABET = {
    "vowel": "AA AE AH AO AW AX AXR AY EH ER EY IH IX IY OW OY UH UW UX AX-H",
    "glide": "W Y WH",
    "liquid": "L R EL",
    "nasal": "M N NG EM EN ENG NX",
    "fricative": "F V TH DH S Z SH ZH HH HV",
    "affricate": "CH JH",
    "stop": "P T K B D G DX Q PCL TCL KCL BCL DCL GCL",
}
_AFFRICATES = ("tʃ", "dʒ", "ts", "dz", "tɕ", "dʑ", "tʂ", "dʐ", "pf", "tS", "dZ", "ʧ", "ʤ")
# First characters: IPA, then X-SAMPA signs that IPA does not use.
_SIGNS = {
    "vowel": "aeiouyɑæɐɒɔəɘɚɛɜɝɞɨɪᵻɯɵøœɶʉʊʌʏɤ" + "@{EIOUAQVYM}&12369",
    "glide": "jwɥɰʍ" + "HW",
    "liquid": "lrɹɾɻʀɫʎɭɽʟ" + "L45",
    "nasal": "mnŋɲɳɴɱ" + "NJF",
    "fricative": "fvszʃʒθðhɦxɣχʁħʕβɸçʝɕʑʂʐɬɮ" + "STZDCXGRBK",
    "stop": "pbtdkgɡqcɟʔʈɖɢ" + "?",
}
_BY_ARPABET = {name: manner for manner, names in _ARPABET.items() for name in names.split()}
_BY_SIGN = {sign: manner for manner, signs in _SIGNS.items() for sign in signs}
_POSITION = re.compile(r"_[BIES]$")
_SURE = frozenset(n for n in _BY_ARPABET if len(n) > 1)  # two capitals are no X-SAMPA phone


def plain(name: str) -> str:
    """Return a name without word position (``_B``), stress digit or IPA stress mark."""
    name = _POSITION.sub("", name.strip()).strip("ˈˌ\"'%") or name
    bare = name.rstrip("0123456789")
    return bare if bare.upper() in _BY_ARPABET else name


def manners(names: Iterable[str]) -> dict[str, str]:
    """Return the class of each phone of an inventory: one of CLASSES, "silence" or "other"."""
    names = set(names)
    if case := _arpabet_case(names):
        return {n: _arpabet(n, case(plain(n))) for n in names}
    return {n: _sign(n, plain(n)) for n in names}


def is_arpabet(names: Iterable[str]) -> bool:
    """Tell whether the phones of an inventory are ARPAbet's, in capitals or small letters."""
    return _arpabet_case(set(names)) is not None


def _arpabet_case(names: set[str]) -> Callable[[str], str] | None:
    """Return what makes the names those of ARPAbet; None if they are not.

    One letter can mean two phones (``T`` is a stop in ARPAbet, a fricative in X-SAMPA), so names
    are read as ARPAbet only when some are sure to be.
    """
    bare = [plain(name) for name in names]
    for case in (str, str.upper):
        sure = sum(case(b) in _SURE for b in bare)
        known = sum(case(b) in _BY_ARPABET for b in bare)
        if sure and 2 * known > len(names):
            return case
    return None


def _arpabet(name: str, bare: str) -> str:
    return "silence" if is_silence(name) else _BY_ARPABET.get(bare, OTHER)


def _sign(name: str, bare: str) -> str:
    if is_silence(name):
        return "silence"
    base = "".join(c for c in unicodedata.normalize("NFD", bare) if not unicodedata.combining(c))
    if base.replace("_", "").startswith(_AFFRICATES):
        return "affricate"
    if base.startswith("r\\"):
        return "liquid"
    return _BY_SIGN.get(base[:1], OTHER)
