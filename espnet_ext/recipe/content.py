# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of what stages read: equal as long as the content is, wherever it is.

Cheap the second time: a file whose size and times (and inode) are as before is not read again.
Audio is known by its size and samples of its bytes, header and end included.
"""

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from espnet_ext.data.streams import AUDIO
from espnet_ext.data.tables import iter_table
from espnet_ext.data.tar_member import parse_member
from espnet_ext.errors import EspnetExtError
from espnet_ext.files import atomic_path, file_version, sha256_file, sha256_json, write_json

CACHE = Path(".stages/content.json")
AUDIO_CACHE = Path(".stages/audio")
HASH_WHOLE_MB = 4096  # larger files are known by size and time
SAMPLES, SAMPLE_BYTES = 5, 4096
THREADS = 8  # a network disk answers slowly, but many at once
NOT_LISTS = re.compile(  # audio, video, archives, arrays, models
    r".*\.(wav|flac|sph|mp3|ogg|opus|m4a|aac|raw|pcm|mp4|mkv|avi|webm|mov|zip|t?gz|tar|bz2|xz|7z|zst"
    r"|ark|npy|npz|pt|pth|bin|safetensors|h5|pdf|png|jpg)|\..*",
    re.IGNORECASE,
)


class Contents:
    """Fingerprints in the current recipe folder; ``save`` keeps what was read for the next run."""

    def __init__(self) -> None:
        try:
            self._known = json.loads(CACHE.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self._known = {}
        if not isinstance(self._known, dict):
            self._known = {}
        self._new = False

    def save(self) -> None:
        if self._new:
            write_json(CACHE, self._known)
            self._new = False

    def fingerprint(self, path: Path) -> str:
        """Return a text that changes when the content of a file or folder changes."""
        if not path.exists():
            return "missing"
        if path.is_dir():
            return sha256_json({str(p.relative_to(path)): self._file(p) for p in _files(path)})
        if path.suffix == ".scp":
            if path.name != AUDIO and (archives := _archives(path)):
                # equal offsets do not mean equal archives
                return sha256_json([self._file(path), *map(self.fingerprint, archives)])
            return _audio_table(path, with_places=path.parts[0] == "data")
        return self._file(path)

    def lists(self, folder: Path) -> str:
        """Return the fingerprint of a corpus's transcripts and lists: its files but for audio."""
        return sha256_json({str(p.relative_to(folder)): self._file(p) for p in _lists(folder)})

    def _file(self, path: Path) -> str:
        try:
            now = _state(path)
        except OSError:  # a dangling link
            return "missing"
        if now[0] > HASH_WHOLE_MB << 20:
            return f"{now[0]}:{now[1]}"
        known = self._known.get(str(path))
        if not known or known[0] != now:
            self._known[str(path)] = known = [now, sha256_file(path)]
            self._new = True
        return known[1]


def _state(path: Path | str) -> list[int]:
    return list(file_version(path))  # JSON has no tuples


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)


def _lists(folder: Path) -> Iterator[Path]:
    for at, dirs, names in os.walk(folder):
        dirs[:] = sorted(d for d in dirs if not d.startswith("."))
        for name in sorted(names):
            if not NOT_LISTS.fullmatch(name):
                yield Path(at, name)


def _archives(path: Path) -> list[Path]:
    """Return the files of ``utterance FILE:OFFSET`` lines."""
    values = (value.rpartition(":") for _, value in iter_table(path))
    return sorted({Path(file) for file, _, offset in values if file and offset.isdecimal()})


def _audio_table(path: Path, with_places: bool) -> str:
    """Return the fingerprint of a table (wav.scp, video.scp) and the files that it names.

    A corpus or recipe that moves stays the same; only formatting depends on ``places``, because
    its result may name the original files.
    """
    cache = AUDIO_CACHE / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.json"
    try:
        known = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    digest, new = hashlib.sha256(), {}
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            for rows in itertools.batched(iter_table(path), 4096):
                values = [value for _, value in rows]
                for (utt, value), entry in zip(
                    rows, pool.map(lambda v: _audio(v, known.get(v)), values), strict=True
                ):
                    new[value] = entry
                    place = value.replace(f"{Path.cwd()}/", "")
                    shown = with_places or entry[0] is None  # commands; audio that is gone
                    digest.update(f"{utt} {entry[1]} {place if shown else ''}\n".encode())
    except EspnetExtError:  # not a table: the stage that reads it says where and how
        return f"damaged {sha256_file(path)}"
    if new != known:
        with atomic_path(cache) as tmp:
            tmp.write_text(json.dumps(new), encoding="utf-8")
    return digest.hexdigest()


def _audio(value: str, known: list | None) -> list:
    """Return ``[state, digest]`` of an audio file; of a command its own text."""
    member = parse_member(value)
    try:
        now = _state(member.path if member else value)
    except (OSError, ValueError):
        return [None, "not a file"]
    if known and known[0] == now:
        return known
    return [now, _sample(*(member or (value, 0, now[0])))]


def _sample(path: str, start: int, size: int) -> str:
    digest = hashlib.sha256(str(size).encode())
    with open(path, "rb", buffering=0) as f:
        f.seek(start)
        if size <= SAMPLES * SAMPLE_BYTES:
            digest.update(f.read(size))
        else:
            for i in range(SAMPLES):
                f.seek(start + (size - SAMPLE_BYTES) * i // (SAMPLES - 1))
                digest.update(f.read(SAMPLE_BYTES))
    return digest.hexdigest()


def make_relative(path: Path) -> None:
    """Let a table name files below the current folder relative to it, so that it may move."""
    here = f"{Path.cwd()}/".encode()
    content = path.read_bytes()
    for before in (b" ", b"\t"):
        content = content.replace(before + here, before)
    if content != path.read_bytes():
        with atomic_path(path) as tmp:
            tmp.write_bytes(content)
