# SPDX-License-Identifier: Apache-2.0
"""Experiments of one folder at the same time: what they share is changed by one run alone."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from espnet_ext.recipe import lock
from espnet_ext.recipe.experiment import Experiment
from espnet_ext.recipe.jobs import Jobs, log_of
from espnet_ext.recipe.turn import EXPERIMENTS

PREPARE = 'mkdir -p "$1/train"; echo "a b" >"$1/train/text"; echo ran >>prepared\n'
# Stage 8: it begins, waits for a file that lets it go on, and ends.
STAGE = """
import time
from pathlib import Path
from espnet_ext.recipe.stages import Plan

def plan(ctx):
    return Plan(needs=[Path("data/train/text")], makes=[ctx.exp / "out"])

def run(ctx, plan):
    name = ctx.recipe.name
    tell(f"begin {name}")
    while not (Path("go").exists() or Path(f"go_{name}").exists()):
        time.sleep(0.02)
    if name == "bad":
        raise ValueError("this is bad")
    (ctx.exp / "out").write_text(name)
    tell(f"end {name}")

def tell(line):
    with open("events", "a") as f:
        f.write(line + "\\n")
"""


@pytest.fixture
def toy(folder):
    """Return a function that starts a run of the toy recipe."""
    data = {"train": "train", "valid": "train", "test": [], "files": ["text"]}
    folder.recipe(data=data, decode={"code": "toy_stage"})
    folder.write("local/data.sh", PREPARE)
    folder.write("toy_stage.py", STAGE)
    started = []

    def start(name, *options):
        argv = [sys.executable, "-m", "espnet_ext.recipe", "--name", name, *options]
        run = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )  # fmt: skip
        started.append(run)
        return run

    yield start
    for run in started:
        run.kill()
        run.communicate()


def events():
    return Path("events").read_text().splitlines() if Path("events").exists() else []


def until(happened, what):
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end, f"not within a minute: {what}"
        time.sleep(0.05)


def ended(run):
    out, _ = run.communicate(timeout=60)
    return run.returncode, out


def go(name=""):
    Path(f"go_{name}" if name else "go").touch()


def test_two_experiments_run_at_the_same_time_and_one_of_a_name(toy):
    first = toy("a")
    until(lambda: events() == ["begin a"], "a begins")
    second = toy("b")
    until(lambda: events() == ["begin a", "begin b"], "b begins while a is at work")
    code, out = ended(toy("b"))
    assert code == 3
    assert "another run is at work on experiment 'b'" in out
    assert f"process {second.pid} " in out and "--wait waits" in out
    waits = toy("a", "--wait")
    assert any("waiting: another run is at work on experiment 'a'" in x for x in waits.stdout)
    go("b")
    assert ended(second)[0] == 0
    assert first.poll() is None and waits.poll() is None
    go("a")
    assert ended(first)[0] == 0
    code, out = ended(waits)
    assert code == 0 and "done: 0 stage(s)" in out
    assert Path("prepared").read_text() == "ran\n"
    assert [Path(f"exp/{x}/out").read_text() for x in "ab"] == ["a", "b"]


def test_a_shared_stage_does_not_run_while_others_read_what_it_makes(toy):
    first = toy("a")
    until(events, "a begins")
    force = ("--force", "--stop-stage", "1")
    code, out = ended(toy("b", *force))
    assert code == 3
    assert "on experiment 'a', which reads what stage 1/10 prepare would change" in out
    assert Path("prepared").read_text() == "ran\n"
    waits = toy("b", *force, "--wait")
    assert any("waiting: another run" in x for x in waits.stdout)
    # Who waits there has the folder's lock: nobody else begins, so that it will have its turn.
    code, out = ended(toy("c"))
    assert code == 3 and "another run is at work in this folder" in out
    go()
    assert ended(first)[0] == 0
    assert ended(waits)[0] == 0
    assert Path("prepared").read_text() == "ran\nran\n"


def test_what_others_write_at_the_moment_is_not_taken_for_half_written(toy):
    first, second = toy("a"), None
    until(events, "a begins")
    second = toy("b")
    until(lambda: len(events()) == 2, "b begins")
    left = [Path("exp/a/log/.x.tmp1"), Path("exp/b/.y.tmp2"), Path("results/.z.tmp3")]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    first.kill()
    ended(first)
    go("a")
    code, out = ended(toy("a"))
    assert code == 0
    assert f"taking over the lock of process {first.pid}" in out
    assert [path.exists() for path in left] == [False, True, True]
    second.kill()
    ended(second)
    go("b")
    assert ended(toy("b"))[0] == 0
    assert [path.exists() for path in left] == [False, False, False]


def experiments(*names, after=(), searches=()):
    return [
        Experiment(x, x, 1, (), "decode", after=after if x == names[-1] else (), searches=searches)
        for x in names
    ]


def test_jobs_run_in_order_and_so_many_at_a_time(toy, capfd):
    jobs = Jobs(experiments("a", "b", "c", "d", after=("a", "b")), [], "toy", 2)
    codes = []
    series = threading.Thread(target=lambda: codes.append(jobs.run()))
    series.start()
    until(lambda: len(events()) == 2, "a and b begin")
    go("a")
    until(lambda: len(events()) == 4, "a ends, c begins")
    go("c")
    until(lambda: len(events()) == 5, "c ends")  # d waits for b
    go("b")
    until(lambda: len(events()) == 7, "b ends, d begins")
    go("d")
    series.join(60)
    assert codes == [0]
    seen = events()
    assert seen.index("begin d") > max(seen.index("end b"), seen.index("end c"))
    assert seen.index("begin c") > min(map(seen.index, ("end a", "end b")))
    assert sorted(seen) == sorted(f"{what} {x}" for x in "abcd" for what in ("begin", "end"))
    assert Path("prepared").read_text() == "ran\n"
    out = capfd.readouterr().out
    assert "toy: run 4 of 4, d: begins; exp/d/log/run.log" in out
    assert "toy: run 1 of 4, a: done in" in out
    assert "stage 8/10 decode: done" in Path("exp/a/log/run.log").read_text()


def test_a_failure_is_told_and_none_begins_after_it(toy, capfd):
    go("bad")
    runs = experiments("bad", "b", "c", searches=((("title", "again"),),))
    jobs = Jobs(runs, [], "toy", 2)
    tell = jobs._say

    def said(number, run, what):
        tell(number, run, what)
        if what.startswith("failed"):
            go()

    jobs._say = said
    assert jobs.run() == 1
    out, err = capfd.readouterr()
    assert "run 1 of 3, bad: failed: exit code 1" in out
    assert "none begins any more; still at work: b" in out
    assert "this is bad" in err and "run:   ./run.sh --name bad" in err
    assert events()[-1] == "end b" and not Path("exp/c").exists()
    # Its second command, a search, ran as well.
    assert log_of(runs[1]).read_text().count("experiment 'b'") == 2


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_jobs_end_with_their_series(toy, signum):
    code = (
        "from espnet_ext.recipe.experiment import Experiment as E\n"
        "from espnet_ext.recipe.jobs import Jobs\n"
        "runs = [E(x, x, 1, (), 'decode') for x in 'ab']\n"
        "raise SystemExit(Jobs(runs, [], 'toy', 2).run())\n"
    )
    series = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: len(events()) == 2, "both begin")
        series.send_signal(signum)
        _, err = series.communicate(timeout=30)
        files = [EXPERIMENTS / f"{x}.lock" for x in "ab"]
        if signum != signal.SIGKILL:  # it has waited for them
            assert all(map(lock.is_free, files))
            assert "start again to go on from here" in err and series.returncode == 128 + signum
        until(lambda: all(map(lock.is_free, files)), "the runs end")
        assert not any(e.startswith("end") for e in events())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(series.pid, signal.SIGKILL)
