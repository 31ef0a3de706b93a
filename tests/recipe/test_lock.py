# SPDX-License-Identifier: Apache-2.0
"""Two runs in one folder: the second stops; one that was killed does not block."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from espnet_ext.errors import SetupError
from espnet_ext.recipe import lock, runner

LOCK = Path(".stages/lock")
HOLD = """
from pathlib import Path
from espnet_ext.recipe.lock import hold
with hold(Path(".stages/lock"), print):
    print("held", flush=True)
    input()
"""


@pytest.fixture
def holder(folder):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_second_run_stops_and_names_the_first(holder, capfd):
    assert runner.main(["--stage", "prepare", "--stop-stage", "prepare"]) == 3
    err = capfd.readouterr().err
    assert "another run is at work" in err
    assert f"process {holder.pid} " in err
    assert "fix:" in err


def test_a_killed_run_is_taken_over(holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    said = []
    with lock.hold(LOCK, said.append):
        assert said == [f"taking over the lock of process {holder.pid}, which no longer runs"]
        assert f'"pid": {os.getpid()}' in LOCK.read_text()
        with pytest.raises(SetupError, match=str(os.getpid())) as e, lock.hold(LOCK, said.append):
            pass
        assert "--wait" not in e.value.how  # not every command that holds a lock has it
    with lock.hold(LOCK, said.append):
        assert len(said) == 1  # a run that ended well leaves nothing to take over


def test_who_only_looks_whether_it_is_free_is_not_taken_for_a_run(folder):
    """A run that begins at the same moment must not end with 'process ? on ?'."""
    LOCK.parent.mkdir()
    LOCK.touch()
    looks = os.open(LOCK, os.O_RDWR)
    fcntl.flock(looks, fcntl.LOCK_EX)
    threading.Timer(0.2, os.close, [looks]).start()
    said = []
    with lock.hold(LOCK, said.append):
        assert said == []


def test_an_error_inside_frees_the_lock_and_garbage_does_not_stop(folder):
    LOCK.parent.mkdir()
    LOCK.write_text("{half")
    with pytest.raises(ZeroDivisionError), lock.hold(LOCK, print):
        raise ZeroDivisionError
    said = []
    with lock.hold(LOCK, said.append):
        assert said == []


def test_a_forked_child_ends_with_its_killed_run_and_frees_the_lock(tmp_path):
    code = (
        "import os, sys, time; from pathlib import Path; from espnet_ext.recipe import lock\n"
        "import espnet_ext.recipe.processes\n"
        "with lock.hold(Path(sys.argv[1]), print):\n"
        "    ours, theirs = os.pipe()\n"
        "    if os.fork() == 0: os.write(theirs, b'x'); time.sleep(20); os._exit(0)\n"
        "    os.read(ours, 1); print('held', flush=True); os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout.readline() == b"held\n"
    assert process.wait() == -9
    start = time.monotonic()
    with lock.hold(tmp_path / "lock", print) as killed:
        assert killed
    assert time.monotonic() - start < 10  # the child would have held it for 20


def test_processes_of_a_killed_run_that_do_not_end_are_named(tmp_path, monkeypatch):
    path = tmp_path / "lock"
    path.write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname()}))
    with open(path) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        left = subprocess.Popen(["sleep", "30"], pass_fds=[f.fileno()])
    monkeypatch.setattr(lock, "LEFT_S", 0.2)
    said = []
    says = f"still at work: {left.pid}(.|\n)*kill {left.pid}"
    with pytest.raises(SetupError, match=says), lock.hold(path, said.append):
        pass
    assert said == [f"waiting for what the killed run {2**22 + 1} started: process {left.pid}"]
    left.kill()
    left.wait()
