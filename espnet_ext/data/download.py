# SPDX-License-Identifier: Apache-2.0
"""Fetch a corpus archive (resumable, verified) and unpack it safely.

Only the standard library is used, so that this works before anything is installed.
"""

import gzip
import lzma
import os
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import atomic_dir, fsync_dir, sha256_file

TRIES = 3
_BLOCK = 1 << 20
_TIMEOUT_S = 60
_MARGIN_BYTES = 64 << 20  # a disk filled to the last byte breaks other programs
_DAMAGE = (gzip.BadGzipFile, lzma.LZMAError, zlib.error)
_Progress = Callable[[int, int | None], None]


def fetch(
    url: str,
    dest: Path | str,
    sha256: str | None = None,
    size: int | None = None,
    progress: _Progress | None = None,
    *,
    backoff_s: float = 2.0,
) -> Path:
    """Download ``url`` to ``dest``, or keep ``dest`` when it is there and right; return ``dest``.

    The download goes to ``dest.part`` and continues from there after a break; it is renamed only
    when size and checksum hold. A finished file that fails them is kept as ``dest.bad``.

    Args:
        url: http, https or file address.
        dest: File to write.
        sha256: Expected SHA-256 in hex.
        size: Expected size in bytes.
        progress: Called as ``progress(bytes so far, total or None)``.
        backoff_s: Wait before the second try in seconds; doubles with each further one.

    Raises:
        UsageError: The address is none of http, https, file.
        DataError: The address does not exist, or size or checksum are wrong.
        SetupError: No network, the server keeps failing, or too little disk space.
    """
    if urllib.parse.urlsplit(url).scheme not in ("http", "https", "file"):
        raise UsageError("the address is none of http, https, file", url, "give such an address")
    dest = Path(dest)
    dest.parent.mkdir(parents=True, exist_ok=True)
    if dest.is_file():
        _verify(dest, url, sha256, size, dest)
        return dest
    part = dest.with_name(dest.name + ".part")
    for attempt in range(TRIES):
        before = part.stat().st_size if part.exists() else 0
        try:
            _download(url, part, size, progress)
            break
        except (urllib.error.URLError, HTTPException, OSError) as e:
            _refuse_permanent(e, url)
            if attempt == TRIES - 1:
                raise _gave_up(e, url, part, before) from None
            time.sleep(backoff_s * 2**attempt)
    _verify(part, url, sha256, size, dest)
    os.replace(part, dest)
    fsync_dir(dest.parent)
    return dest


def _download(url: str, part: Path, size: int | None, progress: _Progress | None) -> None:
    have = part.stat().st_size if part.exists() else 0
    if size is not None and have >= size:
        if have == size:
            return  # killed between the last byte and the rename
        part.unlink()
        have = 0
    request = urllib.request.Request(url)  # noqa: S310 - fetch has checked the scheme
    if have and not url.startswith("file:"):
        request.add_header("Range", f"bytes={have}-")
    answer = _open(request, have)
    if answer is None:
        return
    with answer:
        resumed = getattr(answer, "status", None) == 206 and _starts_at(answer, have)
        have = have if resumed else 0
        left = answer.headers.get("Content-Length")
        total = have + int(left) if left and left.isdigit() else size
        _need_space(part, (total or 0) - have)
        with open(part, "ab" if resumed else "wb") as f:
            while block := answer.read(_BLOCK):
                f.write(block)
                have += len(block)
                if progress:
                    progress(have, total)
            f.flush()
            os.fsync(f.fileno())
    if total is not None and left and have < total:
        raise ConnectionError(f"the connection broke after {have} of {total} bytes")


def _open(request: urllib.request.Request, have: int):
    """Open the address; None when the server says that nothing follows byte ``have``."""
    try:
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310
    except urllib.error.HTTPError as e:
        if e.code != 416:
            raise
        e.close()
        if e.headers.get("Content-Range", "") == f"bytes */{have}":
            return None
        request.remove_header("Range")  # the file at the address has changed: start over
        return urllib.request.urlopen(request, timeout=_TIMEOUT_S)  # noqa: S310


def _starts_at(answer, have: int) -> bool:
    return answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _need_space(path: Path, more: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if more + _MARGIN_BYTES > free:
        what = f"{more / 1e9:.2f} GB are needed and {free / 1e9:.2f} GB are free"
        raise SetupError(f"too little disk space: {what}", path.parent, "free some space")


def _refuse_permanent(e: Exception, url: str) -> None:
    """Raise at once where another try cannot help."""
    if isinstance(e, urllib.error.HTTPError) and e.code < 500 and e.code not in (408, 429):
        how = "check the address; some corpora need a licence or a login first"
        raise DataError(f"the server answers {e.code} {e.reason}", url, how) from None
    if url.startswith("file:"):
        raise DataError(f"the file cannot be copied ({e})", url, "check the path") from None


def _gave_up(e: Exception, url: str, part: Path, before: int) -> SetupError:
    reason = getattr(e, "reason", e)
    have = part.stat().st_size if part.exists() else before
    if have:
        how = f"start again: it continues after the {have} bytes in {part}"
    else:
        how = f"check the network, or put the file at {str(part).removesuffix('.part')} yourself"
    return SetupError(f"the download failed {TRIES} times ({reason})", url, how)


def _verify(path: Path, url: str, sha256: str | None, size: int | None, dest: Path) -> None:
    wrong = None
    if size is not None and path.stat().st_size != size:
        wrong = f"the size is {path.stat().st_size} bytes, expected {size}"
    elif sha256 is not None and (got := sha256_file(path)) != sha256.lower():
        wrong = f"the SHA-256 is {got}, expected {sha256}"
    if wrong:
        bad = dest.with_name(dest.name + ".bad")
        os.replace(path, bad)
        how = f"start again; if it stays, {url} has changed (the file is kept as {bad})"
        raise DataError(wrong, dest, how)


def extract(archive: Path | str, dest_dir: Path | str) -> Path:
    """Unpack a tar (plain or compressed) or zip archive; all of it appears at once, or nothing.

    Args:
        archive: The archive.
        dest_dir: Folder to make; an existing one is replaced.

    Returns:
        ``dest_dir``.

    Raises:
        DataError: Not an archive, damaged, or it holds a member that would land outside
            ``dest_dir``, a device, or a link to the outside.
        SetupError: Too little disk space.
    """
    archive, dest_dir = Path(archive), Path(dest_dir)
    if not archive.is_file():
        raise DataError("the archive is missing", archive, "download it first")
    try:
        with atomic_dir(dest_dir) as tmp:
            if tarfile.is_tarfile(archive):
                _extract_tar(archive, tmp)
            elif zipfile.is_zipfile(archive):
                _extract_zip(archive, tmp)
            else:
                raise DataError("neither a tar nor a zip archive", archive, "download it again")
    except tarfile.FilterError as e:
        how = "do not use it; get it from its publisher"
        raise DataError(f"the archive is not safe ({e})", archive, how) from None
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, *_DAMAGE) as e:
        raise DataError(f"the archive is damaged ({e})", archive, "download it again") from None
    return dest_dir


def _extract_tar(archive: Path, dest: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            _need_space(dest, member.size)
            tar.extract(member, dest, filter="data")


def _extract_zip(archive: Path, dest: Path) -> None:
    with zipfile.ZipFile(archive) as z:
        members = z.infolist()
        _need_space(dest, sum(m.file_size for m in members))
        for m in members:
            path = PurePosixPath(m.filename.replace("\\", "/"))
            link = stat.S_ISLNK(m.external_attr >> 16)
            # zipfile would silently rename such members; an archive with one is not to be trusted.
            if path.is_absolute() or ".." in path.parts or ":" in m.filename[:2] or link:
                how = "do not use it; get it from its publisher"
                raise DataError(f"the archive is not safe: '{m.filename}'", archive, how)
        z.extractall(dest)  # noqa: S202 - each name is checked above
