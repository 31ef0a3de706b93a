# SPDX-License-Identifier: Apache-2.0
"""Processes that a run starts: none outlives it, and a signal ends all of them in one line.

- Commands (``local/data.sh``, torchrun, srun) run under :mod:`espnet_ext.recipe.guard`.
- Forked workers (data loading) and pool workers are killed by the kernel with their parent.
- All of them hold the lock of the recipe's folder until they have ended.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import reduction
from pathlib import Path
from subprocess import Popen
from typing import IO

from espnet_ext.errors import SetupError
from espnet_ext.recipe import guard, lock

GUARD = Path(guard.__file__)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
AGAIN_S = 1.0  # a signal that comes this much after the first ends the run without tidying up


class Stopped(KeyboardInterrupt):
    """A signal asks the run to end."""

    def __init__(self, signum: int):
        self.signum = signal.Signals(signum)
        super().__init__(self.signum.name)

    @property
    def exit_code(self) -> int:
        """What a shell shows for a process that the signal ended: 130, 143 or 129."""
        return 128 + self.signum


def tell_stopped(error: KeyboardInterrupt) -> int:
    """Tell the person that a signal ended the run; return the exit code."""
    stopped = error if isinstance(error, Stopped) else Stopped(signal.SIGINT)
    how = "interrupted" if stopped.signum == signal.SIGINT else f"stopped by {stopped}"
    print(f"\n{how}; start again to go on from here", file=sys.stderr)
    return stopped.exit_code


class _State:
    run = False  # inside stop_on_signals: what is forked belongs to a run
    stopped: Stopped | None = None
    since = 0.0
    main_thread = True


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into :class:`Stopped` while the block runs."""
    if threading.current_thread() is not threading.main_thread() or _State.run:
        yield
        return
    before = {signum: signal.signal(signum, _stop) for signum in SIGNALS}
    _State.run, _State.stopped = True, None
    try:
        yield
        raise_if_swallowed()
    finally:
        _State.run = False
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, frame: object) -> None:
    now = time.monotonic()
    if _State.stopped is None:
        _State.stopped, _State.since = Stopped(signum), now
        # torch's handler would raise for each loading process that the same signal ended. Not
        # SIG_DFL: of a signal that is pending by then, Python would print a traceback.
        signal.signal(signal.SIGCHLD, lambda *_: None)
        raise _State.stopped
    if now - _State.since > AGAIN_S:
        os._exit(_State.stopped.exit_code)


def raise_if_swallowed() -> None:
    """Raise :class:`Stopped` again if a signal came where Python drops exceptions (``__del__``)."""
    if _State.run and _State.stopped is not None:
        raise _State.stopped


def raise_if_stopped() -> None:
    """Raise :class:`Stopped` if an error is only the echo of a signal, as workers got it first."""
    time.sleep(0.05)
    if _State.stopped is not None:
        raise _State.stopped


def _before_fork() -> None:
    _State.main_thread = threading.current_thread() is threading.main_thread()


def _after_fork() -> None:
    # The kernel watches the thread that forked: one that ends would take its children with it.
    if lock.descriptors() and _State.main_thread:
        guard.end_with_parent()
    if _State.run:
        _State.run = False
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent got it too, and ends us
        for signum in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(signum, signal.SIG_DFL)


os.register_at_fork(before=_before_fork, after_in_child=_after_fork)


def follow(argv: list[str], told: Callable[[str], None], env: dict | None = None) -> int:
    """Run a command to its end, without a terminal to read from; return its exit code.

    Args:
        argv: The command.
        told: Called with each line of its stdout and stderr.
        env: Its environment (default: this one).

    Raises:
        SetupError: There is no such command.
    """
    if shutil.which(argv[0]) is None:
        raise SetupError(f"there is no command '{argv[0]}'", "PATH")
    others = set(guard.descendants())
    guard.adopt_orphans()
    process, ours = guarded(argv, subprocess.PIPE, env)
    threading.Thread(target=_watch, args=(process.pid, others), daemon=True).start()
    try:
        for line in process.stdout:
            told(line)
    finally:
        os.close(ours)  # from here on the guard ends what still runs
        for line in process.stdout:
            print(line, end="")  # last words, for the log
        process.stdout.close()
        code = process.wait()
    return 128 - code if code < 0 else code


def guarded(argv: list[str], out: IO | int, env: dict | None = None) -> tuple[Popen, int]:
    """Start a command; return the process that guards it, and a descriptor: closing it ends both.

    Args:
        argv: The command; it has no terminal to read from.
        out: Where its stdout and stderr go.
        env: Its environment (default: this one).
    """
    lifeline, ours = os.pipe()
    process = Popen(
        [sys.executable, "-I", "-S", str(GUARD), str(lifeline), *argv],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=out,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        pass_fds=(lifeline, *lock.descriptors()),
        start_new_session=True,
    )
    os.close(lifeline)
    return process, ours


def _watch(pid: int, others: set[int]) -> None:
    """If somebody kills the guard itself, do its work: this process adopted what it left."""
    with suppress(ChildProcessError):
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        until = time.monotonic() + guard.KILL_S
        while ended.si_code == os.CLD_KILLED and time.monotonic() < until:
            if not (left := set(guard.descendants()) - others):
                break
            for orphan in left:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(orphan, signal.SIGKILL)
            time.sleep(0.02)


def how_ended(code: int) -> str:
    """Return ``exit code 1``, or which signal ended the command."""
    if code <= 128 or code - 128 not in set(signal.Signals):
        return f"exit code {code}"
    name = signal.Signals(code - 128).name
    memory = " (often: out of memory)" if name == "SIGKILL" else ""
    return f"exit code {code}: {name}{memory}"


class LockShare:
    """Descriptors of the lock, to be handed to a process that multiprocessing spawns."""

    def __init__(self, descriptors: tuple[int, ...] = ()):
        self.descriptors = descriptors or lock.descriptors()

    def __reduce__(self) -> tuple:
        return _adopt, (tuple(reduction.DupFd(fd) for fd in self.descriptors),)


def _adopt(shared: tuple) -> LockShare:
    share = LockShare.__new__(LockShare)
    share.descriptors = tuple(fd.detach() for fd in shared)  # open as long as the process lives
    return share


def start_worker(share: LockShare, parent: int) -> None:
    """Prepare a pool's worker: it ends with its parent and leaves Ctrl-C to it."""
    guard.end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if os.getppid() != parent:  # it ended before the line above
        os._exit(1)
