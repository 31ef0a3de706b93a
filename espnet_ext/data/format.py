# SPDX-License-Identifier: Apache-2.0
"""Make a data directory that training can read fast: one file an utterance, one sampling rate.

Audio is written only when it must be (segments, another rate, several channels, speed copies,
commands, NIST sphere); else wav.scp points to the original. All of it is read and checked. What
cannot be trained on is dropped, each with its reason and numbers: read * speeds = written +
dropped. Short utterances without text may be joined; then read = written + joined + dropped.
Memory grows with the number of utterances, by some 1.3 kB each (tables and results); audio and
what is finished stay on disk.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from espnet_ext.data import rows
from espnet_ext.data.format_job import copy_id, ctc_units
from espnet_ext.data.format_options import FormatOptions, FormatReport
from espnet_ext.data.format_streams import Formatted, check_speeds, format_streams, misfits
from espnet_ext.data.format_write import forget, write_joined, write_result
from espnet_ext.data.join import format_item, join_short
from espnet_ext.data.journal import JOURNAL, Journal
from espnet_ext.data.streams import AUDIO, USUAL, find_stream
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, UsageError

__all__ = ["FormatOptions", "FormatReport", "format_dir"]

STREAM_FILES = "streams"  # folder of the files that streams write
SHORT = "shorter than join_s, and of a speaker without more to join"
# Lengths, which formatting changes.
_STALE = ("utt2dur", "utt2num_samples", "utt2num_frames")


def format_dir(
    src: Path | str,
    dst: Path | str,
    options: FormatOptions,
    *,
    n_jobs_map: Callable[[Callable, Iterable], Iterable] | None = None,
    progress: Callable[[int, int], None] | None = None,
    allow_pipes: bool = False,
    join_s: float = 0.0,
    streams: Mapping[str, str] = USUAL,
) -> FormatReport:
    """Format data directory ``src`` into ``dst``.

    Writes the tables, dropped.tsv, notes.tsv, joined.tsv and, last, format.json; audio goes to
    ``dst/wav``. A rerun takes over what was finished with the same source and options.

    Args:
        src: Checked data directory; without utt2spk each utterance is its own speaker.
        dst: Folder to write, not ``src``.
        options: What to do.
        n_jobs_map: Ordered map ``(function, items) -> results``; what it yields is safe at once.
        progress: Called as ``progress(done, total)`` with numbers of utterances.
        allow_pipes: Run commands in wav.scp, without a shell.
        join_s: Shorter utterances of a speaker are joined (s); only without text or speed copies.
        streams: ``{file: type of stream}``; without wav.scp the set needs no audio.

    Raises:
        UsageError: ``join_s``, or speed copies, cannot be used with this set.
        DataError: A table is not usable, ids collide, nothing remains, ``dst/wav`` is not ours.
        SetupError: A program of a piped entry is missing, or the disk is full.
    """
    src, dst, n_jobs_map = Path(src), Path(dst), n_jobs_map or map
    tables, names, streams = _read_tables(src, streams)
    check_speeds(streams, options.speeds)
    _refuse_equal_ids(tables, options)
    _check_join(src, tables, options, join_s)
    wav_dir = _open(src, dst)
    changed = format_streams(tables, streams, dst / STREAM_FILES, options.fs, n_jobs_map)
    report, items = _plan(src, tables, options, streams, changed)
    _complete(items, streams, {"wav_dir": str(wav_dir), "allow_pipes": allow_pipes})
    if join_s:
        items = join_short(items, _speakers(tables), join_s, options.max_s, n_jobs_map)
    results = Journal(wav_dir / JOURNAL)
    written, parts = _work(results.run(format_item, items, n_jobs_map), report, options, progress)
    kept, report.reused = _fitting(written, changed, options, report), results.reused
    if join_s:
        _note_short(kept, join_s, options.fs, report)
        write_joined(dst, parts, names, report)
    write_result(dst, kept, tables, names, options, report)
    return report


def _speakers(tables: dict) -> dict[str, str]:
    return tables.setdefault("utt2spk", {})


def _note_short(kept: list[tuple], join_s: float, fs_hz: int, report: FormatReport) -> None:
    """Note what is shorter than a loss needs, as there is nothing of its speaker to join it to."""
    short = [(row[0], row[4] / fs_hz) for row in kept if row[4] < join_s * fs_hz]
    report.notes += [(utt, SHORT, f"{length_s:.2f} of {join_s:g} s") for utt, length_s in short]
    report.notes.sort(key=lambda row: rows.key_bytes(row[0]))


def _complete(items: list[dict], streams: Mapping[str, str], common: dict) -> None:
    """Add what all items have in common, also that audio in tar files stays where it is."""
    if AUDIO in streams and find_stream(streams[AUDIO]).in_shards:
        common = {**common, "in_shards": True}
    for item in items:
        item.update(common)


def _work(
    results: Iterable[tuple[dict, dict]],
    report: FormatReport,
    options: FormatOptions,
    progress: Callable[[int, int], None] | None,
) -> tuple[list[tuple], list[list]]:
    """Do the work; return the rows that are kept and the parts of joined utterances."""
    kept: list[tuple] = []
    parts: list[list] = []
    done = len(report.dropped) // len(options.speeds)
    for item, result in results:
        same = {utt: utt for utt, *_ in item["utts"]} | {item.get("source"): item.get("source")}
        # A row that comes from a worker or the journal has copies of what is known here.
        kept += [tuple(same.get(x, x) for x in row[:5]) for row in result["rows"]]
        parts += result.get("parts", [])
        report.dropped += [tuple(d) for d in result["dropped"]]
        report.notes += [tuple(n) for n in result["notes"]]
        done += len(item["utts"])
        if progress:
            progress(done, report.read)
    report.written = len(kept)
    for listed in (report.dropped, report.notes):
        listed.sort(key=lambda row: rows.key_bytes(row[0]))
    return kept, parts


def _fitting(
    kept: list[tuple], changed: Formatted, options: FormatOptions, report: FormatReport
) -> list[tuple]:
    """Return the rows without those whose audio something beside it does not fit."""
    lost = misfits(kept, changed, options.fs)
    if not lost:
        return kept
    report.dropped += [(copy, *why) for copy, why in lost.items()]
    report.dropped.sort(key=lambda row: rows.key_bytes(row[0]))
    kept = [row for row in kept if row[0] not in lost]
    report.written = len(kept)
    return kept


def _check_join(src: Path, tables: dict, options: FormatOptions, join_s: float) -> None:
    if join_s == 0:
        return
    if "text" in tables:
        how = "join sets without text only: joined audio would need joined texts"
        raise UsageError("a set with text cannot be joined", src / "text", how)
    if not 0 < 3 * join_s <= options.max_s or tuple(options.speeds) != (1.0,):
        how = "0 < 3 * join_s <= max_s, and speeds (1.0,)"
        raise UsageError(f"join_s cannot be {join_s!r} here", "format options", how)


def _open(src: Path, dst: Path) -> Path:
    """Make ``dst`` ready, without the mark of a complete folder; return the folder for audio."""
    if dst.exists() and dst.samefile(src):
        raise DataError("source and result are the same folder", dst, "give another folder")
    wav_dir = Path(os.path.abspath(dst / "wav"))
    wav_dir.mkdir(parents=True, exist_ok=True)
    journal = wav_dir / JOURNAL
    # Unused files of this folder are removed at the end, so it must be ours.
    if any(wav_dir.iterdir()) and not journal.exists():
        raise DataError("the folder contains audio that is not ours", wav_dir, "give another one")
    if journal.exists():
        shutil.rmtree(dst / STREAM_FILES, ignore_errors=True)
    journal.touch()
    forget(dst)
    return wav_dir


def _read_tables(
    src: Path, streams: Mapping[str, str]
) -> tuple[dict[str, dict[str, str]], list[str], dict[str, str]]:
    """Return all tables, the names of those that the result has line by line, streams there are."""
    needed = [name for name in streams if name != "text"]
    there = [n for n in ("segments", "text", "utt2spk") if (src / n).exists() and n not in needed]
    known: dict[str, str] = {}  # equal ids of all tables become one object
    tables = {name: _read(src / name, known) for name in (*needed, *there)}
    copied = ["text"] if "text" in tables else []
    copied += [name for name in needed if name != AUDIO]
    others = rows.extra_tables(src, _main(tables).keys())
    names = [*copied, *(n for n in others if n not in _STALE and n not in copied)]
    for name in names[len(copied) :]:
        tables[name] = _read(src / name, known)
    return tables, names, {file: kind for file, kind in streams.items() if file in tables}


def _read(path: Path, known: dict[str, str]) -> dict[str, str]:
    one = known.setdefault
    values = path.name == "utt2spk"  # few speakers of many utterances
    return {one(k, k): one(v, v) if values else v for k, v in iter_table(path)}


def _main(tables: dict[str, dict[str, str]]) -> dict[str, str]:
    """Return the table whose keys are the utterances: that of the audio, or of the first stream."""
    name = "segments" if "segments" in tables else AUDIO
    return tables.get(name) or next(iter(tables.values()))


def _utterances(tables: dict, src: Path) -> Iterator[tuple[str, str, list]]:
    """Yield ``(utterance, recording, [start_s, end_s])``."""
    for utt, value in _main(tables).items():
        if "segments" not in tables:
            yield utt, utt, [None, None]
            continue
        segment = rows.parse_segment(value)
        if segment is None:
            what = f"the segment of '{utt}' is not 'utterance recording start end'"
            raise DataError(what, src / "segments", "check the folder first")
        yield utt, segment[0], list(segment[1:])


def _plan(
    src: Path,
    tables: dict,
    options: FormatOptions,
    streams: Mapping[str, str],
    changed: Formatted,
) -> tuple[FormatReport, list[dict]]:
    report, items = FormatReport(0, notes=changed.notes), {}
    plain = json.loads(json.dumps(asdict(options)))
    further = [n for n in streams if n not in ("text", AUDIO)]
    for utt, recording, times in _utterances(tables, src):
        report.read += 1
        text = tables["text"].get(utt, "") if "text" in tables else None
        reason = None
        if AUDIO in tables and not tables[AUDIO].get(recording):
            reason = ("no audio", f"'{recording}' has no entry in wav.scp")
        elif text == "":
            reason = ("empty text", "in text" if utt in tables["text"] else "not in text")
        elif "utt2spk" in tables and not tables["utt2spk"].get(utt):
            reason = ("no speaker", "in utt2spk")
        elif lost := next((file for file in further if not tables[file].get(utt)), None):
            reason = (f"not in {lost}", "the stream has no line for it")
        else:
            reason = changed.unusable.get(utt)
        if reason:
            report.dropped += [(copy_id(utt, s), *reason) for s in options.speeds]
            continue
        units = ctc_units(text, options.ctc_units) if text else None
        if recording not in items:
            items[recording] = {
                "source": tables[AUDIO][recording] if AUDIO in tables else "",
                "options": plain,
                "utts": [],
            }
        items[recording]["utts"].append([utt, *times, units and list(units)])
    for file in dict.fromkeys(("text", *further)):
        if unused := len(tables.get(file, {}).keys() - _main(tables).keys()):
            report.unused.append(f"{unused} ids of {file} have no audio and are left out")
    return report, list(items.values())


def _refuse_equal_ids(tables: dict, options: FormatOptions) -> None:
    counts = Counter(copy_id(utt, s) for utt in _main(tables) for s in options.speeds)
    twice = next((c for c, n in counts.items() if n > 1), None)
    if twice:
        raise DataError(
            f"'{twice}' would be the id of two utterances",
            "speed copies",
            "the source has speed copies already: use speeds (1.0,)",
        )
