# SPDX-License-Identifier: Apache-2.0
"""Check a Kaldi-style data directory: every finding names file, line, id and what to do.

The files may hold any bytes. Limits used: an end at most 0.02 s beyond the audio is rounding and no
finding, at most 0.5 s beyond is clipped by a fix; audio under 0.1 s gives a warning. Memory grows
with the number of utterances, by some 1 kB each: ids and places of lines, never text or audio.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from espnet_ext.data import audio as audio_io
from espnet_ext.data import rows
from espnet_ext.data.check_audio import MODES, SHORTEST_S, AudioCheck
from espnet_ext.data.findings import Finding, Findings, report
from espnet_ext.data.streams import AUDIO, USUAL, find_stream
from espnet_ext.data.streams.base import apart
from espnet_ext.errors import DataError, UsageError

__all__ = ["CLIP_S", "Finding", "check_dir", "clipped_end", "report"]

CLIP_S = 0.5
_FIX = "run the check with --fix"
_ODD = {
    "crlf": ("error", "ends in CR LF (Windows)"),
    "bom": ("error", "contains a byte order mark"),
    "nul": ("error", "contains a NUL byte"),
    "blank": ("error", "is blank"),
    "separator": ("error", "does not separate key and value by one space"),
    "tab": ("warning", "separates key and value by a tab, not by one space"),
    "space": ("warning", "contains a tab, a doubled space or a space at its end"),
    "newline": ("warning", "lacks the newline at its end"),
}


def check_dir(
    data_dir: Path | str,
    *,
    need_text: bool = True,
    allow_pipes: bool = False,
    audio: str = "header",
    channel: int | None = None,
    streams: Mapping[str, str] = USUAL,
    max_findings: int = 1000,
) -> list[Finding]:
    """Check ``data_dir`` and return what is wrong; an empty list means usable.

    Args:
        data_dir: Folder with wav.scp, text, utt2spk, spk2utt, and segments if any.
        need_text: A missing ``text`` is an error (it is checked whenever it is there).
        allow_pipes: Accept commands in wav.scp; they are not run here.
        audio: How much of the audio is read, see :class:`~espnet_ext.data.check_audio.AudioCheck`.
        channel: Channel of the audio that will be used, counted from 0; None: the average of all.
        streams: ``{file: type of stream}``; without wav.scp the set needs no audio.
        max_findings: Limit of each level; what is over it is counted in one more finding.

    Returns:
        Errors first, in the order of the files.

    Raises:
        UsageError: Unknown ``audio`` or type of stream.
    """
    if audio not in MODES:
        how = f"use one of {', '.join(MODES)}"
        raise UsageError(f"unknown audio check '{audio}'", "check_dir", how)
    return _Check(Path(data_dir), need_text, streams, audio, max_findings).run(allow_pipes, channel)


def clipped_end(start_s: float, end_s: float, duration_s: float) -> str | None:
    """Return the end of the audio as text where a segment may be clipped to it, else None."""
    over = end_s - duration_s
    end = f"{int(duration_s * 1e5) / 1e5:.5f}"
    ok = audio_io.END_TOLERANCE_S < over <= CLIP_S and float(end) > start_s >= 0
    return end if ok else None


class _Check:
    def __init__(
        self, path: Path, need_text: bool, streams: Mapping[str, str], audio: str, limit: int
    ):
        self.dir, self.need_text, self.audio = path, need_text, audio
        # The usual files are checked wherever they are; a recipe may have further ones.
        self.streams = {name: find_stream(kind) for name, kind in {**USUAL, **streams}.items()}
        self.needs_audio = AUDIO in streams
        self.remarked: dict[tuple[str, str], list] = {}  # what a stream says -> line, key, ...
        self.out = Findings(limit)
        self.tables: dict[str, rows.Table | None] = {}
        self.ids = rows.Ids(set(), {})
        self.rebuild = False
        self.durations: dict[str, float] = {}
        self.beside: dict[tuple[str, str], float] = {}  # seconds by file and utterance

    def add(self, level, name, line, utt, what, how, fixable=False) -> None:
        self.out.add(Finding(level, str(self.dir / name), line, utt, what, how, fixable))

    def run(self, pipes: bool, channel: int | None) -> list[Finding]:
        if not self.dir.is_dir():
            what = "is not a folder" if self.dir.exists() else "does not exist"
            self.add("error", "", None, None, f"the data folder {what}", "correct the path")
            return self.out.result(str(self.dir))
        further = [name for name in self.streams if name not in rows.MAIN]
        self.tables = {name: self.load(name) for name in (*rows.MAIN, *further)}
        self.ids = rows.utterance_ids(self.tables)
        self.rebuild = self.can_rebuild()
        self.presence()
        for name, table in self.tables.items():
            if table is not None:
                self.table_findings(name, table)
        self.others()
        self.incomplete()
        self.speakers()
        self.stream_remarks()
        audio = AudioCheck(self.add_audio, self.audio, pipes, channel)
        audio.run(self.tables[AUDIO], self.tables["segments"] is not None)
        self.durations = audio.durations
        self.segments()
        self.lengths()
        return self.out.result(str(self.dir))

    def load(self, name: str) -> rows.Table | None:
        path = self.dir / name
        if not (path.exists() or path.is_symlink()):
            return None
        try:
            if not path.is_file():
                raise OSError("it is no regular file")
            if name not in self.streams or name == AUDIO:
                return rows.load(path, name)
            return rows.load(path, name, True, lambda row: self.stream_row(name, row))
        except OSError as e:
            self.add("error", name, None, None, f"cannot be read ({e})", "replace it by a file")
            return None

    def can_rebuild(self) -> bool:
        """Tell whether a fix can make spk2utt from utt2spk."""
        table, path = self.tables["utt2spk"], self.dir / "spk2utt"
        if table is None or not table.lines or (self.tables["spk2utt"] is None and path.exists()):
            return False
        clean = all(same for _, _, same in table.twice) and not path.is_symlink()
        one_word = all(" " not in str(v) for v in table.values.values())
        return clean and one_word and (not table.empty or self.ids.droppable)

    def presence(self) -> None:
        missing = [n for n, t in self.tables.items() if t is None and not (self.dir / n).exists()]
        if len(missing) == len(self.tables):
            self.add("error", "", None, None, "the folder holds no data", "prepare the data")
            return
        for name in (n for n in missing if n in self.streams and n not in ("text", AUDIO)):
            self.add("error", name, None, None, "is missing", "list the data of this stream in it")
        if AUDIO in missing and self.needs_audio:
            self.add("error", AUDIO, None, None, "is missing", "list the audio in it")
        if "text" in missing and self.need_text:
            self.add("error", "text", None, None, "is missing", "write the transcripts to it")
        if "utt2spk" in missing:
            how = "write 'utterance speaker' lines; without it each utterance is its own speaker"
            self.add("warning", "utt2spk", None, None, "is missing", how)
        elif "spk2utt" in missing:
            self.add("warning", "spk2utt", None, None, "is missing", _FIX, self.rebuild)

    def table_findings(self, name: str, table: rows.Table) -> None:
        remade = name == "spk2utt" and self.rebuild
        if not table.lines:
            how = _FIX if remade else "fill it or remove it"
            self.add("error", name, None, None, "has no lines", how, remade)
        for kind, (level, what) in _ODD.items():
            if kind in table.odd:
                line, count = table.odd[kind]
                more = f" (and {count - 1} more lines)" if count > 1 else ""
                self.add(level, name, line, None, f"the line {what}{more}", _FIX, True)
        if row := table.unsorted:
            what = "not in byte order (LC_ALL=C) from here"
            self.add("error", name, row.line, row.key, what, _FIX, True)
        for line, key in table.not_utf8:
            self.add("error", name, line, key, "not UTF-8", "convert the file to UTF-8")
        for line, key in table.empty:
            fixable = self.ids.droppable
            how = "give the value, or drop the utterance with --fix" if fixable else "give it"
            self.add("error", name, line, key, "has no value", how, fixable)
        for line, key, same in table.twice:
            what = f"appears in line {table.lines[key]}, too, " + (
                "with the same value" if same else "with another value"
            )
            how = _FIX if same or remade else "keep the right one of them"
            self.add("error", name, line, key, what, how, same or remade)

    def others(self) -> None:
        for name in rows.extra_tables(self.dir, self.ids.all):
            table = self.load(name)
            if table is not None:
                self.table_findings(name, table)

    def incomplete(self) -> None:
        fixable = self.ids.droppable
        how = "add it, or drop the utterance with --fix" if fixable else "use the same ids in both"
        for utt in sorted(self.ids.lacking, key=rows.key_bytes):
            for name in self.ids.lacking[utt]:
                at, what = self.lack(utt, name)
                if what:
                    self.add("error", at, self.lines(at)[utt], utt, what, how, fixable)

    def lack(self, utt: str, name: str) -> tuple[str, str | None]:
        """Return the table to point at and what is missing; None where an empty value tells it."""
        if name == "wav.scp" and self.tables["segments"] is not None:
            recording = [*str(self.tables["segments"].values[utt]).split(), ""][0]
            known = recording in self.lines("wav.scp")
            return "segments", None if known else f"its recording '{recording}' is not in wav.scp"
        order = dict.fromkeys(("segments", "wav.scp", "text", "utt2spk", *self.tables))
        at = next(n for n in order if utt in self.lines(n))
        return at, None if utt in self.lines(name) else f"is not in {name}"

    def lines(self, name: str) -> dict[str, int]:
        table = self.tables.get(name)
        return {} if table is None else table.lines

    def speakers(self) -> None:
        utt2spk, spk2utt = self.tables["utt2spk"], self.tables["spk2utt"]
        if utt2spk is None or not utt2spk.lines:
            return
        last = None
        pairs = [(u, str(utt2spk.values[u])) for u in sorted(utt2spk.lines, key=rows.key_bytes)]
        for utt, spk in pairs:
            if " " in spk:
                what = f"has {spk.count(' ') + 1} speakers"
                self.add("error", "utt2spk", utt2spk.lines[utt], utt, what, "name one speaker")
            if last is not None and rows.key_bytes(spk) < rows.key_bytes(last):
                what = f"speaker '{spk}' comes after '{last}' when sorted by utterance"
                how = "begin each utterance id with its speaker id; Kaldi scripts rely on it"
                self.add("warning", "utt2spk", utt2spk.lines[utt], utt, what, how)
                break
            last = spk
        if spk2utt is None or not spk2utt.lines:
            return
        expected = rows.expected_spk2utt(pairs)
        for spk in sorted(expected.keys() | spk2utt.lines.keys(), key=rows.key_bytes):
            if expected.get(spk) != spk2utt.values.get(spk):
                what, line = "disagrees with utt2spk", spk2utt.lines.get(spk)
                how = _FIX if self.rebuild else "correct utt2spk, then --fix"
                self.add("error", "spk2utt", line, spk, what, how, self.rebuild)

    def add_audio(self, level, line, key, what, how) -> None:
        self.add(level, AUDIO, line, key, what, how)

    def stream_row(self, name: str, row: rows.Row) -> None:
        full = self.audio in ("content", "full")
        for level, what, how in self.streams[name].check(row.value, full):
            if level == "error":
                self.add(level, name, row.line, row.key, what, how)
            else:
                self.remarked.setdefault((name, what), [row.line, row.key, how, 0])[3] += 1
        with contextlib.suppress(DataError):  # told by its check
            seconds = self.streams[name].duration_s(row.value) if full else None
            if seconds is not None:
                self.beside[name, row.key] = seconds

    def stream_remarks(self) -> None:
        for (name, what), (line, key, how, count) in self.remarked.items():
            more = f" (and {count - 1} more lines)" if count > 1 else ""
            self.add("warning", name, line, key, what + more, how)

    def lengths(self) -> None:
        """Compare what runs beside the audio with it."""
        table = self.tables["segments"]
        for (name, utt), seconds in self.beside.items():
            audio_s = self.durations.get(utt)
            if table is not None:
                segment = rows.parse_segment(str(table.values.get(utt, "")))
                audio_s = segment and segment[2] - segment[1]
            if audio_s is not None and (detail := apart(seconds, audio_s)):
                what, how = f"does not fit its audio: {detail}", "correct it, or leave it out"
                self.add("error", name, self.lines(name)[utt], utt, what, how)

    def segments(self) -> None:
        table = self.tables["segments"]
        for utt in table.lines if table else ():
            level, fixable, how = "error", False, "correct the times"
            segment = rows.parse_segment(str(table.values[utt]))
            if segment is None:
                what, how = "is not 'utterance recording start end'", "correct the line"
            else:
                recording, start_s, end_s = segment
                duration_s = self.durations.get(recording, float("inf"))
                if end_s <= start_s or start_s < 0:
                    what = f"[{start_s:g}, {end_s:g}) s is no interval"
                elif end_s > duration_s + audio_io.END_TOLERANCE_S or start_s >= duration_s:
                    what = f"[{start_s:g}, {end_s:g}) s is beyond the audio of {duration_s:.3f} s"
                    fixable = clipped_end(start_s, end_s, duration_s) is not None
                    how = _FIX if fixable else how
                elif end_s - start_s < SHORTEST_S:
                    level, how = "warning", "format drops it from training"
                    what = f"the segment lasts {(end_s - start_s) * 1000:.1f} ms"
                else:
                    continue
            self.add(level, "segments", table.lines[utt], utt, what, how, fixable)
