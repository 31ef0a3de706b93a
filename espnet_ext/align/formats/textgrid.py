# SPDX-License-Identifier: Apache-2.0
"""Praat TextGrids of an alignment: two interval tiers, "words" and "phones".

Read are the long and the short format, also of the Montreal Forced Aligner, whose tiers may be
named "speaker - words". Empty labels are silence.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

from praatio import textgrid as praat
from praatio.utilities.errors import PraatioException
from praatio.utilities.textgrid_io import parseTextgridStr

from espnet_ext.align.formats.ctm import DECIMALS, Interval
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE, is_silence

TIERS = ("words", "phones")
NO_WORD = frozenset({"", "<eps>", "<sil>", "!sil", "sil", "sp"})  # spn is a word's spoken noise
SUFFIX = ".TextGrid"
SMALLEST_S = 1e-4
LONGEST = 200  # bytes of a file's name without its suffix; file systems take 255 with it
NAMES = "names.tsv"  # file and utterance, where the one does not tell the other


def file_name(utt: str) -> str:
    """Return the file name of an utterance, whose name may contain ``/``.

    A name too long for a file is cut and told apart by a hash; see :data:`NAMES`.
    """
    name = utt.replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) > LONGEST:
        start = name.encode()[: LONGEST - 18].decode(errors="ignore")
        name = f"{start}%~{hashlib.sha256(utt.encode()).hexdigest()[:16]}"
    return name + SUFFIX


def write_name(folder: Path, utt: str) -> None:
    """Add the utterance to :data:`NAMES` in the folder if its file name does not tell it."""
    name = file_name(utt)
    if unquote(name.removesuffix(SUFFIX)) != utt:
        with open(folder / NAMES, "a", encoding="utf-8") as f:
            f.write(f"{name}\t{utt}\n")


def _read_names(folder: Path) -> dict[Path, str]:
    """Return the utterances that the lists below a folder name, by file."""
    found = {}
    for listed in sorted(folder.rglob(NAMES)):
        for line in listed.read_text(encoding="utf-8").splitlines():
            name, _, utt = line.partition("\t")
            found[listed.parent / name] = utt
    return found


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
        tiers = parseTextgridStr(_decoded(path.read_bytes()), True)["tiers"]
    except (PraatioException, ValueError, IndexError, KeyError, AttributeError) as e:
        raise DataError(f"not a TextGrid that can be read ({e})", path) from e
    found: dict[str, list[Interval]] = {}
    for tier in tiers:
        kind = tier["name"].rpartition(" - ")[2].strip().lower()
        kind = kind if kind.endswith("s") else kind + "s"
        if kind not in TIERS or tier["class"] != "IntervalTier":
            continue
        if kind in found:
            raise DataError(
                f"there are two tiers of {kind}", path, "write one TextGrid per speaker"
            )
        found[kind] = _named(tier["entries"], kind, path)
    if not found:
        names = ", ".join(f"'{tier['name']}'" for tier in tiers)
        raise DataError(f"no tier 'words' or 'phones', only {names or 'none'}", path)
    return found


def _decoded(raw: bytes) -> str:
    """Return the text of a file in UTF-16 or UTF-8."""
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    return raw.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")


def _named(entries: Iterable, kind: str, path: Path) -> list[Interval]:
    """Return intervals in order; one that ends within rounding of the next's start ends there."""
    rows: list[Interval] = []
    for start, end, label in sorted((float(a), float(b), name) for a, b, name in entries):
        if end < start:
            raise DataError(f"'{label}' in the tier {kind} ends at {end} s, before {start} s", path)
        if rows and rows[-1].end_s > start:
            before = rows[-1]
            if before.end_s - start > SMALLEST_S:
                what = f"'{before.name}' and '{label}' in the tier {kind} overlap at {start} s"
                raise DataError(what, path, "correct the times of one of them")
            rows[-1] = replace(before, end_s=start)
        rows.append(Interval(start, end, label.strip()))
    if kind == "words":
        return [r for r in rows if r.name.lower() not in NO_WORD]
    return [replace(r, name=SILENCE) if is_silence(r.name) else r for r in rows]


class TextGridTier(Mapping[str, list[Interval]]):
    """One tier of the TextGrids below a folder, by utterance (the file's name); lazy."""

    def __init__(self, folder: Path | str, tier: str):
        self.tier = tier
        self._paths: dict[str, Path] = {}
        names = _read_names(Path(folder))
        for path in sorted(Path(folder).rglob("*" + SUFFIX)):
            utt = names.get(path) or unquote(path.name.removesuffix(SUFFIX))
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
