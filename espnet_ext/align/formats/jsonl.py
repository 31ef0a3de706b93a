# SPDX-License-Identifier: Apache-2.0
"""JSON lines: an utterance a line.

Our own, and what manifest.jsonl of the synthetic corpus has among other keys:

    {"id": "u1", "length_s": 2.5, "speaker": "s1", "words": [["hello", 0.1, 0.4, 0.98], ...],
     "phones": [["SIL", 0.0, 0.1], ...]}

with name, start, end, and the confidence if that is known; a part of a recording has "recording"
and "start_s" as well.

Lhotse's supervisions, ``SupervisionSet.from_jsonl``:

    {"id": "u1", "recording_id": "r1", "start": 12.0, "duration": 2.5, "channel": 0, "text": "...",
     "speaker": "s1", "alignment": {"word": [["hello", 12.1, 0.3, 0.98], ...], "phone": [...]}}

with name, start within the recording, length, confidence. Files may be compressed (.gz).
"""

import gzip
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from espnet_ext.align.formats.tiers import (
    PHONES,
    TIERS,
    WORDS,
    Interval,
    Losses,
    Utterance,
    Utterances,
    last_end_s,
)
from espnet_ext.errors import DataError

DIGITS = 8  # lhotse's own rounding of sums of times
KINDS = {WORDS: "word", PHONES: "phone"}  # of lhotse's alignments


def render(u: Utterance, losses: Losses) -> dict[str, str]:
    """Return the line of an utterance, under no name."""
    row: dict[str, Any] = {"id": u.name, "length_s": u.length_s}
    row |= {k: v for k in ("speaker", "recording", "start_s") if (v := getattr(u, k))}
    for tier, rows in u.tiers.items():
        row[tier] = [
            [i.name, i.start_s, i.end_s, *([] if i.score is None else [i.score])] for i in rows
        ]
    return _line(row)


def render_lhotse(u: Utterance, losses: Losses) -> dict[str, str]:
    """Return the line of an utterance as a supervision of lhotse, under no name."""
    return _line(to_supervision(u))


def to_supervision(u: Utterance) -> dict[str, Any]:
    """Return an utterance as a supervision of lhotse; times count as its ``start_s`` does."""
    row: dict[str, Any] = {
        "id": u.name, "recording_id": u.recording or u.name, "start": u.start_s,
        "duration": u.length_s, "channel": 0,
        "text": " ".join(i.name for i in u.tiers.get(WORDS, [])),
    }  # fmt: skip
    if u.speaker:
        row["speaker"] = u.speaker
    row["alignment"] = {
        KINDS[tier]: [
            [i.name, round(u.start_s + i.start_s, DIGITS), round(i.end_s - i.start_s, DIGITS)]
            + ([] if i.score is None else [i.score])
            for i in rows
        ]
        for tier, rows in u.tiers.items()
    }
    return row


def _line(row: dict[str, Any]) -> dict[str, str]:
    line = json.dumps(row, ensure_ascii=False)
    for end in ("\x85", "\u2028", "\u2029"):  # of a line, for some readers
        line = line.replace(end, f"\\u{ord(end):04x}")
    return {"": line + "\n"}


def is_lhotse(path: Path) -> bool:
    """Tell whether the first line is a supervision of lhotse."""
    with _open(path) as f:
        try:
            return "recording_id" in json.loads(f.readline())
        except (ValueError, TypeError):
            return False


def read(path: Path) -> Mapping[str, Utterance]:
    """Return the utterances of a file, of one kind or the other.

    Raises:
        DataError: The file is not usable, or two lines are of one utterance.
    """
    from_row = from_supervision if is_lhotse(path) else _from_ours
    held = _open(path)
    offsets, at = {}, 0
    for number, line in enumerate(held, 1):
        try:
            utt = json.loads(line)["id"]
        except (ValueError, KeyError, TypeError) as e:
            raise DataError("the line is no utterance", f"{path}:{number}") from e
        if utt in offsets:
            raise DataError(f"'{utt}' has two lines", f"{path}:{number}", "remove one of them")
        offsets[utt] = at
        at += len(line)

    def load(utt: str, offset: int) -> Utterance:
        held.seek(offset)
        row = json.loads(held.readline())
        try:
            return from_row(row)
        except (KeyError, TypeError, ValueError, IndexError) as e:
            raise DataError(f"'{utt}' has no usable times ({e})", path) from e

    return Utterances(offsets, load)


def _open(path: Path) -> IO[bytes]:
    """Open a file for reading at any place; a compressed one is a plain file that has no name."""
    if path.suffix != ".gz":
        return open(path, "rb")
    plain = tempfile.TemporaryFile()  # noqa: SIM115
    with gzip.open(path, "rb") as f:
        shutil.copyfileobj(f, plain)
    plain.seek(0)
    return plain


def _from_ours(row: dict[str, Any]) -> Utterance:
    tiers = {
        tier: [Interval(float(x[1]), float(x[2]), x[0], *x[3:4]) for x in row[tier]]
        for tier in TIERS
        if tier in row
    }
    length_s = max(float(row.get("length_s", 0.0)), last_end_s(tiers))
    speaker = row.get("speaker", "")
    return Utterance(
        row["id"], length_s, tiers, speaker if isinstance(speaker, str) else "",
        row.get("recording", ""), float(row.get("start_s", 0.0)),
    )  # fmt: skip


def from_supervision(row: dict[str, Any]) -> Utterance:
    """Return a supervision of lhotse as an utterance whose times count from its beginning.

    Raises:
        KeyError, TypeError, ValueError, IndexError: It is not as lhotse writes it.
    """
    start_s, alignment = float(row["start"]), row.get("alignment") or {}
    tiers = {
        tier: [_shifted(item, start_s) for item in alignment[kind]]
        for tier, kind in KINDS.items()
        if kind in alignment
    }
    recording = row["recording_id"] if row["recording_id"] != row["id"] else ""
    return Utterance(
        row["id"], float(row["duration"]), tiers, row.get("speaker") or "", recording, start_s
    )


def _shifted(item: list | dict, start_s: float) -> Interval:
    """Return an item of lhotse's as an interval within its utterance."""
    name, start, length, *score = item.values() if isinstance(item, dict) else item
    at = round(float(start) - start_s, DIGITS)
    return Interval(at, round(at + float(length), DIGITS), name, *score[:1])
