# SPDX-License-Identifier: Apache-2.0
"""What formatting writes beside audio: tables, lists of what was dropped and noted, a summary."""

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from espnet_ext.data import content, rows
from espnet_ext.data.format_job import copy_id
from espnet_ext.data.format_options import FormatOptions, FormatReport
from espnet_ext.data.journal import JOURNAL
from espnet_ext.data.streams import AUDIO
from espnet_ext.data.tables import write_spk2utt, write_table
from espnet_ext.errors import DataError
from espnet_ext.files import write_json, write_text

JOINED, DROPPED, NOTES = "joined.tsv", "dropped.tsv", "notes.tsv"


def write_joined(dst: Path, parts: list[list], names: list[str], report: FormatReport) -> None:
    """Write which samples of a joined utterance ``[first, end)`` each of its parts is."""
    report.joined = len(parts) - len({joined for joined, *_ in parts})
    if parts and names:
        report.unused.append(f"joined utterances have no line in {', '.join(names)}")
    parts = sorted(parts, key=lambda part: (rows.key_bytes(part[0]), part[2]))
    lines = ["joined\tutt\tfirst_sample\tend_sample", *("\t".join(map(str, p)) for p in parts)]
    write_text(dst / JOINED, "\n".join(lines) + "\n")


def write_result(
    dst: Path,
    kept: list[tuple],
    tables: dict,
    names: list[str],
    options: FormatOptions,
    report: FormatReport,
) -> None:
    """Write all tables of ``dst`` from the rows that are kept, format.json last.

    Raises:
        DataError: Nothing is kept.
    """
    _write_list(dst / DROPPED, "reason", report.dropped)
    _write_list(dst / NOTES, "note", report.notes)
    reasons = Counter(reason for _, reason, _ in report.dropped)
    if not kept:
        most = ", ".join(f"{n} x {r}" for r, n in reasons.most_common(3)) or "there was none"
        top = next(iter(reasons.most_common(1)), ("", 0))[0]
        how = content.HOW.get(top, "correct the data, min_s, max_s or ctc_units")
        what = f"no utterance is left of {report.read} ({most})"
        raise DataError(what, dst / DROPPED, f"read the reasons there; {how}")
    speaker = tables.get("utt2spk", {})
    utt2spk = {copy: copy_id(speaker.get(utt, utt), speed) for copy, utt, speed, *_ in kept}
    if AUDIO in tables:
        write_table(dst / AUDIO, ((row[0], row[3]) for row in kept))
        write_table(dst / "utt2num_samples", ((row[0], row[4]) for row in kept))
    write_table(dst / "utt2spk", utt2spk)
    write_spk2utt(dst, utt2spk)
    for name in names:
        table = tables[name]
        write_table(dst / name, ((c, table[u]) for c, u, *_ in kept if u in table))
    _remove_stale(Path(os.path.abspath(dst / "wav")), {row[3] for row in kept})
    summary = {
        "options": asdict(options),
        "read": report.read,
        "written": report.written,
        "joined": report.joined,
        "dropped": dict(reasons),
        "notes": report.summary,
        "tables": names,
    }
    write_json(dst / "format.json", summary)


def _write_list(path: Path, column: str, listed: Iterable[tuple[str, str, str]]) -> None:
    lines = [f"utt\t{column}\tdetail", *("\t".join(map(_one_cell, row)) for row in listed)]
    write_text(path, "\n".join(lines) + "\n")


def read_dropped(folder: Path) -> dict[str, str]:
    """Return ``{utterance: reason}`` of what formatting left out of ``folder``."""
    path = folder / DROPPED
    if not path.exists():
        return {}
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:])
    return {utt: reason for utt, reason, _ in rows}


def _one_cell(text: str) -> str:
    return " ".join(text.split())


def forget(dst: Path) -> None:
    """Remove the tables an earlier run wrote and its format.json, the mark of a complete folder."""
    mark = dst / "format.json"
    if mark.exists():
        for name in json.loads(mark.read_bytes()).get("tables", []):
            (dst / Path(name).name).unlink(missing_ok=True)
        (dst / JOINED).unlink(missing_ok=True)
        mark.unlink()


def _remove_stale(wav_dir: Path, used: set[str]) -> None:
    """Remove audio of an earlier run with other options or data."""
    for path in wav_dir.rglob("*"):
        if path.is_file() and str(path) not in used and path.name != JOURNAL:
            path.unlink()
