# SPDX-License-Identifier: Apache-2.0
"""Several experiments of one recipe at the same time, a process each: ``--jobs N``.

Each is ``run.sh --wait``: the locks of the folder (:mod:`espnet_ext.recipe.turn`) order what they
share. What one starts from is made before it begins. They all end with the series.
"""

import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from espnet_ext import hardware
from espnet_ext.installation import recipe_line
from espnet_ext.progress import duration
from espnet_ext.recipe import processes
from espnet_ext.recipe.console import say
from espnet_ext.recipe.experiment import Experiment, needs

POLL_S = 0.2
SHOWN = 6  # lines of a failed run


@dataclass
class _Job:
    number: int
    run: Experiment
    left: deque[list[str]]  # its commands
    slot: int
    start: float
    argv: list[str]
    process: Popen
    lifeline: int


def log_of(run: Experiment) -> Path:
    """Return the file that has what a terminal would show of a run."""
    return Path("exp") / run.name / "log/run.log"


class Jobs:
    """A series of experiments.

    Args:
        runs: The experiments; one that starts from another comes after it.
        passed_on: Further options of ``run.sh`` for each.
        title: Of the series.
        count: How many at a time.
        ngpu: GPUs of each.
    """

    def __init__(
        self, runs: Sequence[Experiment], passed_on: Sequence[str], title: str, count: int,
        ngpu: int = 0,
    ):  # fmt: skip
        self._waiting = list(enumerate(runs, 1))
        self._title, self._total = title, len(runs)
        self._ngpu, self._gpus = ngpu, len(hardware.gpus()) if ngpu else 0
        self._passed_on = [*passed_on, "--wait"]
        if "--nj" not in {a.partition("=")[0] for a in passed_on}:
            share = max(1, len(os.sched_getaffinity(0)) // count)
            self._passed_on += ["--nj", str(share)]
        self._unfinished = {run.name for run in runs}
        self._needs = {run.name: needs(run, passed_on) for run in runs}
        self._slots = list(range(count))
        self._at_work: list[_Job] = []

    def run(self) -> int:
        """Run all; return the first exit code that is not 0. After a failure none begins."""
        try:
            with processes.stop_on_signals():
                return self._run()
        except KeyboardInterrupt as e:
            return processes.tell_stopped(e)
        finally:
            self._stop()

    def _run(self) -> int:
        code = 0
        while self._at_work or (self._waiting and not code):
            while not code and self._slots and (found := self._ready()):
                self._begin(*found)
            for job in [j for j in self._at_work if j.process.poll() is not None]:
                ended = self._ended(job)
                code = code or ended
            time.sleep(POLL_S)
        return code

    def _ready(self) -> tuple[int, Experiment] | None:
        """Return the first run, taken from those that wait, of which nothing is missing."""
        for at, (_, run) in enumerate(self._waiting):
            if not (self._needs[run.name] & self._unfinished) or not self._at_work:
                return self._waiting.pop(at)
        return None

    def _begin(self, number: int, run: Experiment) -> None:
        commands = deque(run.commands(self._passed_on))
        log_of(run).parent.mkdir(parents=True, exist_ok=True)
        log_of(run).write_bytes(b"")
        self._start(number, run, commands, self._slots.pop(0), time.monotonic())
        self._say(number, run, f"begins; {log_of(run)}")

    def _start(
        self, number: int, run: Experiment, left: deque[list[str]], slot: int, start: float
    ) -> None:
        argv, env = left.popleft(), dict(os.environ)
        given = env.get("CUDA_VISIBLE_DEVICES")
        if devices := visible_devices(slot, self._ngpu, self._gpus, given):
            env["CUDA_VISIBLE_DEVICES"] = devices
        command = [sys.executable, "-m", "espnet_ext.recipe", *argv]
        with open(log_of(run), "ab") as out:
            process, lifeline = processes.guarded(command, out, env)
        self._at_work.append(_Job(number, run, left, slot, start, argv, process, lifeline))

    def _ended(self, job: _Job) -> int:
        """Go on with the next command of a run, or tell that it has ended; return its code."""
        self._at_work.remove(job)
        os.close(job.lifeline)
        if not (code := job.process.returncode) and job.left:
            self._start(job.number, job.run, job.left, job.slot, job.start)
            return 0
        self._slots.append(job.slot)
        self._slots.sort()
        if not code:
            self._unfinished.discard(job.run.name)
            self._say(job.number, job.run, f"done in {duration(time.monotonic() - job.start)}")
            return 0
        code = 128 - code if code < 0 else code
        self._say(job.number, job.run, f"failed: {processes.how_ended(code)}")
        last = log_of(job.run).read_text(encoding="utf-8", errors="replace").splitlines()[-SHOWN:]
        print("\n".join(f"    {line}" for line in last), file=sys.stderr)
        print(f"  run:   {recipe_line(*job.argv)}", file=sys.stderr)
        if self._at_work:
            names = ", ".join(j.run.name for j in self._at_work)
            say(f"{self._title}: none begins any more; still at work: {names}")
        return code

    def _stop(self) -> None:
        for job in self._at_work:
            os.close(job.lifeline)
        for job in self._at_work:
            job.process.wait()

    def _say(self, number: int, run: Experiment, what: str) -> None:
        say(f"{self._title}: run {number} of {self._total}, {run.name}: {what}")


def visible_devices(slot: int, ngpu: int, count: int, given: str | None = None) -> str:
    """Return CUDA_VISIBLE_DEVICES of the job in a slot; empty: all jobs share what there is.

    Args:
        slot: From 0.
        ngpu: GPUs of each job.
        count: GPUs that this process sees.
        given: Its own CUDA_VISIBLE_DEVICES.

    >>> [visible_devices(slot, 1, 2) for slot in range(3)]
    ['0', '1', '0']
    >>> [visible_devices(slot, 2, 4, "3,2,1,0") for slot in range(2)]
    ['3,2', '1,0']
    """
    if not ngpu or count <= ngpu:
        return ""
    names = [x.strip() for x in given.split(",")] if given else [str(i) for i in range(count)]
    return ",".join(names[(slot * ngpu + i) % count] for i in range(ngpu))
