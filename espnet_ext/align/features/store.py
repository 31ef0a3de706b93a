# SPDX-License-Identifier: Apache-2.0
"""Features of a corpus on disk, read by memory map: memory does not grow with the corpus.

    OUT/feats.N.f32    frames of shard N, one utterance after the other, float32
    OUT/feats.N.json   its key, utterances, skipped ones, and sums of its speakers
    OUT/index.npz      all utterances and the statistics of all speakers
    OUT/store.json     options, key, skipped utterances, warnings; written last: the store is done

A key is a hash of the options, the tables, and sizes and times of the audio files. A shard whose
key still fits is not computed again, be it after a kill or after utterances were added.
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.align.features.features import FeatureOptions
from espnet_ext.align.features.store_build import compute_shard, plan, read_shard
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_path, sha256_json, write_json

MapFn = Callable[[Callable[[Any], Any], list], Iterable[Any]]
VERSION = 2
MIN_STD = 1e-5


class FeatureStore:
    """A finished store; make one by :meth:`build`, open one by :meth:`open`."""

    def __init__(self, path: Path, about: dict[str, Any], index: dict[str, np.ndarray]):
        self.path, self.about = path, about
        self.options = FeatureOptions(**about["options"])
        self.skipped: list[tuple[str, str, str]] = [tuple(row) for row in about["skipped"]]
        self.warnings: list[tuple[str, str, str]] = [tuple(row) for row in about["warnings"]]
        self.utts: list[str] = _names(index["utts"])
        self._row = {utt: i for i, utt in enumerate(self.utts)}
        self._speakers = _names(index["speakers"])
        self._index = index
        self._maps: dict[int, np.ndarray] = {}

    @classmethod
    def build(
        cls,
        out: Path | str,
        data_dir: Path | str,
        options: FeatureOptions,
        *,
        map: MapFn = map,
        resample: bool = True,
        allow_pipes: bool = False,
        progress: Callable[[str], None] | None = None,
    ) -> "FeatureStore":
        """Compute the features of a Kaldi-style folder, as far as they are not there yet.

        Args:
            out: Folder of the store.
            data_dir: wav.scp; segments and utt2spk if there are such (else each utterance is a
                speaker of its own).
            options: What to compute.
            map: Ordered map, e.g. of an executor; its items are plain data.
            resample: Resample audio of another rate; else its utterances are skipped.
            allow_pipes: Run piped wav.scp entries instead of refusing them.
            progress: Receives lines for a person.

        Raises:
            DataError: A table is missing or malformed, or wav.scp has pipes that are refused.
        """
        out, say = Path(out), progress or (lambda line: None)
        settings = {"options": asdict(options), "resample": resample, "pipes": allow_pipes}
        shards, absent = plan(Path(data_dir), allow_pipes)
        jobs = []
        for i, rows in enumerate(shards):
            key = sha256_json([VERSION, settings, rows, _audio_state(rows)])
            jobs.append({"out": str(out), "shard": i, "key": key, "rows": rows, **settings})
        key = sha256_json([VERSION, settings, [job["key"] for job in jobs], absent])
        done = out / "store.json"
        if done.exists() and _read_json(done).get("key") == key:
            return cls.open(out)
        out.mkdir(parents=True, exist_ok=True)
        done.unlink(missing_ok=True)
        left = [job for job in jobs if read_shard(out, job["shard"], job["key"]) is None]
        if len(left) < len(jobs):
            say(f"{len(jobs) - len(left)} of {len(jobs)} shards of features are there already")
        for number, _ in enumerate(map(compute_shard, left), 1):
            say(f"features: shard {number} of {len(left)}")
        _remove_old(out, len(jobs))
        _write_index(out, key, settings, jobs, absent, options.dim)
        store = cls.open(out)
        for line in store.summary():
            say(line)
        return store

    @classmethod
    def open(cls, path: Path | str) -> "FeatureStore":
        """Open a finished store.

        Raises:
            DataError: It is missing, unfinished or damaged.
        """
        path = Path(path)
        try:
            about = _read_json(path / "store.json")
            with np.load(path / "index.npz", allow_pickle=False) as z:
                return cls(path, about, {name: z[name] for name in z.files})
        except (OSError, ValueError, KeyError, TypeError) as e:
            raise DataError(f"not a finished feature store ({e})", path, "build it again") from None

    @property
    def key(self) -> str:
        """Hash that changes with options, tables and audio."""
        return self.about["key"]

    @property
    def dim(self) -> int:
        """D of the features."""
        return self.options.dim

    @cached_property
    def shards(self) -> list[list[str]]:
        """Utterances of each shard."""
        out: list[list[str]] = [[] for _ in range(self.about["shards"])]
        for utt, shard in zip(self.utts, self._index["shard"].tolist(), strict=True):
            out[shard].append(utt)
        return out

    def frames(self, utt: str) -> int:
        """Return T of an utterance."""
        return int(self._index["frames"][self._find(utt)])

    def samples(self, utt: str) -> tuple[int, int]:
        """Return the samples of an utterance and their rate in Hz, as in the file."""
        row = self._find(utt)
        return int(self._index["samples"][row]), int(self._index["fs"][row])

    def speaker(self, utt: str) -> str:
        """Return the speaker of an utterance."""
        return self._speakers[self._index["speaker"][self._find(utt)]]

    def read(
        self, utt: str, cmvn: bool = True, start: int = 0, end: int | None = None
    ) -> np.ndarray:
        """Return ``(T, D)`` float32, a copy.

        Args:
            utt: Utterance.
            cmvn: Subtract the mean of the speaker (and divide by the standard deviation if the
                options have ``cmvn_vars``).
            start: First frame wanted.
            end: Frame after the last one; None: all.
        """
        row = self._find(utt)
        shard, offset = int(self._index["shard"][row]), int(self._index["offset"][row])
        frames = int(self._index["frames"][row])
        x = self._shard(shard)[offset + start : offset + (frames if end is None else end)]
        if not cmvn:
            return np.array(x)
        speaker = self._index["speaker"][row]
        x = x - self._index["mean"][speaker]
        if self.options.cmvn_vars:
            x /= self._index["std"][speaker]
        return x

    def batches(self, utts: Iterable[str], max_frames: int) -> Iterator[list[str]]:
        """Yield batches of utterances, short ones first.

        Args:
            utts: Utterances in any order.
            max_frames: Limit of utterances times the longest one, what a padded batch holds; a
                longer utterance is a batch of its own.
        """
        batch: list[str] = []
        for utt in sorted(utts, key=lambda u: (self.frames(u), u)):
            if batch and (len(batch) + 1) * self.frames(utt) > max_frames:
                yield batch
                batch = []
            batch.append(utt)
        if batch:
            yield batch

    def summary(self) -> list[str]:
        """Return lines for a person: what was kept, skipped, resampled, and what looks wrong."""
        hours = int(self._index["frames"].sum()) / 360_000
        lines = [f"features of {len(self.utts)} utterances, {hours:.2f} hours"]
        rates, fs = np.unique(self._index["fs"], return_counts=True), self.options.fs
        for rate, count in zip(*(r.tolist() for r in rates), strict=True):
            if rate != fs:
                lack = f"; they have nothing above {rate // 2} Hz" if rate < fs else ""
                lines.append(f"{count} utterances were resampled from {rate} to {fs} Hz{lack}")
        for title, rows in (("skipped", self.skipped), ("warning", self.warnings)):
            for reason in sorted({r for _, r, _ in rows}):
                own = [f"{u} ({d})" for u, r, d in rows if r == reason]
                more = ", ..." if len(own) > 3 else ""
                lines.append(f"{title}, {reason}: {len(own)}, {', '.join(own[:3])}{more}")
        return lines

    def _find(self, utt: str) -> int:
        try:
            return self._row[utt]
        except KeyError:
            raise UsageError(f"'{utt}' has no features", self.path, "see skipped") from None

    def _shard(self, shard: int) -> np.ndarray:
        if shard not in self._maps:
            path = self.path / f"feats.{shard}.f32"
            frames = int(self._index["shard_frames"][shard])
            try:
                flat = np.memmap(path, np.float32, "r", shape=(frames, self.dim))
            except (OSError, ValueError) as e:
                raise DataError(f"the features are damaged ({e})", path, "build again") from None
            self._maps[shard] = flat.view(np.ndarray)
        return self._maps[shard]


def _audio_state(rows: list) -> list[tuple[int, int] | None]:
    """Return size and time of each row's audio file, None where there is none."""
    known: dict[str, tuple[int, int] | None] = {}
    for _, path, *_ in rows:
        if path not in known:
            try:
                status = os.stat(path)
                known[path] = (status.st_size, status.st_mtime_ns)
            except (OSError, ValueError):
                known[path] = None
    return list(known.values())


def _read_json(path: Path) -> dict[str, Any]:
    got = json.loads(path.read_text(encoding="utf-8"))
    return got if isinstance(got, dict) else {}


def _remove_old(out: Path, shards: int) -> None:
    """Remove shards of an earlier, longer build."""
    for path in out.glob("feats.*"):
        number = path.name.split(".")[1]
        if number.isdigit() and int(number) >= shards:
            path.unlink()


def _write_index(
    out: Path, key: str, settings: dict, jobs: list[dict], absent: list, dim: int
) -> None:
    """Merge the records of the shards, always in their order."""
    columns: dict[str, list] = {
        c: [] for c in ("utts", "speaker", "shard", "offset", "frames", "samples", "fs")
    }
    speakers: dict[str, int] = {}
    sums: list[np.ndarray] = []
    skipped, warnings, shard_frames = [*absent], [], []
    for job in jobs:
        record = read_shard(out, job["shard"], job["key"])
        if record is None:
            raise DataError("a shard of features is missing", out, "run again")
        for name, (count, total, squares) in record["speakers"].items():
            row = speakers.setdefault(name, len(speakers))
            if row == len(sums):
                sums.append(np.zeros(2 * dim + 1))
            sums[row] += [count, *total, *squares]
        for utt, speaker, offset, frames, samples, fs in record["utts"]:
            row = (utt, speakers[speaker], job["shard"], offset, frames, samples, fs)
            for column, value in zip(columns.values(), row, strict=True):
                column.append(value)
        skipped += record["skipped"]
        warnings += record["warnings"]
        shard_frames.append(record["frames"])
    stats = np.array(sums).reshape(len(sums), 2 * dim + 1)
    mean, square = stats[:, 1 : dim + 1] / stats[:, :1], stats[:, dim + 1 :] / stats[:, :1]
    arrays = {c: np.array(v, np.int64) for c, v in columns.items() if c != "utts"}
    arrays |= {"utts": _blob(columns["utts"]), "speakers": _blob(speakers)}
    arrays |= {"shard_frames": np.array(shard_frames, np.int64), "mean": mean.astype(np.float32)}
    std = np.sqrt(np.maximum(square - mean**2, MIN_STD**2))
    arrays["std"] = std.astype(np.float32)
    with atomic_path(out / "index.npz") as tmp, open(tmp, "wb") as f:
        np.savez(f, **arrays)
    about = {"key": key, "shards": len(jobs), "skipped": skipped, "warnings": warnings}
    write_json(out / "store.json", about | settings)


def _blob(names: Iterable[str]) -> np.ndarray:
    return np.frombuffer("\n".join(names).encode(), np.uint8)


def _names(blob: np.ndarray) -> list[str]:
    return blob.tobytes().decode().split("\n") if blob.size else []
