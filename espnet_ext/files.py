# SPDX-License-Identifier: Apache-2.0
"""Writing files and folders so that a kill at any moment leaves the old or the new, never half."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet_ext.errors import UsageError

# The names of atomic_path, with an ending for programs that go by it, and of atomic_dir.
_LEFTOVER = re.compile(r"\.(.+)\.(?:tmp\d*(?:\.zip)?|old)")


def fsync_dir(path: Path) -> None:
    """Make a rename inside folder ``path`` durable."""
    _fsync(path)


def _fsync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_path(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary sibling to write to; on success rename it to ``path``.

    Args:
        path: The file to write.
        durable: Sync it, so that it outlives a power failure. Not needed for what the process that
            waits for it reads at once and removes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp = path.with_name(f".{path.name}.tmp{os.getpid()}")
    try:
        yield tmp
        if durable:
            _fsync(tmp)
        os.replace(tmp, path)
        if durable:
            fsync_dir(path.parent)
    finally:
        tmp.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path | str) -> Iterator[Path]:
    """Yield an empty temporary sibling folder; on success it replaces folder ``path``.

    The old folder is moved aside before the rename and removed after it; a kill in between
    loses nothing, because the next call moves it back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tmp, old = (path.with_name(f".{path.name}.{x}") for x in ("tmp", "old"))
    if old.exists() and not path.exists():
        os.replace(old, path)  # killed between the two renames below
    for leftover in (tmp, old):
        shutil.rmtree(leftover, ignore_errors=True)
    tmp.mkdir()
    try:
        yield tmp
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise
    if path.exists():
        os.replace(path, old)
    os.replace(tmp, path)
    fsync_dir(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def check_replaceable(out: Path, mark: str, sources: Iterable[Path] = ()) -> None:
    """Refuse a folder of the user's that :func:`atomic_dir` must not replace.

    Args:
        out: The folder that a command is going to write.
        mark: The file by which a folder that the command wrote before is known.
        sources: What the command reads.

    Raises:
        UsageError: ``out`` holds something else, is a file, or has a source in it.
    """
    how, whole = "name another folder", out.resolve()
    if out.exists() and not out.is_dir():
        raise UsageError("the folder to write is a file", out, how)
    for source in sources:
        if whole in (source.resolve(), *source.resolve().parents):
            raise UsageError(f"writing here would delete {source}, which is read", out, how)
    if not out.name:
        raise UsageError("the folder to write has no name of its own", out, how)
    if out.exists() and not (out / mark).is_file() and any(out.iterdir()):
        raise UsageError(f"the folder holds something else: it has no {mark}", out, how)


def sweep(root: Path, folders: Iterable[str]) -> list[Path]:
    """Remove what killed writes left in ``root`` and below its ``folders``; return its paths.

    A folder that a kill caught between the two renames of :func:`atomic_dir` gets its name back.
    Only for a root in which nobody writes at the moment.
    """
    swept = [root / name for name in os.listdir(root) if _LEFTOVER.fullmatch(name)]
    for folder in folders:
        for at, dirs, names in os.walk(root / folder):
            found = [name for name in (*dirs, *names) if _LEFTOVER.fullmatch(name)]
            swept += [Path(at, name) for name in found]
            dirs[:] = [name for name in dirs if name not in found]
    for path in swept:
        whole = path.with_name(_LEFTOVER.fullmatch(path.name)[1])
        if path.suffix == ".old" and not whole.exists():
            os.replace(path, whole)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return swept


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` (UTF-8) atomically."""
    with atomic_path(path) as tmp:
        tmp.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path | str, obj: object) -> None:
    """Write ``obj`` as JSON atomically (sorted keys, so equal content gives equal bytes)."""
    write_text(path, json.dumps(obj, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


def file_version(path: Path | str) -> tuple[int, int, int, int]:
    """Return what tells that a file is the one seen before: size, times of change, inode.

    A copy may keep size and time of modification of what it replaces (cp -p, rsync -t), not ctime.
    """
    s = os.stat(path)
    return s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes in hex."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def sha256_json(obj: object) -> str:
    """Return the SHA-256 of ``obj`` in canonical JSON."""
    text = json.dumps(obj, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
