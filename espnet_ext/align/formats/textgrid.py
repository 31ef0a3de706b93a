# SPDX-License-Identifier: Apache-2.0
"""Praat TextGrids: a file for an utterance, with the interval tiers "words" and "phones".

Read are the long and the short form, also of the Montreal Forced Aligner, whose tiers may be
named "speaker - words". Empty labels are silence.

A text file of Praat is a row of strings, numbers and flags that stand free; all else in it is for
people. Both forms are read by this rule: readers that look for "intervals [1]" or "text =" fail
where a label holds such words.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from espnet_ext.align.formats.ctm import format_s
from espnet_ext.align.formats.tiers import (
    DECIMALS,
    PHONES,
    TIERS,
    WORDS,
    Interval,
    Losses,
    Utterance,
    file_each,
)
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE, is_silence

NO_WORD = frozenset({"", "<eps>", "<sil>", "!sil", "sil", "sp"})  # spn is a word's spoken noise
SUFFIX = ".TextGrid"
SMALLEST_S = 1e-4
NO_LENGTH = "an interval of no length cannot stand there, left out"
NO_SCORE = "a confidence cannot stand there, left out"
_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?<!\S)(?P<number>[+-]?\d[\d.eE+-]*)(?!\S)|<(?:exists|absent)>|(?<!\S)!.*'
)
_LONG = (  # an interval; a tier; the file
    '        intervals [{i}]:\n            xmin = {0} \n            xmax = {1} \n'
    '            text = "{2}" \n',
    '    item [{i}]:\n        class = "IntervalTier" \n        name = "{0}" \n'
    "        xmin = 0 \n        xmax = {1} \n        intervals: size = {2} \n",
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0 \nxmax = {0} \n'
    "tiers? <exists> \nsize = {1} \nitem []: \n",
)  # fmt: skip
_SHORT = (
    '{0}\n{1}\n"{2}"\n',
    '"IntervalTier"\n"{0}"\n0\n{1}\n{2}\n',
    'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n{0}\n<exists>\n{1}\n',
)


def textgrid_text(tiers: Mapping[str, Sequence[Interval]], length_s: float, short: bool) -> str:
    """Return the text of a TextGrid; silence gets no label, an interval of no length is left out.

    Raises:
        DataError: Intervals of a tier overlap, are out of order or end after ``length_s``.
    """
    interval, tier, file = _SHORT if short else _LONG
    end = format_s(length_s)
    parts = [file.format(end, len(tiers))]
    for n, (name, intervals) in enumerate(tiers.items(), 1):
        rows = _filled(intervals, round(length_s, DECIMALS))
        parts.append(tier.format(_quoted(name), end, len(rows), i=n))
        parts += [
            interval.format(format_s(a), format_s(b), _quoted(label), i=i)
            for i, (a, b, label) in enumerate(rows, 1)
        ]
    return "".join(parts)


def write_textgrid(
    path: Path | str, words: Sequence[Interval], phones: Sequence[Interval], length_s: float
) -> None:
    """Write one utterance in the long form; see :func:`textgrid_text`."""
    try:
        text = textgrid_text({WORDS: words, PHONES: phones}, length_s, short=False)
    except DataError as e:
        raise DataError(e.what, path) from None
    Path(path).write_text(text, encoding="utf-8", newline="\n")


def render(u: Utterance, losses: Losses, *, short: bool = False) -> dict[str, str]:
    """Return the file of an utterance, by its ending."""
    for rows in u.tiers.values():
        for i in rows:
            if round(i.start_s, DECIMALS) == round(i.end_s, DECIMALS):
                losses.tell(NO_LENGTH, u.name, i)
            if i.score is not None:
                losses.tell(NO_SCORE, u.name, i)
    return {SUFFIX: textgrid_text(u.tiers, u.length_s, short)}


def _filled(intervals: Sequence[Interval], length_s: float) -> list[tuple[float, float, str]]:
    """Return intervals that cover ``[0, length_s)`` without gaps, as Praat wants them."""
    rows: list[tuple[float, float, str]] = []
    at = 0.0
    for i in intervals:
        start, end = round(i.start_s, DECIMALS), round(i.end_s, DECIMALS)
        if end == start:
            continue
        if start < at or end < start or end > length_s:
            raise DataError(f"'{i.name}' at {i.start_s}..{i.end_s} s overlaps or is late")
        if start > at:
            rows.append((at, start, ""))
        rows.append((start, end, "" if i.name == SILENCE else i.name))
        at = end
    if at < length_s or not rows:
        rows.append((at, length_s, ""))
    return rows


def _quoted(label: str) -> str:
    return label.replace('"', '""')


def read(path: Path) -> Mapping[str, Utterance]:
    """Return the TextGrids below a folder, or one file; see :func:`.tiers.file_each`."""
    return file_each(path, SUFFIX, "TextGrid", _load)


def _load(utt: str, path: Path) -> Utterance:
    length_s, tiers = _parsed(path)
    return Utterance(utt, length_s, tiers)


def read_textgrid(path: Path | str) -> dict[str, list[Interval]]:
    """Return ``{"words": [...], "phones": [...]}``, of these the tiers that are there.

    Silence is named ``SIL`` among the phones and left out among the words.

    Raises:
        DataError: The file is missing or no TextGrid, or has neither tier, or one twice.
    """
    return _parsed(Path(path))[1]


def _parsed(path: Path) -> tuple[float, dict[str, list[Interval]]]:
    if not path.is_file():
        raise DataError(f"{path.name} is missing", path)
    try:
        length_s, tiers = _tiers(_decoded(path.read_bytes()))
    except (ValueError, TypeError, StopIteration) as e:
        why = "it breaks off" if isinstance(e, StopIteration) else e
        raise DataError(f"not a TextGrid that can be read ({why})", path) from None
    found: dict[str, list[Interval]] = {}
    for kind, name, entries in tiers:
        tier = tier_of(name)
        if kind != "IntervalTier" or tier is None:
            continue
        if tier in found:
            raise DataError(
                f"there are two tiers of {tier}", path, "write one TextGrid per speaker"
            )
        found[tier] = named(entries, tier, path)
    if not found:
        names = ", ".join(f"'{name}'" for _, name, _ in tiers)
        raise DataError(f"no tier 'words' or 'phones', only {names or 'none'}", path)
    return length_s, found


def tier_of(name: str) -> str | None:
    """Return which tier a name stands for: "words", "Word", "speaker - words"; None for others."""
    kind = name.rpartition(" - ")[2].strip().lower()
    kind = kind if kind.endswith("s") else kind + "s"
    return kind if kind in TIERS else None


def _tiers(text: str) -> tuple[float, list[tuple[str, str, list[tuple[float, float, str]]]]]:
    """Return the end of the file's time, and class, name and intervals of each tier."""
    values = _values(text)
    if next(values) not in ("ooTextFile", "ooTextFile short") or next(values) != "TextGrid":
        raise ValueError("its head is not that of a TextGrid in text form")
    (_, end), tiers = _numbers(values, 2), []
    for _ in range(int(*_numbers(values, 1))):
        kind, name = _string(values), _string(values)
        _, _, count = _numbers(values, 3)
        if kind == "IntervalTier":
            rows = [(*_numbers(values, 2), _string(values)) for _ in range(int(count))]
        else:
            rows = [(*_numbers(values, 1) * 2, _string(values)) for _ in range(int(count))]
        tiers.append((kind, name, rows))
    return end, tiers


def _values(text: str) -> Iterator[str | float]:
    """Yield the strings and numbers that stand free."""
    for found in _TOKEN.finditer(text):
        if found["text"] is not None:
            yield found["text"].replace('""', '"')
        elif found["number"] is not None:
            yield float(found["number"])


def _numbers(values: Iterator[str | float], count: int) -> list[float]:
    rows: list[Any] = [next(values) for _ in range(count)]
    for x in rows:
        if not isinstance(x, float) or not math.isfinite(x):
            raise ValueError(f"'{x}' stands where a number should be")
    return rows


def _string(values: Iterator[str | float]) -> str:
    if not isinstance(x := next(values), str):
        raise ValueError(f"{x} stands where a text should be")
    return x


def _decoded(raw: bytes) -> str:
    """Return the text of a file in UTF-16 or UTF-8."""
    wide = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    return raw.decode("utf-16" if wide else "utf-8-sig").replace("\r\n", "\n")


def named(entries: Iterable[tuple[float, float, str]], kind: str, path: object) -> list[Interval]:
    """Return intervals in order; one that ends within rounding of the next's start ends there."""
    rows: list[Interval] = []
    for start, end, label in sorted(entries):
        if end < start:
            raise DataError(f"'{label}' in the tier {kind} ends at {end} s, before {start} s", path)
        if rows and rows[-1].end_s > start:
            before = rows[-1]
            if before.end_s - start > SMALLEST_S:
                what = f"'{before.name}' and '{label}' in the tier {kind} overlap at {start} s"
                raise DataError(what, path, "correct the times of one of them")
            rows[-1] = replace(before, end_s=start)
        rows.append(Interval(start, end, label.strip()))
    if kind == WORDS:
        return [r for r in rows if r.name.lower() not in NO_WORD]
    return [replace(r, name=SILENCE) if is_silence(r.name) else r for r in rows]
