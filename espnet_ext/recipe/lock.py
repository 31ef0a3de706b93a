# SPDX-License-Identifier: Apache-2.0
"""A file that one process holds at a time: who has it, and what a killed run left behind."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from espnet_ext.errors import SetupError

LEFT_S = 20.0  # how long to wait for the processes of a run that was killed
POLL_S, WAIT_S = 0.1, 2.0  # how often it is looked, at first and after a while
NAMELESS_S = 1.0  # who just took it has not written its name yet, or only looks whether it is free
_held: set[int] = set()


def descriptors() -> tuple[int, ...]:
    """Return the descriptors of the locks that this process holds, for its children."""
    return tuple(_held)


@contextmanager
def hold(
    path: Path, say: Callable[[str], None], where: str = "in this folder", wait: bool | None = None
) -> Iterator[bool]:
    """Hold the lock file while the block runs; yield whether the run before was killed.

    The kernel drops the lock when the last process that inherited it ends, however it ends: so a
    file that a killed run left behind is recognised by its being free, and processes that such a
    run left behind (they are about to end) are waited for.

    Args:
        path: The file.
        say: Is told of a killed run, and of waiting.
        where: For messages, what the lock is of.
        wait: Wait for a run that holds it; None where there is no option ``--wait`` to do so.

    Raises:
        SetupError: Another run holds it, or processes of a killed run do not end.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as f:
        _acquire(f, path, say, where, wait)
        if holder := _holder(f):
            say(f"taking over the lock of process {holder.get('pid')}, which no longer runs")
        f.truncate(0)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M:%S")}
        f.write(json.dumps(me))
        f.flush()
        _held.add(f.fileno())
        try:
            yield bool(holder)
        finally:
            _held.discard(f.fileno())
            f.truncate(0)


def until_free(path: Path, say: Callable[[str], None], where: str, wait: bool | None) -> None:
    """Return once nobody holds a lock file that is there, without holding it; see :func:`hold`."""
    with open(path, "r+", encoding="utf-8") as f:
        _acquire(f, path, say, where, wait)


@contextmanager
def brief(path: Path) -> Iterator[None]:
    """Let one process at a time do what takes moments; others wait for it without a word."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def is_free(path: Path) -> bool:
    """Return whether nobody holds a lock file that is there at the moment."""
    with open(path, "r+", encoding="utf-8") as f:
        return _taken(f)


def _holder(f: TextIO) -> dict:
    """Return who wrote the file; empty if nobody did, or it is damaged."""
    f.seek(0)
    with suppress(json.JSONDecodeError, UnicodeDecodeError):
        holder = json.loads(f.read() or "{}")
        return holder if isinstance(holder, dict) else {}
    return {}


def _taken(f: TextIO) -> bool:
    try:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _acquire(
    f: TextIO, path: Path, say: Callable[[str], None], where: str, wait: bool | None
) -> None:
    start, told, pause = time.monotonic(), "", POLL_S
    until = start + LEFT_S
    while not _taken(f):
        holder = _holder(f)
        if not holder and time.monotonic() < start + NAMELESS_S:
            time.sleep(POLL_S / 10)
            continue
        left = _left_behind(path, holder)
        if left is None:
            pid, host, since = (holder.get(key, "?") for key in ("pid", "host", "since"))
            what = f"another run is at work {where}: process {pid} on {host}, since {since}"
            if not wait:
                how = "wait for it, or stop it" + ("" if wait is None else "; --wait waits")
                raise SetupError(what, path, how)
            news, until = f"waiting: {what}", time.monotonic() + LEFT_S
        else:
            pids = " ".join(map(str, left))
            if time.monotonic() > until:
                what = f"processes of a run that was killed are still at work: {pids}"
                raise SetupError(what, path, f"wait for them, or end them: kill {pids}")
            killed = holder.get("pid")
            news = f"waiting for what the killed run {killed} started: process {pids}"
            news = news if left and not told else told
        if news != told:
            say(news)
            told = news
        time.sleep(pause)
        pause = min(WAIT_S, 1.2 * pause) if left is None else POLL_S


def _left_behind(path: Path, holder: dict) -> list[int] | None:
    """Return the processes that hold the lock of a killed run; None if its holder still runs."""
    pid = holder.get("pid")
    if holder.get("host") != socket.gethostname() or pid == os.getpid():
        return None
    ours = os.stat(path)
    pids = [
        int(folder.name)
        for folder in Path("/proc").glob("[0-9]*")
        if folder.name != str(os.getpid()) and _has_open(folder / "fd", ours)
    ]
    return None if pid in pids or (not pids and _runs(pid)) else pids


def _has_open(folder: Path, file: os.stat_result) -> bool:
    with suppress(OSError):  # it ended, or is another user's
        for entry in os.scandir(folder):
            with suppress(OSError):
                if os.path.samestat(file, os.stat(entry.path)):
                    return True
    return False


def _runs(pid: object) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
        return state not in "ZX"
    return False
