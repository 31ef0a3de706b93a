# SPDX-License-Identifier: Apache-2.0
"""Run a command whose processes all end with the run that started it, however that run ends.

``python -I -S guard.py LIFELINE COMMAND...``. LIFELINE is the reading end of a pipe whose writing
end only the run has: the kernel closes it when the run ends, by SIGKILL too. Then every process
that the command started gets SIGTERM, and SIGKILL two seconds later. The guard inherits the
lock of the recipe's folder, so no other run starts before the last of them has ended.

A script of the standard library alone: it starts in some 20 ms, and a kill cannot find it
half imported.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h
LINGER_S = 5.0  # for what the command left in the background, such as `> >(tee log)`
TERM_S = 2.0
KILL_S = 30.0


def prctl(option: int, value: int) -> None:
    """Set a property of this process; nothing happens where there is no Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def end_with_parent() -> None:
    """Let the kernel kill this process when the thread that started it ends."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every process below whose own parent ends."""
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def descendants() -> list[int]:
    """Return the processes below this one; orphans are adopted, so none is missed."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                children.setdefault(int(parent), []).append(int(folder.name))
    found, todo = [], [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def main(argv: list[str]) -> int:
    """Run ``COMMAND``; return its exit code, 128 + n if signal n ended it."""
    lifeline, command = int(argv[0]), argv[1:]
    os.set_inheritable(lifeline, False)
    adopt_orphans()
    child = os.fork()
    if child == 0:
        _exec(command)
    wake, woken = os.pipe()
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    ended: list[int] = []  # by a signal to the guard itself
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, lambda *_: ended.append(1))
    signal.signal(signal.SIGCHLD, lambda *_: None)
    code = None
    while code is None and not ended:
        ready, _, _ = select.select([lifeline, wake], [], [], 5.0)
        if lifeline in ready:
            break
        if wake in ready:
            os.read(wake, 4096)
        code = _reap(child)
    if code is None or not _wait(child, LINGER_S if code <= 128 else 0, lifeline):
        code = _end_all(child, code)
    return 128 + signal.SIGTERM if code is None else code


def _exec(command: list[str]) -> None:
    end_with_parent()
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as e:
        print(f"{command[0]}: {e.strerror}", file=sys.stderr, flush=True)
    os._exit(127)


def _reap(child: int) -> int | None:
    """Collect what ended; return the exit code of ``child`` if it was among it."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (got := os.waitpid(-1, os.WNOHANG))[0]:
            if got[0] == child:
                code = os.waitstatus_to_exitcode(got[1])
    return 128 - code if code is not None and code < 0 else code


def _wait(child: int, seconds: float, lifeline: int) -> bool:
    """Wait until nothing is left below the guard; False if something is, or the run ended."""
    until = time.monotonic() + seconds
    while descendants():
        if time.monotonic() > until or select.select([lifeline], [], [], 0.05)[0]:
            return False
        _reap(child)
    return True


def _end_all(child: int, code: int | None) -> int | None:
    """End every process below the guard; return the exit code of ``child``."""
    for signum, seconds in ((signal.SIGTERM, TERM_S), (signal.SIGKILL, KILL_S)):
        until, told = time.monotonic() + seconds, set()
        while (left := descendants()) and time.monotonic() < until:
            for pid in set(left) - told:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signum)
            told |= set(left)
            time.sleep(0.02)
            got = _reap(child)
            code = got if code is None else code
    got = _reap(child)
    return got if code is None else code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
