# SPDX-License-Identifier: Apache-2.0
"""Praat TextGrids of an alignment: two interval tiers, "words" and "phones".

Read are the long and the short format, also of the Montreal Forced Aligner, whose tiers may be
named "speaker - words". Empty labels are silence.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from praatio import textgrid as praat
from praatio.utilities.errors import PraatioException

from espnet_ext.align.formats.ctm import DECIMALS, Interval
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE

TIERS = ("words", "phones")
SILENCE_NAMES = frozenset({"", "sil", "sp", "spn", "silence", "<eps>", "<sil>", "pau", "h#", "_"})
NO_WORD = frozenset({"", "<eps>", "<sil>", "!sil", "sil", "sp", "spn"})
SUFFIX = ".TextGrid"
SMALLEST_S = 1e-4


def is_silence(name: str) -> bool:
    """Tell whether a phone stands for silence in any of the usual spellings."""
    return name.strip().lower() in SILENCE_NAMES


def file_name(utt: str) -> str:
    """Return the file name of an utterance, which may hold ``/``."""
    return utt.replace("%", "%25").replace("/", "%2F") + SUFFIX


def write_textgrid(
    path: Path | str,
    words: Sequence[Interval],
    phones: Sequence[Interval],
    duration_s: float,
) -> None:
    """Write one utterance.

    Silence gets no label; an interval of no length cannot stand in a TextGrid and is left out.

    Raises:
        DataError: Intervals of a tier overlap, are out of order or end after ``duration_s``.
    """
    duration_s = _written(duration_s)
    grid = praat.Textgrid(0.0, duration_s)
    for name, intervals in zip(TIERS, (words, phones), strict=True):
        grid.addTier(praat.IntervalTier(name, _filled(intervals, duration_s, path), 0, duration_s))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=False, reportingMode="error")


def _filled(
    intervals: Sequence[Interval], duration_s: float, where: object
) -> list[tuple[float, float, str]]:
    """Return intervals that cover ``[0, duration_s)`` without gaps, as Praat wants them."""
    rows: list[tuple[float, float, str]] = []
    at = 0.0
    for i in intervals:
        start, end = _written(i.start_s), _written(i.end_s)
        if end == start:
            continue
        if start < at or end < start or end > duration_s:
            raise DataError(f"'{i.name}' at {i.start_s}..{i.end_s} s overlaps or is late", where)
        if start > at:
            rows.append((at, start, ""))
        rows.append((start, end, "" if i.name == SILENCE else i.name))
        at = end
    if at < duration_s:
        rows.append((at, duration_s, ""))
    return rows


def _written(seconds: float) -> float:
    """Return a time as it is written: 7 decimals; praatio cannot read the exponent of 5e-05."""
    return 0.0 if seconds < SMALLEST_S else round(seconds, DECIMALS)


def read_textgrid(path: Path | str) -> dict[str, list[Interval]]:
    """Return ``{"words": [...], "phones": [...]}``, of these the tiers that are there.

    Silence is named ``SIL`` among the phones and left out among the words.

    Raises:
        DataError: The file is missing or no TextGrid, or has neither tier, or one twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path)
    try:
        grid = praat.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    except (PraatioException, ValueError, IndexError, KeyError, AttributeError) as e:
        raise DataError(f"this is no usable TextGrid ({e})", path) from e
    found: dict[str, list[Interval]] = {}
    for tier in grid.tiers:
        kind = tier.name.rpartition(" - ")[2].strip().lower()
        kind = kind if kind.endswith("s") else kind + "s"
        if kind not in TIERS or not isinstance(tier, praat.IntervalTier):
            continue
        if kind in found:
            raise DataError(
                f"there are two tiers of {kind}", path, "write one TextGrid per speaker"
            )
        found[kind] = _named(tier.entries, kind)
    if not found:
        names = ", ".join(f"'{n}'" for n in grid.tierNames)
        raise DataError(f"no tier 'words' or 'phones', only {names}", path)
    return found


def _named(entries: Iterable, kind: str) -> list[Interval]:
    rows = [Interval(e.start, e.end, e.label.strip()) for e in entries]
    if kind == "words":
        return [r for r in rows if r.name.lower() not in NO_WORD]
    return [replace(r, name=SILENCE) if is_silence(r.name) else r for r in rows]


class TextGridTier(Mapping[str, list[Interval]]):
    """One tier of the TextGrids below a folder, by utterance (the file's name); lazy."""

    def __init__(self, folder: Path | str, tier: str):
        self.tier = tier
        self._paths: dict[str, Path] = {}
        for path in sorted(Path(folder).rglob("*" + SUFFIX)):
            utt = unquote(path.name.removesuffix(SUFFIX))
            if utt in self._paths:
                raise DataError(f"'{utt}' has two TextGrids", path, f"see {self._paths[utt]}")
            self._paths[utt] = path
        if not self._paths:
            raise DataError("there is no TextGrid in the folder", folder)

    def __getitem__(self, utt: str) -> list[Interval]:
        return read_textgrid(self._paths[utt]).get(self.tier, [])

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def __contains__(self, utt: object) -> bool:
        return utt in self._paths
