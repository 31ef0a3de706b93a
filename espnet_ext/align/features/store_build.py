# SPDX-License-Identifier: Apache-2.0
"""Making the shards of a feature store: a plan of plain rows, and the work of one shard."""

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from soundfile import SoundFile

from espnet_ext.align.features import features
from espnet_ext.align.features.features import FeatureOptions, min_samples
from espnet_ext.data import audio
from espnet_ext.data.content import CANCEL, CLIPPED_SHARE, Content
from espnet_ext.data.pipes import is_pipe
from espnet_ext.data.tables import iter_table, read_table
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path, write_json

SHARD_UTTS = 256

Row = list[Any]  # utterance, audio path, start_s, end_s, speaker; times None: the whole file


def plan(data: Path, allow_pipes: bool) -> tuple[list[list[Row]], list[list[str]]]:
    """Read the tables and cut the utterances into shards, in the order of the tables.

    Returns:
        Rows of each shard, and ``[utterance, reason, detail]`` of segments without recording.

    Raises:
        DataError: A table is missing or malformed, or there are pipes and they are refused.
    """
    recordings = read_table(data / "wav.scp")
    for name, path in recordings.items():
        if not path:
            raise DataError(f"'{name}' has no audio", data / "wav.scp", "write 'id path' lines")
        if is_pipe(path) and not allow_pipes:
            raise DataError(
                f"'{name}' is a command, and commands are refused", data / "wav.scp",
                "allow pipes if you trust who wrote wav.scp",
            )  # fmt: skip
    speakers = read_table(data / "utt2spk") if (data / "utt2spk").exists() else {}
    rows: list[Row] = []
    absent: list[list[str]] = []
    if (data / "segments").exists():
        for utt, value in iter_table(data / "segments"):
            recording, start, end = _segment(utt, value, data / "segments")
            if recording in recordings:
                path = recordings[recording]
                rows.append([utt, path, start, end, speakers.get(utt) or utt])
            else:
                absent.append([utt, "missing audio", f"'{recording}' is not in wav.scp"])
    else:
        rows = [[u, path, None, None, speakers.get(u) or u] for u, path in recordings.items()]
    return [rows[i : i + SHARD_UTTS] for i in range(0, len(rows), SHARD_UTTS)], absent


def _segment(utt: str, value: str, where: Path) -> tuple[str, float, float | None]:
    try:
        recording, start, end = value.split()[:3]
        return recording, float(start), None if float(end) == -1 else float(end)
    except ValueError:
        raise DataError(
            f"the line of '{utt}' is not 'utterance recording start end'", where, "correct it"
        ) from None


def read_shard(out: Path, shard: int, key: str) -> dict[str, Any] | None:
    """Return the record of a finished shard; None if it is not there, not whole, or outdated."""
    path = out / f"feats.{shard}.f32"
    try:
        record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        whole = record["key"] == key and path.stat().st_size == record["bytes"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if whole else None


@dataclass
class _Shard:
    """What is collected while a shard is written."""

    options: FeatureOptions
    resample: bool
    utts: list[Row] = field(default_factory=list)
    skipped: list[list[str]] = field(default_factory=list)
    warnings: list[list[str]] = field(default_factory=list)
    sums: dict[str, list[np.ndarray]] = field(default_factory=dict)
    frames: int = 0

    def add(self, row: Row, wave: np.ndarray, found: Content, fs: int) -> np.ndarray | None:
        """Check an utterance and compute its features; None if it is skipped."""
        utt, speaker = row[0], row[4]
        if why := unusable(found, fs, self.options.fs, self.resample):
            self.skipped.append([utt, *why])
            return None
        if found.clipped > CLIPPED_SHARE:
            self.warnings.append([utt, "clipped", f"{100 * found.clipped:.1f} % at the extremes"])
        if found.unequal:
            levels = " and ".join(f"{db:g}" for db in found.levels_db)
            what = f"peaks of {levels} dB are averaged"
            self.warnings.append([utt, "unequal channels", what])
        x = features.compute(audio.resample(wave, fs, self.options.fs), self.options)
        if not np.isfinite(x).all():  # of finite samples beyond all measure
            self.skipped.append([utt, "audio: not finite", "its features are not finite"])
            return None
        self.utts.append([utt, speaker, self.frames, len(x), len(wave), fs])
        self.frames += len(x)
        x64 = x.astype(np.float64)
        own = [np.array([len(x)]), x64.sum(0), (x64**2).sum(0)]
        known = self.sums.get(speaker)
        self.sums[speaker] = [a + b for a, b in zip(known, own, strict=True)] if known else own
        return x


def compute_shard(job: dict[str, Any]) -> int:
    """Write the features of one shard, then its record; return the number of frames."""
    options, out = FeatureOptions(**job["options"]), Path(job["out"])
    shard = _Shard(options, job["resample"])
    path, threads = out / f"feats.{job['shard']}.f32", torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with atomic_path(path) as tmp, open(tmp, "wb") as f:
            for audio_path, rows in groupby(job["rows"], key=lambda row: row[1]):
                for x in _of_recording(audio_path, list(rows), job["pipes"], shard):
                    x.tofile(f)
            size = f.tell()
    finally:
        torch.set_num_threads(threads)
    record = {
        "key": job["key"],
        "bytes": size,
        "frames": shard.frames,
        "utts": shard.utts,
        "skipped": shard.skipped,
        "warnings": shard.warnings,
        "speakers": {s: [int(n[0]), a.tolist(), b.tolist()] for s, (n, a, b) in shard.sums.items()},
    }
    write_json(path.with_suffix(".json"), record)
    return shard.frames


def _of_recording(path: str, rows: list[Row], pipes: bool, shard: _Shard):
    """Yield the features of the segments of one recording, which is opened once."""
    with ExitStack() as stack:
        try:
            f = stack.enter_context(audio.open_audio(path, pipes))
        except DataError as e:
            shard.skipped += [[row[0], _reason(e), f"{e.what}: {path}"] for row in rows]
            return
        about = audio.describe(f)
        for row in rows:
            try:
                first, last = audio.frame_range(about, row[2], row[3], path)
                wave, found, note = _read(f, first, last, path, shard.options.channel)
            except DataError as e:
                shard.skipped.append([row[0], _reason(e), f"{e.what}: {path}"])
                continue
            if note:
                shard.warnings.append([row[0], "channels cancel", note])
            x = shard.add(row, wave, found, about.rate)
            if x is not None:
                yield x


def _read(
    f: SoundFile, first: int, last: int, path: str, channel: str
) -> tuple[np.ndarray, Content, str]:
    """Return samples ``(N,)`` of the chosen channel, their figures, and what was chosen instead."""
    if channel.isdecimal():
        return *audio.read_content(f, first, last, path, int(channel)), ""
    wave, found = audio.read_content(f, first, last, path)
    if channel == "mix" or found.fault((CANCEL,)) is None:
        return wave, found, ""
    loudest = int(np.argmax(found.levels_db))
    wave, found = audio.read_content(f, first, last, path, loudest)
    return wave, found, f"channel {loudest} of {f.channels} is taken, counted from 0"


def _reason(error: DataError) -> str:
    """Name the kind of an error of :mod:`espnet_ext.data.audio`."""
    for sign, reason in (
        ("missing", "missing audio"),
        ("is empty", "empty audio"),
        ("no samples", "empty audio"),
        ("not inside the audio", "segment outside audio"),
        ("no channel", "no such channel"),
    ):
        if sign in error.what:
            return reason
    return "unreadable audio"


def unusable(found: Content, fs: int, want: int, resample: bool) -> tuple[str, str] | None:
    """Return reason and detail if audio of this content, at ``fs`` Hz, cannot be used."""
    if fs != want and not resample:
        return "wrong sampling rate", f"{fs} Hz instead of {want} Hz"
    # One sample of slack: the resampler may round down.
    if found.samples * want < (min_samples(want) + (fs != want)) * fs:
        return "too short", f"{found.samples} samples at {fs} Hz are less than 25 ms"
    if fault := found.fault():
        return f"audio: {fault.reason}", f"{fault.detail}; {fault.how}"
    return None
