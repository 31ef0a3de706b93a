# SPDX-License-Identifier: Apache-2.0
"""One table for every corpus of tagged speech: what its reader writes, and what sets are made of.

A manifest is UTF-8 text with tabs between the columns and no quoting. Its first line names them:

    id  audio  [start_s]  [end_s]  speaker  language  text  tagged  [set]  [meaning]

``text`` is what is said, ``tagged`` the same with concepts (:mod:`espnet_ext.text.tagged`); they
may differ in capitals.
``audio`` is absolute or relative to the manifest; without times it is the whole file. ``set`` is
train, dev or test, ``meaning`` a key that the translations of an utterance share.
"""

import math
import os
import re
import unicodedata
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from espnet_ext.data.audio import END_TOLERANCE_S, info
from espnet_ext.data.lines import table_rows
from espnet_ext.errors import DataError, nearest
from espnet_ext.files import atomic_path
from espnet_ext.text import tagged as tags

COLUMNS = ("id", "audio", "start_s", "end_s", "speaker", "language", "text", "tagged")
TIMES = ("start_s", "end_s")  # empty, or no such column: the whole file
OPTIONAL = ("set", "meaning")
NAME = "manifest.tsv"
SHORTEST_S = 0.01
_WORD = ("id", "speaker", "language")
_BREAK = re.compile(r"[\t\r\n]")
_FILE_NAME = re.compile(r"\w[\w.+-]*")
Lengths = Callable[[str], float]


class SluRow(NamedTuple):
    """One utterance.

    Attributes:
        id: Its name.
        audio: Absolute path of the file.
        start_s, end_s: Its part of the file, half-open; where the start is None, all of it.
        speaker, language: One word each.
        text: Words separated by one space.
        tagged: The words with tags and closing marks.
        set: Part of the corpus; may be empty.
        meaning: What translations share; may be empty.
        where: ``file:line``, for messages.
    """

    id: str
    audio: str
    start_s: float | None
    end_s: float | None
    speaker: str
    language: str
    text: str
    tagged: str
    set: str = ""
    meaning: str = ""
    where: str = ""


def manifests(path: Path | str) -> dict[str, Path]:
    """Return ``{set: file}``; a manifest that is one file has the key ``""``.

    Args:
        path: A file, or a folder with ``manifest.tsv`` or with one ``<set>.tsv`` for each set.

    Raises:
        DataError: There is none.
    """
    path = Path(path)
    if path.is_file():
        return {"": path}
    if (path / NAME).is_file():
        return {"": path / NAME}
    found = {file.stem: file for file in sorted(path.glob("*.tsv")) if file.name[0] != "."}
    if not found:
        how = f"give a manifest, or a folder with {NAME} or with train.tsv, dev.tsv, test.tsv"
        raise DataError("there is no manifest", path, how)
    return found


def read(
    paths: Path | str | Sequence[Path | str],
    known: Container[str] | None = None,
    lengths: Lengths | None = None,
    same_words: bool = True,
) -> Iterator[SluRow]:
    """Yield the checked rows of one or several manifests; memory holds the ids only.

    Args:
        paths: See :func:`manifests`. An id must not be in two of them.
        known: Tags that exist, brackets included; None allows all.
        lengths: Length of an audio file in seconds; None opens each file once.
        same_words: Whether ``tagged`` without its tags must be ``text``; units of normalised values
            are not the words that were said.

    Raises:
        DataError: Anything that is wrong, with file and line.
    """
    lengths, lines = lengths or audio_lengths(), {}
    paths = [paths] if isinstance(paths, Path | str) else paths
    for part, file in (item for path in paths for item in manifests(path).items()):
        for row in _rows(file, part):
            if old := lines.get(row.id):
                raise DataError(f"'{row.id}' stands twice", f"{old} and {row.where}", "rename one")
            lines[row.id] = row.where
            check_row(row, known, same_words)
            yield _timed(row, lengths)
    if not lines:
        raise DataError("the manifest lists no utterance", ", ".join(map(str, paths)), "fill it")


def write(path: Path | str, rows: Iterable[SluRow]) -> int:
    """Write a manifest atomically, all columns; return the number of its rows.

    Raises:
        DataError: A value holds a tab or the end of a line.
    """
    count, columns = 0, (*COLUMNS, *OPTIONAL)
    with atomic_path(path) as tmp, open(tmp, "w", encoding="utf-8", newline="\n") as f:
        f.write("\t".join(columns) + "\n")
        for row in rows:
            part = ["", ""] if row.start_s is None else [f"{t:.3f}" for t in row[2:4]]
            cells = [*row[:2], *part, *row[4 : len(columns)]]
            if bad := next((cell for cell in cells if _BREAK.search(cell)), None):
                what = f"a value holds a tab or the end of a line: {bad!r}"
                raise DataError(what, row.where or row.id, "use spaces in its place")
            f.write("\t".join(cells) + "\n")
            count += 1
    return count


def check_row(row: SluRow, known: Container[str] | None = None, same_words: bool = True) -> None:
    """Check what can be seen without the audio.

    Raises:
        DataError: Names, times, tags or texts are not usable.
    """
    for name in _WORD:
        if len(getattr(row, name).split()) != 1:
            what = f"{name} is '{getattr(row, name)}', not one word"
            raise DataError(what, row.where, "give one word; use _ in place of a blank")
    if row.set and not _FILE_NAME.fullmatch(row.set):
        how = "use letters, digits and _, for example train"
        raise DataError(f"set '{row.set}' cannot be the name of a folder", row.where, how)
    if "<" in row.text or ">" in row.text:
        word = next(word for word in row.text.split() if "<" in word or ">" in word)
        how = "the column text has words only; tags stand in the column tagged"
        raise DataError(f"text has '{word}'", f"{row.where}, column text", how)
    tags.check(row.tagged, f"{row.where}, column tagged", known)
    if same_words and (wrong := _difference(tags.plain(row.tagged), row.text)):
        what = f"without its tags, tagged is not text: {wrong}"
        raise DataError(what, row.where, "make the words of both columns equal")
    start_s, end_s = row.start_s or 0.0, row.end_s
    if start_s < 0 or (end_s is not None and end_s <= start_s):
        what = f"the utterance starts at {start_s:g} s and ends at {end_s or 0:g} s"
        raise DataError(what, row.where, "0 <= start_s < end_s")


def audio_lengths() -> Lengths:
    """Return a function that tells the seconds of an audio file and opens each file once."""

    @cache
    def length_s(path: str) -> float:
        return info(path).duration_s

    return length_s


def _difference(a: str, b: str) -> str:
    """Show the first words in which two texts differ, but for capitals; empty if none do."""
    one, other = ([*text.split(), "(end)"] for text in (a, b))
    for place, (x, y) in enumerate(zip(one, other, strict=False), 1):
        if x != y and _folded(x) != _folded(y):
            return f"'{x}' and '{y}' (word {place})"
    return ""


def _folded(word: str) -> str:
    return unicodedata.normalize("NFC", word).casefold()


def _rows(path: Path, part: str) -> Iterator[SluRow]:
    """Yield the rows of one file, cells checked for their form only."""
    needed = [name for name in COLUMNS if name not in TIMES]
    columns, rows = table_rows(path, needed, (*TIMES, *OPTIONAL))
    if not part and "set" not in columns:
        how = "add it (train, dev, test), or give a folder with train.tsv, dev.tsv and test.tsv"
        raise DataError("the first line names no column set", f"{path}:1", how)
    for number, cell in rows:
        where = f"{path}:{number}"
        audio = os.path.join(path.parent, os.path.expanduser(cell["audio"]))
        if not cell["audio"]:
            raise DataError("audio is empty", where, "name the audio file")
        yield SluRow(
            id=cell["id"],
            audio=os.path.abspath(audio),
            start_s=_seconds(cell.get("start_s"), "start_s", where),
            end_s=_seconds(cell.get("end_s"), "end_s", where),
            speaker=cell["speaker"],
            language=cell["language"],
            text=" ".join(cell["text"].split()),
            tagged=" ".join(cell["tagged"].split()),
            set=part or cell.get("set", ""),
            meaning=cell.get("meaning", ""),
            where=where,
        )


def _seconds(cell: str | None, name: str, where: str) -> float | None:
    if not cell:
        return None
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{name} '{cell}' is no time in seconds", where, "for example 12.345")
    return value


def _timed(row: SluRow, lengths: Lengths) -> SluRow:
    """Check the times against the audio; an end within rounding beyond it becomes its end."""
    length_s = _length_s(row, lengths)
    if row.start_s is None and row.end_s is None:
        return row._replace(end_s=length_s)
    start_s, end_s = row.start_s or 0.0, length_s if row.end_s is None else row.end_s
    if end_s > length_s + END_TOLERANCE_S or start_s + SHORTEST_S > min(end_s, length_s):
        what = f"[{start_s:g}, {end_s:g}) s is not inside the audio of {length_s:.3f} s"
        raise DataError(what, row.where, "correct the times, or the audio file")
    return row._replace(start_s=start_s, end_s=min(end_s, length_s))


def _length_s(row: SluRow, lengths: Lengths) -> float:
    """Return the length of the row's audio file in seconds; what is wrong with it names the row."""
    if not os.path.isfile(row.audio):
        how = f"correct the path: absolute, or from {os.path.dirname(row.where)}"
        raise DataError(f"the audio file is missing: {row.audio}", row.where, how)
    try:
        return lengths(row.audio)
    except DataError as e:
        how = f"{e.how or 'replace the file'}, or remove the line"
        raise DataError(f"{e.what}: {row.audio}", row.where, how) from None


def unknown(kind: str, name: str, valid: Iterable[str], where: object) -> DataError:
    """Return the error that something is asked for which the manifest lacks."""
    valid = list(valid)
    listed = ", ".join(sorted(valid)) or "none"
    what = f"the manifest has no {kind} '{name}'; it has: {listed}"
    return DataError(what, where, nearest(name, valid) if valid else None)
