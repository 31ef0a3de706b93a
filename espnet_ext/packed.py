# SPDX-License-Identifier: Apache-2.0
"""A packed model, archive or folder, for as long as it is read; nothing in it is run or trusted."""

import atexit
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_ext.data.download import extract
from espnet_ext.errors import DataError

META = "meta.yaml"  # what ESPnet notes of a packed model
LIMIT_BYTES = 32 << 30  # unpacked; a small archive can claim to hold far more than any disk
LIMIT_FILES = 10_000
AGAIN = "pack the model again, or copy the archive again"
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error)


@contextmanager
def unpacked(
    archive: Path | str, limit_bytes: int = LIMIT_BYTES, limit_files: int = LIMIT_FILES
) -> Iterator[Path]:
    """Yield a temporary folder with the files of a packed model; it is removed afterwards.

    Args:
        archive: A zip or tar archive, or a folder with its files, which are linked to: to change
            one, remove it first.
        limit_bytes: Refuse an archive whose files are larger together.
        limit_files: Refuse an archive with more members.

    Raises:
        DataError: Missing, damaged, encrypted, too large, or a member would land elsewhere.
    """
    archive = Path(archive)
    if archive.is_dir():
        with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
            yield _linked(archive, Path(folder) / "model")
        return
    _check(archive, limit_bytes, limit_files)
    with tempfile.TemporaryDirectory(prefix="espnet_ext_") as folder:
        try:
            yield extract(archive, Path(folder) / "model")
        except NotImplementedError as e:  # a compression that this Python does not have
            raise DataError(f"the archive is not readable ({e})", archive, AGAIN) from None


def is_packed(path: Path) -> bool:
    """Whether a path is an archive, or a folder with the files of one, as the hub has it."""
    return path.is_file() or (path / META).is_file()


def how_packed(path: Path | str) -> str:
    """Return how to give a packed model in place of a path that is none: the archives in it."""
    have = sorted(str(p) for p in Path(path).glob("*.zip"))
    return f"give the archive: {', '.join(have)}" if have else "give an archive of stage 10"


def kept_unpacked(archive: Path) -> Path:
    """Return a folder with the files of an archive, which is removed when this process ends.

    Raises:
        DataError: See :func:`unpacked`.
    """
    opened = unpacked(archive)
    folder = opened.__enter__()
    atexit.register(opened.__exit__, None, None, None)
    return folder


def _linked(folder: Path, out: Path) -> Path:
    """Make a tree of links to the files of a folder: a cache of the hub is not to be written to."""
    for path in folder.rglob("*"):
        if path.is_file() and ".cache" not in path.relative_to(folder).parts:
            link = out / path.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
    return out


def _check(archive: Path, limit_bytes: int, limit_files: int) -> None:
    """Refuse what unpacking alone would not notice; see :func:`unpacked`."""
    if not archive.is_file():
        raise DataError("there is no such file", archive, "give the path of a packed model")
    members = _members(archive)
    names, size = [name for name, _ in members], sum(size for _, size in members)
    if len(names) > limit_files or size > limit_bytes:
        what = f"the archive holds {len(names)} files of {size / 1e9:.2f} GB"
        limit = f"at most {limit_files} files and {limit_bytes / 1e9:.2f} GB are taken"
        raise DataError(what, archive, limit)
    if len(set(names)) < len(names):
        raise DataError("the archive holds two files of one name", archive, AGAIN)


def _members(archive: Path) -> list[tuple[str, int]]:
    """Return names and unpacked sizes of what an archive claims to hold."""
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as z:
                if any(m.flag_bits & 1 for m in z.infolist()):
                    raise DataError("the archive is encrypted", archive, "decrypt it first")
                return [(m.filename, m.file_size) for m in z.infolist()]
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as t:
                return [(m.name, m.size) for m in t]
    except DAMAGE as e:
        raise DataError(f"the archive is damaged ({e})", archive, AGAIN) from None
    raise DataError("neither a zip nor a tar archive", archive, AGAIN)


def portable(value: Any, base: Path) -> Any:
    """Make absolute paths relative to ``base`` where they lie below it, else keep the name only."""
    if isinstance(value, dict):
        return {k: portable(v, base) for k, v in value.items()}
    if isinstance(value, list):
        return [portable(v, base) for v in value]
    if isinstance(value, str) and value.startswith("/"):
        path = Path(value)
        return str(path.relative_to(base)) if path.is_relative_to(base) else path.name
    return value
