# SPDX-License-Identifier: Apache-2.0
"""``SHARD.tar:OFFSET:BYTES`` as an entry of wav.scp: audio inside a tar file, read in place.

A corpus of millions of utterances then is some thousands of files. Shards stay open, a limited
number in each process. They are read by position, so forked workers may share what was open before.
"""

import os
import re
import tarfile
from functools import lru_cache
from typing import NamedTuple

from espnet_ext.errors import DataError

_ENTRY = re.compile(r"(.+\.tar):(\d+):(\d+)")
_OPEN = 64  # shards; the usual limit of a process is 1024 files
_HOW = "index the shards again: espnet-ext data --from-cuts SHARDS DIR"


class Member(NamedTuple):
    """A member of a tar file: its data are ``size`` bytes from ``offset``."""

    path: str
    offset: int
    size: int

    def __str__(self) -> str:
        return f"{self.path}:{self.offset}:{self.size}"


def parse_member(entry: str) -> Member | None:
    """Return the member that an entry names; None for any other entry."""
    if not entry.endswith(tuple("0123456789")):
        return None
    found = _ENTRY.fullmatch(entry)
    return Member(found[1], int(found[2]), int(found[3])) if found else None


def file_of(entry: str) -> str:
    """Return the file that an entry of wav.scp is in."""
    member = parse_member(entry)
    return member.path if member else entry


def read_member(member: Member) -> bytes:
    """Return the data of a member.

    Raises:
        DataError: The shard is missing or cut off, or no such member is at this place.
    """
    start = member.offset - tarfile.BLOCKSIZE  # its header lies before it
    try:
        shard = _shard(member.path)
        found = shard.read(start, tarfile.BLOCKSIZE + member.size)
    except (OSError, ValueError) as e:
        missing = isinstance(e, FileNotFoundError)
        what = "the shard is missing" if missing else f"the shard is not readable ({e})"
        raise DataError(what, member, "correct its path, or copy it again") from None
    if len(found) < tarfile.BLOCKSIZE + member.size:
        raise DataError("the shard is cut off before this member ends", member, "copy it again")
    head, data = found[: tarfile.BLOCKSIZE], found[tarfile.BLOCKSIZE :]
    try:
        size = tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape").size
    except tarfile.HeaderError:
        raise DataError("the shard has no member here", member, _HOW) from None
    if size != member.size:
        raise DataError(f"the shard has a member of {size} bytes here", member, _HOW)
    return data


class _Shard:
    """An open file without a position of its own; it is closed when nobody uses it any more."""

    def __init__(self, path: str):
        self._fd = -1
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, start: int, size: int) -> bytes:
        """Return ``size`` bytes, fewer at the end of the file."""
        parts, left = [], size
        while left and (part := os.pread(self._fd, left, start + size - left)):
            parts.append(part)
            left -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


@lru_cache(maxsize=_OPEN)
def _shard(path: str) -> _Shard:
    return _Shard(path)
