# SPDX-License-Identifier: Apache-2.0
"""What a check says of a set without audio: manual text, what a recogniser made of it, labels."""

from collections.abc import Sequence
from pathlib import Path

from espnet_ext.data import rows
from espnet_ext.data.findings import Finding, Findings

MANUAL, ASR = "text_manual", "text_asr"
USUAL_TEXTS = (MANUAL, ASR, "label")
MANY = 0.2  # of the lines without text: more than a recogniser usually leaves empty
LIMIT = 1000

_EMPTY = {
    ASR: "right if the recogniser heard no word",
    MANUAL: "give the text, or leave the utterance out",
}


def check_texts(folder: Path | str, files: Sequence[str] = USUAL_TEXTS) -> list[Finding]:
    """Check a set of tables with the same utterances.

    Args:
        folder: Of the set.
        files: Names of its tables.

    Returns:
        Errors first; an empty list means usable. A line without text is an error in labels only.
    """
    folder, out = Path(folder), Findings(LIMIT)

    def add(level: str, file: str, line: int | None, utt: str | None, what: str, how: str) -> None:
        out.add(Finding(level, str(folder / file), line, utt, what, how))

    tables: dict[str, rows.Table] = {}
    for file in files:
        if not (folder / file).is_file():
            add("error", file, None, None, "is missing", "write a line for each utterance")
            continue
        tables[file] = table = rows.load(folder / file, file, needs_value=False)
        if not table.lines:
            add("error", file, None, None, "has no lines", "write a line for each utterance")
        for line, utt in table.not_utf8:
            add("error", file, line, utt, "not UTF-8", "convert the file to UTF-8")
        for line, utt, same in table.twice:
            with_ = "the same value" if same else "another value"
            what = f"appears in line {table.lines[utt]}, too, with {with_}"
            add("error", file, line, utt, what, "keep one of them")
    for file, table in tables.items():
        for other, beside in tables.items():
            for utt in sorted(table.lines.keys() - beside.lines.keys(), key=rows.key_bytes):
                add("error", file, table.lines[utt], utt, f"is not in {other}",
                    "use the same utterances in both")  # fmt: skip
        _empty(file, table, add)
    _alike(tables, add)
    return out.result(str(folder))


def _empty(file: str, table: rows.Table, add) -> None:
    empty = [utt for utt, value in table.values.items() if value == ""]
    if not empty:
        return
    line, utt = table.lines[empty[0]], empty[0]
    count, total = len(empty), len(table.lines)
    what = f"has no value ({count} of {total} lines have none)"
    level, how = ("warning", _EMPTY[file]) if file in _EMPTY else ("error", "give the label")
    if file == ASR and count > MANY * total:
        how = f"more than {100 * MANY:.0f} %: look whether these are the hypotheses of this set"
    add(level, file, line, utt, what, how)


def _alike(tables: dict[str, rows.Table], add) -> None:
    """Tell of ASR text without any error, which is hardly the text of a recogniser."""
    if not {MANUAL, ASR} <= tables.keys():
        return
    manual, asr = tables[MANUAL].values, tables[ASR].values
    if manual and manual == asr:
        what = f"is the same as {MANUAL} in every line"
        add("warning", ASR, None, None, what, "look whether it is a recogniser's text")
