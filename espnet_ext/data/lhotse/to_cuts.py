# SPDX-License-Identifier: Apache-2.0
"""From a Kaldi-style folder to a manifest of cuts, one for each utterance.

A cut holds its recording, so lhotse needs no further file. Memory does not grow with the folder:
its tables are read line by line or searched on disk; only an alignment that is not in byte order of
the utterances has an index in memory.
"""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from espnet_ext.data import audio as audio_io
from espnet_ext.data.lhotse.alignment import open_aligned, to_alignment
from espnet_ext.data.lhotse.cuts import BEYOND_S, DIGITS
from espnet_ext.data.lhotse.manifest import check_name, counted, write_lines
from espnet_ext.data.lookup import TableLookup
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.rows import parse_segment
from espnet_ext.data.tables import iter_table
from espnet_ext.data.tar_member import parse_member
from espnet_ext.errors import DataError

_RECORDINGS = 1000  # whose headers are remembered


def to_cuts(
    data: Path,
    out: Path,
    alignment: Path | None = None,
    allow_pipes: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[int, int]:
    """Write a manifest of cuts.

    Args:
        data: Kaldi-style folder with wav.scp; text, utt2spk, utt2lang, segments if any.
        out: Manifest to write, .jsonl or .jsonl.gz.
        alignment: Of the folder, in any form that ``espnet-ext align`` reads.
        allow_pipes: Run the commands of wav.scp, which tell the lengths of their audio.
        progress: Called now and then with the number of cuts that were written.

    Returns:
        Cuts, and how many of them have an alignment.

    Raises:
        DataError: A table or the audio is not usable.
        UsageError: ``out`` is not named as a manifest is.
    """
    check_name(out)
    maker, cuts, aligned = _Maker(data, alignment, allow_pipes), 0, 0
    with write_lines(out) as f:
        for utt, value in counted(iter_table(data / maker.main), progress):
            cut = maker.cut(utt, value)
            f.write(json.dumps(cut, ensure_ascii=False) + "\n")
            cuts, aligned = cuts + 1, aligned + ("alignment" in cut["supervisions"][0])
        if not cuts:
            raise DataError(f"{maker.main} is empty", data / maker.main)
    return cuts, aligned


class _Maker:
    """Makes the cut of an utterance."""

    def __init__(self, data: Path, alignment: Path | None, allow_pipes: bool):
        self.data = data
        self.main = "segments" if (data / "segments").exists() else "wav.scp"
        there = [n for n in ("text", "utt2spk", "utt2lang") if (data / n).exists()]
        names = ["wav.scp", *there] if self.main == "segments" else there
        self.tables = {name: TableLookup(data / name) for name in names}
        self.aligned = None if alignment is None else open_aligned(alignment, data / self.main)
        self.recording = lru_cache(_RECORDINGS)(lambda n, v: _recording(n, v, allow_pipes))

    def cut(self, utt: str, value: str) -> dict[str, Any]:
        """Return the cut of an utterance, whose value in the main table is given."""
        name, entry, start_s, end_s = utt, value, 0.0, None
        if self.main == "segments":
            segment, where = parse_segment(value), self.data / self.main
            if segment is None:
                what = f"the segment of '{utt}' is not 'utterance recording start end'"
                raise DataError(what, where, f"espnet-ext doctor --data {self.data}")
            name, start_s, end_s = segment
            entry = self._value("wav.scp", name)
            if not entry:
                raise DataError(f"'{utt}' is of '{name}', which is not in wav.scp", where)
        recording = self.recording(name, entry)
        if end_s is None or end_s == -1:
            end_s = recording["duration"]
        if not 0 <= start_s < end_s <= recording["duration"] + BEYOND_S:
            what = f"'{utt}' lasts from {start_s:g} to {end_s:g} s of {recording['duration']:g} s"
            raise DataError(what, self.data / self.main, "correct the times in segments")
        duration = round(min(end_s, recording["duration"]) - start_s, DIGITS)
        channels = recording["channel_ids"]
        channel = channels[0] if len(channels) == 1 else channels
        supervision = self._supervision(utt, name, start_s, duration, channel)
        return {
            "id": utt, "start": start_s, "duration": duration, "channel": channel,
            "supervisions": [supervision], "recording": recording,
            "type": "MonoCut" if len(channels) == 1 else "MultiCut",
        }  # fmt: skip

    def _supervision(
        self, utt: str, recording: str, start_s: float, duration: float, channel: int | list[int]
    ) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": utt, "recording_id": recording, "start": 0.0, "duration": duration,
            "channel": channel,
        }  # fmt: skip
        found = {"text": "text", "speaker": "utt2spk", "language": "utt2lang"}
        row |= {k: v for k, table in found.items() if (v := self._value(table, utt))}
        if self.aligned is not None and (u := self.aligned.get(utt)) is not None:
            row["alignment"] = to_alignment(u, start_s)
        return row

    def _value(self, table: str, key: str) -> str:
        return self.tables[table].get(key, "") if table in self.tables else ""


def _recording(name: str, entry: str, allow_pipes: bool) -> dict[str, Any]:
    if parse_member(entry):
        how = "lhotse reads the shards themselves: CutSet.from_shar(in_dir=FOLDER)"
        raise DataError(f"the audio of '{name}' is in a tar file", entry, how)
    found = audio_io.info(entry, allow_pipes)
    channels = list(range(found.channels))
    source = {"type": "file", "channels": channels, "source": os.path.abspath(entry)}
    if is_pipe(entry):
        command = entry.rstrip().removesuffix("|").rstrip()
        source = {"type": "command", "channels": channels, "source": command}
    return {
        "id": name, "sources": [source], "sampling_rate": found.rate, "num_samples": found.frames,
        "duration": found.duration_s, "channel_ids": channels,
    }  # fmt: skip
