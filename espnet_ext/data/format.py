# SPDX-License-Identifier: Apache-2.0
"""Make a data directory that training can read fast: one file an utterance, one sampling rate.

Audio is written only when it must be (segments, another rate, several channels, speed copies,
commands, NIST sphere); else wav.scp points to the original. What cannot be trained on is dropped,
each with its reason and numbers: read * speeds = written + dropped. Short utterances without text
may be joined; then read = written + joined + dropped.
"""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from espnet_ext.data import rows
from espnet_ext.data.format_job import copy_id, ctc_units
from espnet_ext.data.join import JOINED, format_item, join_short
from espnet_ext.data.journal import JOURNAL, Journal
from espnet_ext.data.tables import iter_table, read_table, write_spk2utt, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import write_json, write_text

# Lengths, which formatting changes.
_STALE = ("utt2dur", "utt2num_samples", "utt2num_frames")


@dataclass(frozen=True)
class FormatOptions:
    """How to format a data directory.

    Args:
        fs: Sampling rate of the result in Hz.
        min_s: Shortest utterance kept, in seconds.
        max_s: Longest utterance kept, in seconds.
        speeds: Speed factors, 1 for the original; tempo and pitch change together.
        audio_format: ``flac`` or ``wav``, both 16 bit.
        ctc_stride: Feature frames (10 ms) per encoder frame.
        ctc_units: What CTC will predict, for dropping what is too short for it: ``char`` (exact),
            ``word`` (a lower bound for any BPE), None for no such check.
    """

    fs: int = 16000
    min_s: float = 0.1
    max_s: float = 30.0
    speeds: tuple[float, ...] = (1.0,)
    audio_format: str = "flac"
    ctc_stride: int = 4
    ctc_units: str | None = None

    def __post_init__(self) -> None:
        names = [f"{s:g}" for s in self.speeds]
        checks = {
            "fs": self.fs >= 100,
            "min_s": 0 <= self.min_s < self.max_s,
            "speeds": names
            and len(set(names)) == len(names)
            and all(math.isfinite(s) and s > 0 for s in self.speeds),
            "audio_format": self.audio_format in ("flac", "wav"),
            "ctc_stride": self.ctc_stride >= 1,
            "ctc_units": self.ctc_units in ("char", "word", None),
        }
        for name, good in checks.items():
            if not good:
                value = getattr(self, name)
                raise UsageError(f"{name} cannot be {value!r}", "format options", "see its docs")


@dataclass
class FormatReport:
    """What formatting did; ``read * len(speeds) == written + joined + len(dropped)``.

    Args:
        read: Utterances of the source.
        written: Utterances of the result, speed copies counted.
        dropped: ``(utterance, reason, numbers)``, speed copies counted.
        notes: What else a reader should know (scaled against clipping, ids without audio).
        reused: Recordings whose result an earlier, interrupted run had finished.
        joined: Utterances that are part of the one that another begins.
    """

    read: int
    written: int = 0
    dropped: list[tuple[str, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    reused: int = 0
    joined: int = 0


def format_dir(
    src: Path | str,
    dst: Path | str,
    options: FormatOptions,
    *,
    n_jobs_map: Callable[[Callable, Iterable], Iterable] | None = None,
    progress: Callable[[int, int], None] | None = None,
    allow_pipes: bool = False,
    join_s: float = 0.0,
) -> FormatReport:
    """Format data directory ``src`` into ``dst``.

    Writes the tables, dropped.tsv and, last, format.json; audio goes to ``dst/wav``. A rerun after
    an interruption takes over what was finished from the same source with the same options.
    Joining is told in joined.tsv; see :mod:`espnet_ext.data.join`.

    Args:
        src: Checked data directory; without utt2spk each utterance is its own speaker.
        dst: Folder to write, not ``src``.
        options: What to do.
        n_jobs_map: Ordered map ``(function, items) -> results`` over plain data; what it yields is
            safe from an interruption at once, what it collects only at its end.
        progress: Called as ``progress(done, total)`` with numbers of utterances.
        allow_pipes: Run commands in wav.scp, without a shell.
        join_s: Shorter utterances of a speaker are joined (s); only without text or speed copies.

    Raises:
        UsageError: ``join_s`` cannot be used with this set or these options.
        DataError: A table is not usable, ids collide, nothing remains, ``dst/wav`` is not ours.
        SetupError: A program of a piped entry is missing, or the disk is full.
    """
    src, dst = Path(src), Path(dst)
    if dst.exists() and src.exists() and dst.samefile(src):
        raise DataError("source and result are the same folder", dst, "give another folder")
    tables, names = _read_tables(src)
    _refuse_equal_ids(tables, options)
    _check_join(src, tables, options, join_s)
    wav_dir, n_jobs_map = _open_wav_dir(dst), n_jobs_map or map
    _forget(dst)
    report, items = _plan(src, tables, options, wav_dir, allow_pipes)
    if join_s:
        utt2spk = tables.setdefault("utt2spk", {})
        items = join_short(items, utt2spk, join_s, options.max_s, n_jobs_map)
    results = Journal(wav_dir / JOURNAL)
    kept, parts = _work(results.run(format_item, items, n_jobs_map), report, options, progress)
    report.reused = results.reused
    if join_s:
        _write_joined(dst, parts, names, report)
    _write_result(dst, kept, tables, names, options, report)
    return report


def _work(
    results: Iterable[tuple[dict, dict]],
    report: FormatReport,
    options: FormatOptions,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[list], list[list]]:
    """Do the work; return the rows that are kept and the parts of joined utterances."""
    kept: list[list] = []
    parts: list[list] = []
    done = len(report.dropped) // len(options.speeds)
    for item, result in results:
        kept += result["rows"]
        parts += result.get("parts", [])
        report.dropped += [tuple(d) for d in result["dropped"]]
        report.notes += result["notes"]
        done += len(item["utts"])
        if progress:
            progress(done, report.read)
    report.written = len(kept)
    report.dropped.sort(key=lambda d: rows.key_bytes(d[0]))
    return kept, parts


def _check_join(src: Path, tables: dict, options: FormatOptions, join_s: float) -> None:
    if join_s == 0:
        return
    if "text" in tables:
        how = "join sets without text only: joined audio would need joined texts"
        raise UsageError("a set with text cannot be joined", src / "text", how)
    if not 0 < 3 * join_s <= options.max_s or tuple(options.speeds) != (1.0,):
        how = "0 < 3 * join_s <= max_s, and speeds (1.0,)"
        raise UsageError(f"join_s cannot be {join_s!r} here", "format options", how)


def _write_joined(dst: Path, parts: list[list], names: list[str], report: FormatReport) -> None:
    """Write which samples of a joined utterance ``[first, end)`` each of its parts is."""
    report.joined = len(parts) - len({joined for joined, *_ in parts})
    if parts and names:
        report.notes.append(f"joined utterances have no line in {', '.join(names)}")
    parts = sorted(parts, key=lambda part: (rows.key_bytes(part[0]), part[2]))
    lines = ["joined\tutt\tfirst_sample\tend_sample", *("\t".join(map(str, p)) for p in parts)]
    write_text(dst / JOINED, "\n".join(lines) + "\n")


def _open_wav_dir(dst: Path) -> Path:
    wav_dir = Path(os.path.abspath(dst / "wav"))
    wav_dir.mkdir(parents=True, exist_ok=True)
    journal = wav_dir / JOURNAL
    # Unused files of this folder are removed at the end, so it must be ours.
    if any(wav_dir.iterdir()) and not journal.exists():
        raise DataError("the folder holds audio that is not ours", wav_dir, "give another folder")
    journal.touch()
    return wav_dir


def _read_tables(src: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    tables = {"wav.scp": read_table(src / "wav.scp")}
    for name in ("segments", "text", "utt2spk"):
        if (src / name).exists():
            tables[name] = read_table(src / name)
    utts = tables.get("segments", tables["wav.scp"]).keys()
    names = [n for n in rows.extra_tables(src, utts) if n not in _STALE]
    for name in names:
        tables[name] = dict(iter_table(src / name))
    return tables, [*(["text"] if "text" in tables else []), *names]


def _utterances(tables: dict, src: Path) -> Iterator[tuple[str, str, list]]:
    """Yield ``(utterance, recording, [start_s, end_s])``."""
    for utt, value in tables.get("segments", tables["wav.scp"]).items():
        if "segments" not in tables:
            yield utt, utt, [None, None]
            continue
        segment = rows.parse_segment(value)
        if segment is None:
            what = f"the segment of '{utt}' is not 'utterance recording start end'"
            raise DataError(what, src / "segments", "check the folder first")
        yield utt, segment[0], list(segment[1:])


def _plan(
    src: Path, tables: dict, options: FormatOptions, wav_dir: Path, allow_pipes: bool
) -> tuple[FormatReport, list[dict]]:
    report, items, plain = FormatReport(0), {}, json.loads(json.dumps(asdict(options)))
    for utt, recording, times in _utterances(tables, src):
        report.read += 1
        text = tables["text"].get(utt, "") if "text" in tables else None
        reason = None
        if not tables["wav.scp"].get(recording):
            reason = ("no audio", f"'{recording}' has no entry in wav.scp")
        elif text == "":
            reason = ("empty text", "in text" if utt in tables["text"] else "not in text")
        elif "utt2spk" in tables and not tables["utt2spk"].get(utt):
            reason = ("no speaker", "in utt2spk")
        if reason:
            report.dropped += [(copy_id(utt, s), *reason) for s in options.speeds]
            continue
        units = ctc_units(text, options.ctc_units) if text else None
        if recording not in items:
            items[recording] = {
                "source": tables["wav.scp"][recording],
                "allow_pipes": allow_pipes,
                "wav_dir": str(wav_dir),
                "options": plain,
                "utts": [],
            }
        items[recording]["utts"].append([utt, *times, units and list(units)])
    utts = tables.get("segments", tables["wav.scp"])
    if unused := len(tables.get("text", {}).keys() - utts.keys()):
        report.notes.append(f"text holds {unused} ids without audio; they are left out")
    return report, list(items.values())


def _refuse_equal_ids(tables: dict, options: FormatOptions) -> None:
    utts = tables.get("segments", tables["wav.scp"])
    counts = Counter(copy_id(utt, s) for utt in utts for s in options.speeds)
    twice = next((c for c, n in counts.items() if n > 1), None)
    if twice:
        raise DataError(
            f"'{twice}' would be the id of two utterances",
            "speed copies",
            "the source has speed copies already: use speeds (1.0,)",
        )


def _write_result(
    dst: Path,
    kept: list[list],
    tables: dict,
    names: list[str],
    options: FormatOptions,
    report: FormatReport,
) -> None:
    lines = ["utt\treason\tdetail", *("\t".join(map(_one_cell, d)) for d in report.dropped)]
    write_text(dst / "dropped.tsv", "\n".join(lines) + "\n")
    reasons = Counter(reason for _, reason, _ in report.dropped)
    if not kept:
        most = ", ".join(f"{n} x {r}" for r, n in reasons.most_common(3)) or "there was none"
        raise DataError(
            f"no utterance is left of {report.read} ({most})",
            dst / "dropped.tsv",
            "read the reasons there; correct the data, min_s, max_s or ctc_units",
        )
    speaker = tables.get("utt2spk", {})
    utt2spk = {copy: copy_id(speaker.get(utt, utt), speed) for copy, utt, speed, *_ in kept}
    write_table(dst / "wav.scp", ((row[0], row[3]) for row in kept))
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
        "notes": report.notes,
        "tables": names,
    }
    write_json(dst / "format.json", summary)


def _one_cell(text: str) -> str:
    return " ".join(text.split())


def _forget(dst: Path) -> None:
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
