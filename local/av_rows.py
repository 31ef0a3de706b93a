# SPDX-License-Identifier: Apache-2.0
"""Lines of a manifest of clips, translations and transcripts, checked; see local/av_manifest.py."""

import json
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import json_lines

from espnet_ext.errors import DataError, nearest
from espnet_ext.paths import absolute

CLIPS, TRANSLATIONS = ("av_train", "av_dev"), ("st_train", "st_dev", "st_test")
TRANSCRIPTS = ("train", "dev", "test")
FURTHER = re.compile(r"(st_)?test_\w+")
WORDS = ("id", "speaker", "pair")  # one word each
PATHS, STRINGS = ("video", "audio"), ("text", "translation")
TIMES = ("start_s", "end_s")
KEYS = ("set", *WORDS, *PATHS, *STRINGS, *TIMES)
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")


@dataclass
class Row:
    """A line of a manifest; ``where`` is file:line, what is not given is empty."""

    where: str
    sets: list[str]
    id: str
    speaker: str = ""
    pair: str = ""
    video: str = ""
    audio: str = ""
    text: str = ""
    translation: str = ""
    start_s: float | None = None
    end_s: float | None = None


def find_files(given: str | None, variable: str = "MANIFEST") -> list[Path]:
    """Return the files of a manifest, which a variable of the environment names.

    Raises:
        DataError: The variable is not set, or there is none.
    """
    how = f"{variable}=/path/to/manifest.jsonl ./run.sh; README.md tells what to write"
    if not given:
        raise DataError(f"The environment variable {variable} is not set", None, how)
    path = absolute(given)
    found = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    if not found or not all(file.is_file() for file in found):
        what = "the folder has no *.jsonl" if path.is_dir() else "there is no such manifest"
        raise DataError(what, path, how)
    return found


def read(files: Iterable[Path]) -> list[Row]:
    """Read all lines and check all that can be checked without opening audio or video.

    Raises:
        DataError: Anything that is wrong with a line, with file and line.
    """
    rows: list[Row] = []
    lines: dict[str, str] = {}
    for file in files:
        for number, found in json_lines.objects(file):
            row = read_row(found, f"{file}:{number}", file.parent)
            if old := lines.get(row.id):
                how = 'rename one; a line may serve several sets: "set": ["st_train", "train"]'
                raise DataError(f"'{row.id}' stands twice", f"{old} and {row.where}", how)
            lines[row.id] = row.where
            rows.append(row)
    if not rows:
        raise DataError("the manifest lists nothing", ", ".join(map(str, files)), "fill it")
    return rows


def read_row(found: dict[str, Any], where: str, folder: Path) -> Row:
    """Return a checked line; files are named from ``folder``.

    Raises:
        DataError: See :func:`read`.
    """
    for key in found:
        if key not in KEYS:
            raise DataError(f"unknown key '{key}'", where, nearest(key, KEYS))
    given = {key: value for key, value in found.items() if value is not None}
    row = Row(where, sets_of(given.pop("set", None), where), "")
    for key, value in given.items():
        setattr(row, key, number(key, value, where) if key in TIMES else words(key, value, where))
    _check(row)
    for key in PATHS:
        if path := getattr(row, key):
            setattr(row, key, str(absolute(path, folder)))
            if not os.path.isfile(getattr(row, key)):
                how = f"correct the path, absolute or from {folder}"
                raise DataError(f"{key} is missing: {path}", where, how)
    return row


def sets_of(value: object, where: str) -> list[str]:
    """Return the sets of a line.

    Raises:
        DataError: It has none, or one that no stage knows.
    """
    names = value if isinstance(value, list) else [value]
    known = (*CLIPS, *TRANSLATIONS, *TRANSCRIPTS)
    for name in names or [None]:
        if not isinstance(name, str) or not (name in known or FURTHER.fullmatch(name)):
            what = "the line has no set" if name is None else f"unknown set {json.dumps(name)}"
            raise DataError(what, where, f"{nearest(str(name), known)}; or test_NAME, st_test_NAME")
    return list(dict.fromkeys(names))


def words(key: str, value: object, where: str) -> str:
    """Return a text with one space between words.

    Raises:
        DataError: It is no text, holds control characters, or blanks where one word must be.
    """
    if not isinstance(value, str):
        raise DataError(f"{key} is no text: {json.dumps(value)[:40]}", where, "put it in quotes")
    if CONTROL.search(value):
        raise DataError(f"{key} holds a control character: {value[:40]!r}", where, "remove it")
    if key in PATHS:
        return value
    if key in WORDS and len(value.split()) > 1:
        raise DataError(f"{key} is '{value}', not one word", where, "use _ in place of a blank")
    return " ".join(value.split())


def number(key: str, value: object, where: str) -> float:
    """Return a time in seconds.

    Raises:
        DataError: It is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        what = f"{key} is {json.dumps(value)[:40]}, not a time in seconds"
        raise DataError(what, where, "give a number, at least 0, without quotes")
    return float(value)


def _check(row: Row) -> None:
    """Raise if the line lacks something that one of its sets needs."""
    needed = {"id": "any"}
    for name in row.sets:
        if name in CLIPS:
            needed["video"] = name
        else:
            if not row.video:  # else its sound
                needed["audio"] = name
            needed["translation" if name.startswith("st_") else "text"] = name
    for key, name in needed.items():
        if not getattr(row, key):
            why = f"lines of set {name} need it" if name != "any" else "each line needs one"
            raise DataError(f"{key} is missing or empty", row.where, why)
    if "/" in row.id:
        raise DataError(f"the id '{row.id}' holds a slash", row.where, "use - in its place")
    start_s, end_s = row.start_s, row.end_s
    if ("video" in needed or not row.audio) and (start_s, end_s) != (None, None):
        how = "cut the clip; start_s and end_s are for speech without pictures"
        raise DataError("a clip is a whole file", row.where, how)
    if end_s is not None and end_s <= (start_s or 0.0):
        what = f"the utterance starts at {start_s or 0:g} s and ends at {end_s:g} s"
        raise DataError(what, row.where, "start_s < end_s")
