# SPDX-License-Identifier: Apache-2.0
"""What every format of alignments is read into and written from: utterances with tiers.

A reader maps a path to ``{utterance: Utterance}``, lazily; a writer takes a path and utterances.
What a format cannot hold a writer leaves out or changes, and tells: see :class:`Losses`.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from espnet_ext.errors import DataError

WORDS, PHONES = "words", "phones"
TIERS = (WORDS, PHONES)
DECIMALS = 7  # a multiple of 1/16000 s has at most 7 decimals and stands exactly
LONGEST = 200  # bytes of a file's name without its ending; file systems take 255 with it
NAMES = "names.tsv"  # file and utterance, where the one does not tell the other
LENGTHS = "utt2dur"  # length of each utterance, for formats whose files do not tell it
SHOWN = 3


@dataclass(frozen=True)
class Interval:
    """A named stretch of time ``[start_s, end_s)``, with the confidence in it if that is known."""

    start_s: float
    end_s: float
    name: str
    score: float | None = None


Tier = Mapping[str, list[Interval]]  # by utterance


@dataclass(frozen=True)
class Utterance:
    """The tiers of one utterance; times count from its beginning.

    Args:
        name: Of the utterance.
        length_s: Its length; where a file does not tell it, the end of the last interval.
        tiers: Of "words" and "phones" those that there are; words without silence, phones with it.
        speaker: Who speaks, if known.
        recording: Name of its recording, if it is a part of one.
        start_s: Where it begins there.
        audio: File of the audio, if known.
    """

    name: str
    length_s: float
    tiers: dict[str, list[Interval]]
    speaker: str = ""
    recording: str = ""
    start_s: float = 0.0
    audio: str = ""

    @property
    def words(self) -> list[Interval]:
        """The words, without silence."""
        return self.tiers.get(WORDS, [])

    @property
    def phones(self) -> list[Interval]:
        """The phones, with silence."""
        return self.tiers.get(PHONES, [])


def last_end_s(tiers: Mapping[str, list[Interval]]) -> float:
    """Return where the last interval of all tiers ends."""
    return max((i.end_s for rows in tiers.values() for i in rows), default=0.0)


class Utterances(Mapping[str, Utterance]):
    """Utterances that are read when they are asked for; the last one is remembered.

    Args:
        places: Where each is, by name.
        load: ``load(name, place)`` reads one.
    """

    def __init__(self, places: Mapping[str, Any], load: Callable[[str, Any], Utterance]):
        self._places, self._load = places, load
        self._held: Utterance | None = None

    def __getitem__(self, utt: str) -> Utterance:
        place = self._places[utt]
        if self._held is None or self._held.name != utt:
            self._held = self._load(utt, place)
        return self._held

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, utt: object) -> bool:
        return utt in self._places  # the inherited one would read it


class TierOf(Mapping[str, list[Interval]]):
    """One tier of utterances, ``[]`` where an utterance has none."""

    def __init__(self, utterances: Mapping[str, Utterance], tier: str):
        self.utterances, self.tier = utterances, tier

    def __getitem__(self, utt: str) -> list[Interval]:
        return self.utterances[utt].tiers.get(self.tier, [])

    def __iter__(self) -> Iterator[str]:
        return iter(self.utterances)

    def __len__(self) -> int:
        return len(self.utterances)

    def __contains__(self, utt: object) -> bool:
        return utt in self.utterances


@dataclass
class Losses:
    """What a writer could not write as it is, by kind: how often, and the first places."""

    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)

    def tell(self, kind: str, utt: str, i: Interval) -> None:
        """Remember an interval."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.places.setdefault(kind, [])
        if len(shown) < SHOWN:
            shown.append(f"{utt}: {i.name!r} at {i.start_s:g} s")

    def lines(self) -> list[str]:
        """Return lines for a person."""
        return [
            f"warning: {kind} ({n:,}): {'; '.join(self.places[kind])}"
            + ("; ..." if n > SHOWN else "")
            for kind, n in self.counts.items()
        ]


def file_name(utt: str, ending: str) -> str:
    """Return the file name of an utterance, whose name may contain ``/``.

    A name too long for a file is cut and told apart by a hash; see :data:`NAMES`.
    """
    name = utt.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) > LONGEST:
        start = name.encode()[: LONGEST - 18].decode(errors="ignore")
        name = f"{start}%~{hashlib.sha256(utt.encode()).hexdigest()[:16]}"
    return name + ending


def write_name(folder: Path, utt: str, ending: str) -> None:
    """Add the utterance to :data:`NAMES` in the folder if its file name does not tell it."""
    name = file_name(utt, ending)
    if unquote(name.removesuffix(ending)) != utt:
        with open(folder / NAMES, "a", encoding="utf-8") as f:
            f.write(f"{name}\t{utt}\n")


def file_each(
    path: Path, ending: str, kind: str, load: Callable[[str, Path], Utterance]
) -> Utterances:
    """Return the utterances of files below a folder, by the files' names, or of one file.

    Args:
        path: Folder or file.
        ending: Of the files.
        kind: What they are, for the message.
        load: Reads the file of an utterance.

    Raises:
        DataError: There is none, or two are of one utterance.
    """
    found = {path.name.removesuffix(ending): path} if path.is_file() else files_below(path, ending)
    if not found:
        raise DataError(f"there is no {kind} in the folder", path)
    return Utterances(found, load)


def files_below(folder: Path, ending: str) -> dict[str, Path]:
    """Return the files of utterances below a folder; see :func:`file_name`.

    Raises:
        DataError: Two files are of one utterance.
    """
    names, found = {}, {}
    for listed in sorted(folder.rglob(NAMES)):
        for line in listed.read_text(encoding="utf-8").splitlines():
            name, _, utt = line.partition("\t")
            names[listed.parent / name] = utt
    for path in sorted(folder.rglob("*" + ending)):
        utt = names.get(path) or unquote(path.name.removesuffix(ending))
        if utt in found:
            raise DataError(f"'{utt}' has two files", path, f"see {found[utt]}")
        found[utt] = path
    return found
