# SPDX-License-Identifier: Apache-2.0
"""Hypotheses that a user has already, put beside SLURP's text: ``--asr table:PATH``.

PATH is a file, or a folder whose .txt, .tsv and .jsonl files are read. A line is

    id<TAB>text        nothing after the tab: the recogniser heard no word
    {"id": ..., "text": ...}   also "file", "utt" or "slurp_id", and "hyp" or "asr"

The ids are names of recordings, with or without folder and .flac, or all of them slurp_ids.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paired_text import Pair, Pairs
from slurp_asr import chosen
from slurp_text import Sentence, one_line

from espnet_ext.data.lines import utf8_lines
from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError

SUFFIXES = (".txt", ".tsv", ".jsonl")
ID_KEYS, TEXT_KEYS = ("id", "file", "utt", "slurp_id"), ("text", "hyp", "asr")
FORM = 'id<TAB>text, or {"id": ..., "text": ...}'
MANY_EMPTY = 0.2  # of a set: more than a recogniser usually leaves empty
SKIPPED = "without_asr.tsv"
MAX_MISSING = 0.05  # of a set; more look like the hypotheses of something else

Heard = dict[str, tuple[str, str]]  # id -> text, and where it stands


def read_hypotheses(path: Path) -> Heard:
    """Read a file, or those of a folder.

    Raises:
        DataError: There is none, a line has another form, or an id stands twice.
    """
    files = [path]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in SUFFIXES)
    heard: Heard = {}
    for file in filter(Path.is_file, files):
        for where, utt, text in _lines(file):
            if utt in heard:
                raise DataError(f"'{utt}' stands twice", where, f"first at {heard[utt][1]}")
            heard[utt] = (text, where)
    if not heard:
        how = f"give a file of lines {FORM}, or a folder of such ({', '.join(SUFFIXES)})"
        raise DataError("there are no hypotheses", path, how)
    return heard


def _lines(file: Path) -> Iterator[tuple[str, str, str]]:
    """Yield where, id and text of each line; empty lines count for the numbers only."""
    for number, line in utf8_lines(file):
        where = f"{file}:{number}"
        if line.startswith("{"):
            utt, text = _of_json(line, where)
        else:
            utt, tab, text = line.partition("\t")
            if not tab and " " in utt:  # the end of a line is cut off, with the tab of no text
                raise DataError("there is no tab", where, f"a line is {FORM}")
        yield where, _id(utt), one_line(text)


def _of_json(line: str, where: str) -> tuple[str, str]:
    try:
        row: dict[str, Any] = json.loads(line)
    except ValueError as e:
        raise DataError(f"not JSON: {e}", where, f"a line is {FORM}") from None
    found = []
    for keys in (ID_KEYS, TEXT_KEYS):
        key = next((k for k in keys if k in row), None)
        if key is None or not isinstance(row[key], str | int):
            what = f"there is no {' or '.join(keys)} of text"
            raise DataError(what, where, f"it has {', '.join(row) or 'nothing'}")
        found.append(str(row[key]))
    return found[0], found[1]


def _id(text: str) -> str:
    """Return a recording's name without folder and suffix; other ids as they are."""
    name = Path(text.strip()).name
    return name.rpartition(".")[0] if name.endswith((".flac", ".wav")) else name


def with_hypotheses(
    sentences: dict[str, list[Sentence]], heard: Heard, recordings: str, names: dict[str, str]
) -> tuple[dict[str, Pairs], dict[str, list[str]]]:
    """Return the sets by ``names[split]``, and of each the utterances without a hypothesis.

    Args:
        sentences: By split.
        heard: Of :func:`read_hypotheses`.
        recordings: ``all``, ``headset`` or ``first``: whose hypotheses are wanted.
        names: Name of the set of each split.

    Raises:
        DataError: An id is unknown, the ids are of two kinds, or many utterances have none.
    """
    by_slurp_id = {s.slurp_id for rows in sentences.values() for s in rows}
    known = {Path(f).stem for rows in sentences.values() for s in rows for f in s.files}
    kind = by_slurp_id if next(iter(heard)) in by_slurp_id else known
    for utt, (_, where) in heard.items():
        if utt not in kind:
            what = "no slurp_id" if kind is by_slurp_id else "no recording"
            raise DataError(f"'{utt}' is {what} of SLURP's {', '.join(sentences)}", where,
                            "ids are names of recordings, or all of them slurp_ids")  # fmt: skip
    sets, without = {}, {}
    for split, rows in sentences.items():
        wanted = _wanted(rows, kind is by_slurp_id, recordings)
        pairs = {u: Pair(s.text, heard[i][0], s.label) for u, i, s in wanted if i in heard}
        missing = [u for u, i, _ in wanted if i not in heard]
        if len(missing) > MAX_MISSING * len(wanted):
            what = f"{len(missing):,} of {len(wanted):,} utterances of {split} have no hypothesis"
            how = "give those of all splits in one file or folder, or --recordings headset | first"
            raise DataError(what, f"{missing[0]} is the first", how)
        sets[names[split]], without[names[split]] = pairs, missing
    return sets, without


def _wanted(rows: list[Sentence], by_id: bool, which: str) -> list[tuple[str, str, Sentence]]:
    """Return utterance, id among the hypotheses, and sentence."""
    if by_id:
        return [(f"slurp-{int(s.slurp_id):06d}", s.slurp_id, s) for s in rows]
    return [(Path(f).stem, Path(f).stem, s) for s in rows for f in chosen(s.files, which)]


def tell_heard(name: str, pairs: Pairs, missing: list[str]) -> None:
    """Print how many hypotheses a set has, and how many of them are empty."""
    empty = sum(not p.asr for p in pairs.values())
    print(f"{name}: {len(pairs):,} utterances with a hypothesis, {empty:,} of them empty; "
          f"{len(missing):,} without one")  # fmt: skip
    if empty > MANY_EMPTY * len(pairs):
        print(f"WARNING: {name}: {100 * empty / len(pairs):.0f} % of the hypotheses are empty; "
              "are they complete?")  # fmt: skip


def tell_missing(folder: Path, name: str, missing: list[str]) -> None:
    """List the utterances that are left out, and tell their number."""
    if missing:
        write_table(folder / SKIPPED, dict.fromkeys(missing, "no hypothesis"))
        print(f"{name}: {len(missing)} utterances have no hypothesis, left out: {folder / SKIPPED}")
