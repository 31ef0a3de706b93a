# SPDX-License-Identifier: Apache-2.0
"""From a manifest of cuts, or Shar shards, to a Kaldi-style folder.

Written: wav.scp, utt2spk, spk2utt; text, utt2lang where there are any; segments, unless every
utterance is all of its recording; ``alignment/`` (words.ctm, phones.ctm, utt2dur) for ``espnet-ext
align import``; refused.tsv; from_cuts.json, by which a rerun knows its own folder. Rows are sorted
on disk: memory does not grow with the manifest.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import IO, Any

import soundfile as sf

from espnet_ext.align.formats import ctm
from espnet_ext.align.formats.tiers import LENGTHS
from espnet_ext.data import audio as audio_io
from espnet_ext.data.format_job import safe_name
from espnet_ext.data.lhotse.alignment import placed
from espnet_ext.data.lhotse.converted import ALIGNMENT, REFUSED, Converted
from espnet_ext.data.lhotse.cuts import Audio, Part, Refused, parts
from espnet_ext.data.lhotse.manifest import check_name, counted, read_lines
from espnet_ext.data.lhotse.shar import read_shards
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.sorter import Sorter
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_dir, check_replaceable, write_json

MARK = "from_cuts.json"


def from_cuts(cuts: Path, out: Path, progress: Callable[[int], None] | None = None) -> Converted:
    """Write a Kaldi-style folder.

    Args:
        cuts: Manifest of cuts (``.jsonl``, ``.jsonl.gz``), or a folder of Shar shards.
        out: Folder to write; it appears when all is done. One that this made is replaced.
        progress: Called now and then with the number of cuts that were read.

    Raises:
        UsageError: ``out`` has something else, or ``cuts`` is no such manifest.
        DataError: The manifest or a shard is damaged, an id stands twice, nothing is usable.
    """
    check_replaceable(out, MARK, [cuts])
    if not cuts.is_dir():
        check_name(cuts)
    rows = read_shards(cuts) if cuts.is_dir() else read_lines(cuts)
    with atomic_dir(out) as folder, tempfile.TemporaryDirectory(dir=folder) as work:
        maker = _Maker(folder, out, Path(work))
        maker.collect(counted(rows, progress))
        maker.write(cuts)
    return maker.done


class _Maker:
    """Collects the utterances, then writes them in byte order."""

    def __init__(self, folder: Path, final: Path, work: Path):
        self.folder, self.final = folder, Path(os.path.abspath(final))
        self.utts, self.work = Sorter(work, "utts"), work
        self.done, self.texts, self.segments = Converted(), False, False
        self._files, self._tables_open = ExitStack(), dict[str, IO[str]]()

    def collect(self, rows: Iterable[tuple[str, dict[str, Any]]]) -> None:
        with self._open(REFUSED) as listed:
            for where, cut in rows:
                for part in parts(cut, where):
                    if isinstance(part, Refused):
                        self._refuse(listed, where, part.id, part.reason)
                    else:
                        self._add(part, where)

    def _add(self, part: Part, where: str) -> None:
        s = part.supervision or {}
        text = " ".join(str(s.get("text") or "").split())
        self.texts |= bool(text)
        self.segments |= not part.whole
        row = {
            "where": where,
            "audio": asdict(part.audio),
            "times": [part.start_s, part.end_s],
            "text": text,
            "speaker": "_".join(str(s.get("speaker") or part.utt).split()),
            "language": "_".join(str(s.get("language") or "").split()),
        }
        if s.get("alignment"):
            row |= {"alignment": s["alignment"], "cut_s": part.cut_s}
        self.utts.add(part.utt, row)

    def write(self, cuts: Path) -> None:
        """Write all tables.

        Raises:
            DataError: An id stands twice, or there is no utterance.
        """
        audio, speakers = Sorter(self.work, "audio"), Sorter(self.work, "speakers")
        with self._files, self._open(REFUSED, "a") as listed:
            for utt, row in self._once():
                if self.texts and not row["text"]:
                    why = "no text, and others have one"
                    self._refuse(listed, row["where"], utt, why)
                    continue
                entry, recording = self._entry(Audio(**row["audio"])), row["audio"]["name"]
                audio.add(recording if self.segments else utt, [entry, row["where"]])
                speakers.add(row["speaker"], utt)
                self._tables(utt, recording, row)
            rows = _recordings(audio)
            self._table("wav.scp").writelines(f"{name} {entry}\n" for name, entry in rows)
            for speaker, own in groupby(speakers, lambda row: row[0]):
                self._table("spk2utt").write(speaker)
                self._table("spk2utt").writelines(f" {utt}" for _, utt in own)
                self._table("spk2utt").write("\n")
        if self.done.misplaced and cuts.is_dir():
            # Those that seem to lie in their utterance may be wrong as well.
            self.done.aligned, self.done.forgotten = 0, True
            shutil.rmtree(self.folder / ALIGNMENT, ignore_errors=True)
        if not self.done.utterances:
            reasons = "; ".join(self.done.first) or "the manifest is empty"
            raise DataError(f"there is no utterance in it: {reasons}", cuts)
        counts = {"utterances": self.done.utterances, "refused": self.done.refused}
        write_json(self.folder / MARK, {"cuts": cuts.name, **counts})

    def _once(self) -> Iterator[tuple[str, dict[str, Any]]]:
        last, place = "", ""
        for utt, row in self.utts:
            if utt == last:
                where = f"{place} and {row['where']}"
                how = "leave one out; windows of one recording: give each supervision its own id"
                raise DataError(f"'{utt}' stands twice", where, how)
            last, place = utt, row["where"]
            yield utt, row

    def _tables(self, utt: str, recording: str, row: dict[str, Any]) -> None:
        start_s, end_s = row["times"]
        values = {"utt2spk": row["speaker"], "text": row["text"], "utt2lang": row["language"]}
        if self.segments:
            values["segments"] = f"{recording} {_seconds(start_s)} {_seconds(end_s)}"
        for name, value in values.items():
            if value:
                self._table(name).write(f"{utt} {value}\n")
        if "alignment" in row:
            self._align(utt, row)
        self.done.utterances += 1

    def _align(self, utt: str, row: dict[str, Any]) -> None:
        try:
            u = placed(utt, row["alignment"], row["times"], row["cut_s"])
            texts = {} if u is None else ctm.render(u, self.done.losses)
        except (KeyError, TypeError, ValueError, IndexError, DataError) as e:
            what = e.what if isinstance(e, DataError) else e
            raise DataError(f"'{utt}' has no usable alignment ({what})", row["where"]) from None
        if u is None or not texts:  # misplaced, or of other units than words and phones
            self.done.misplaced += u is None
            return
        for name, lines in texts.items():
            self._table(f"{ALIGNMENT}/{name}").write(lines)
        self._table(f"{ALIGNMENT}/{LENGTHS}").write(f"{utt} {float(u.length_s)!r}\n")
        self.done.aligned += 1

    def _entry(self, a: Audio) -> str:
        """Return the value for wav.scp; one channel of a file is written as a file of its own."""
        entry = a.entry if is_pipe(a.entry) else os.path.abspath(a.entry)
        if entry.startswith(f"{self.final}/"):
            what = f"the audio of '{a.name}' is in the folder that is to be replaced"
            raise DataError(what, entry, "name another folder")
        if a.channel is None:
            return entry
        name = f"audio/{safe_name(a.name)}.flac"
        if not (self.folder / name).exists():
            _write_channel(entry, a.channel, self.folder / name)
        return str(self.final / name)

    def _refuse(self, listed: IO[str], where: str, utt: str, reason: str) -> None:
        listed.write(f"{' '.join(utt.split())}\t{reason}\t{where}\n")
        self.done.refuse(f"{utt} ({reason})")

    def _open(self, name: str, mode: str = "w") -> IO[str]:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        return open(path, mode, encoding="utf-8", newline="\n")

    def _table(self, name: str) -> IO[str]:
        """Return a table that is open until all are written."""
        if name not in self._tables_open:
            self._tables_open[name] = self._files.enter_context(self._open(name))
        return self._tables_open[name]


def _recordings(audio: Sorter) -> Iterator[tuple[str, str]]:
    """Yield each recording once.

    Raises:
        DataError: One name has two files.
    """
    last: tuple[str, str, str] = ("", "", "")
    for name, (entry, where) in audio:
        if name != last[0]:
            last = (name, entry, where)
            yield name, entry
        elif entry != last[1]:
            what = f"the recording '{name}' has two files: {last[1]} and {entry}"
            raise DataError(what, f"{last[2]} and {where}", "give each recording its own id")


def _seconds(value: float) -> str:
    """Return seconds as short as they are exact, never like 1e-05."""
    return f"{value:.8f}".rstrip("0").rstrip(".")


def _write_channel(entry: str, channel: int, path: Path) -> None:
    """Write one channel of a file, block by block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if is_pipe(entry):
        how = "save the audio in lhotse first: cuts.save_audios(FOLDER)"
        raise DataError("one channel of what a command writes is wanted", entry, how)
    with (
        audio_io.open_audio(entry) as f,
        sf.SoundFile(path, "w", f.samplerate, 1, "PCM_16", format="FLAC") as out,
    ):
        for first in range(0, f.frames, audio_io.BLOCK):
            last = min(first + audio_io.BLOCK, f.frames)
            out.write(audio_io.read_frames(f, first, last, entry, channel))
