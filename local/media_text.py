# SPDX-License-Identifier: Apache-2.0
"""Words and concepts of MEDIA and PortMEDIA: spelling, full and relaxed names, numbers as words.

Source of the rules: the public recipes of SpeechBrain (MEDIA) and ESPnet (PortMEDIA).
"""

import csv
import re
from pathlib import Path

from espnet_ext.errors import DataError

Rules = list[tuple[str, str]]
# (full, relaxed), first match wins; a * at the end stands for anything. Most are "name-*, name".
_SPECIFIED = """
hotel-marque localisation-arrondissement localisation-cardinal localisation-departement
localisation-distanceRelative localisation-lieuRelatif localisation-pays localisation-quartier
localisation-region localisation-rue localisation-ville nombre-chambre-disponible nombre-hotel
nombre-temps nom-client paiement-methodeDePaiement paiement-montant-entier
paiement-montantQualitatif rang-hotel rang-temps sejour-nbAdulte sejour-nbCouple sejour-nbEnfant
sejour-nbNuit sejour-nbPersonne temps-annee temps-axeTps temps-heure temps-jourFerie temps-jour-mois
temps-jour-semaine temps-mois temps-plageTps temps-unite
"""
RELAX: Rules = [
    *((f"{name}-*", name) for name in _SPECIFIED.split()),
    ("nombre-chambre-reservation", "nombre-chambre"),
    ("nombreNonDigit-reservation", "nombreNonDigit"),
    ("temps-date*", "temps-date"),
]
FAULTY_SPECIFIERS = {"Relative-reservation": "-relative-reservation"}
TENS_BEFORE_HYPHEN = ("dix", "vingt", "trente", "quarante", "cinquante", "soixante", "quatre")
_SPELLING = (
    ("gc'est", "c'est"),
    ("gc' est", "c' est"),  # the apostrophe has got its space before
    ("a-t- il", "a-t-il"),
    ("bleu marine", "bleu-marine"),
    ("Saint-jacques", "Saint-Jacques"),
    ("Mont-de-Marsan", "Mont-De-Marsan"),
    ("Mont de Marsan", "Mont-De-Marsan"),
)
_STRAY_APOSTROPHE = re.compile(r"(^|\s)'\s*(?=un parking)")  # that of "d'un parking" stays
_PARENTHESES = re.compile(r"\(.*?\)")
_NOT_KEPT = re.compile(r"[^\w\s'()*+,./0-9:;=-]")  # < and > are tags here
_HYPHEN = re.compile(f"({'|'.join(TENS_BEFORE_HYPHEN)})-")
_SPEAKER = re.compile(r"(?:8730|8737|873)_?(\d+)$")

_ONES = (
    "zero uno due tre quattro cinque sei sette otto nove dieci undici dodici tredici quattordici "
    "quindici sedici diciassette diciotto diciannove"
)
_TENS = "venti trenta quaranta cinquanta sessanta settanta ottanta novanta"


def normalise_french(text: str) -> str:
    """Return the words of a stretch of MEDIA's transcript; the order of the rules matters.

    An apostrophe ends its word ("l' hôtel"), except in "c'est"; what stands in parentheses becomes
    ``*``; a hyphen after a number's first word becomes a space.
    """
    text = _STRAY_APOSTROPHE.sub(r"\1", text).replace(" '", "'").replace("'", "' ")
    for wrong, right in _SPELLING:
        text = text.replace(wrong, right)
    text = _PARENTHESES.sub("*", text.removeprefix("'"))
    text = _HYPHEN.sub(r"\1 ", _NOT_KEPT.sub("", text))
    return " ".join(text.split()).replace("c' est", "c'est")


def strip_marks(text: str) -> str:
    """Return PortMEDIA's words: without parentheses and asterisks."""
    return " ".join(re.sub("[()*]", " ", text).split())


def normalise_italian(text: str) -> str:
    """Return :func:`strip_marks` with numbers spelt out."""
    words = strip_marks(text).split()
    return " ".join(italian_number(int(w)) if re.fullmatch("[0-9]{1,6}", w) else w for w in words)


def italian_number(number: int) -> str:
    """Spell out a number from 0 to 999,999, for example ``ventotto``, ``duecentotrentuno``."""
    if number < 0 or number > 999_999:
        raise ValueError(f"{number} is not between 0 and 999,999")
    word = _italian(number)
    return f"{word[:-3]}tré" if number > 3 and word.endswith("tre") else word


def _italian(number: int) -> str:
    if number < 20:
        return _ONES.split()[number]
    if number < 100:
        ten, one = _TENS.split()[number // 10 - 2], number % 10
        if one in (1, 8):
            ten = ten[:-1]  # a vowel before a vowel falls
        return ten + (_italian(one) if one else "")
    unit, single, several = (100, "cento", "cento") if number < 1000 else (1000, "mille", "mila")
    many, rest = divmod(number, unit)
    head = single if many == 1 else _italian(many) + several
    return head + (_italian(rest) if rest else "")


def full_name(concept: str, specifier: str) -> str:
    """Join concept and specifier, which brings its own hyphen; ``null`` is none."""
    specifier = FAULTY_SPECIFIERS.get(specifier, specifier)
    return concept if specifier in ("", "null") else concept + specifier


def relaxed(concept: str, rules: Rules) -> str:
    """Return the relaxed name of a full one; a name without a rule stays."""
    for full, relax in rules:
        if concept == full or (full.endswith("*") and concept.startswith(full[:-1])):
            return relax
    return concept


def read_rules(path: Path) -> Rules:
    """Read ``concepts_full_relax.csv``: lines ``full,relaxed``.

    Raises:
        DataError: It is missing, empty, or a line has another form.
    """
    rules = []
    for number, row in _csv(path):
        if len(row) != 2 or not all(row):
            what = "the line is not 'full,relaxed'"
            raise DataError(what, f"{path}:{number}", "e.g. temps-mois-*,temps-mois")
        rules.append((row[0], row[1]))
    return rules


def read_channels(path: Path) -> dict[str, int]:
    """Read ``channels.csv``: lines ``L,dialogue`` or ``R,dialogue``; 0 is left.

    Raises:
        DataError: It is missing, empty, or a line has another form or contradicts one before.
    """
    channels: dict[str, int] = {}
    for number, row in _csv(path):
        side, dialogue = [cell.strip() for cell in row] if len(row) == 2 else ("", "")
        if side.upper() not in ("L", "R") or not dialogue:
            what = "the line is not 'L,dialogue' or 'R,dialogue'"
            raise DataError(what, f"{path}:{number}", "e.g. L,100")
        channel = "LR".index(side.upper())
        if channels.setdefault(dialogue, channel) != channel:  # the real file lists 100 twice
            what = f"dialogue {dialogue} has both channels"
            raise DataError(what, f"{path}:{number}", "remove one of the lines")
    return channels


def speaker_name(name: str) -> str:
    """Return one name for the spellings of a speaker: ``speaker#1_08730_846`` is ``speaker_846``.

    Other names lose their blanks only.
    """
    name = "_".join(name.replace(".", "").split()) or "unknown"
    found = _SPEAKER.search(name.replace("#", "_").replace("-", "_"))
    return f"speaker_{found[1]}" if found else name


def _csv(path: Path) -> list[tuple[int, list[str]]]:
    if not path.is_file():
        raise DataError("the table is missing", path, "correct the path")
    with open(path, encoding="utf-8-sig", newline="") as f:
        rows = [(number, row) for number, row in enumerate(csv.reader(f), 1) if any(row)]
    if not rows:
        raise DataError("the table is empty", path, "copy it again")
    return rows
