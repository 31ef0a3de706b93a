# SPDX-License-Identifier: Apache-2.0
"""No process outlives its run, by whatever signal; the lock is held until the last has ended."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from espnet_ext.errors import EspnetExtError
from espnet_ext.recipe import lock, processes
from espnet_ext.recipe.executor import make_executor
from espnet_ext.recipe.options import Options

RUN = [sys.executable, "-m", "espnet_ext.recipe", "--stage", "1", "--stop-stage", "1"]
# A background process, one in a session of its own, and one that may ignore SIGTERM.
SCRIPT = """mkdir -p "$1/train"; echo "a b" >"$1/train/text"
[ -e go ] && exit
echo $PPID $$ >pids
sleep 60 & echo $! >>pids
setsid sleep 61 & echo $! >>pids
bash -c '[ -e stubborn ] && trap "" TERM; echo $$ >>pids; echo ready; while :; do sleep 0.1; done'
"""


@pytest.fixture
def recipe(folder):
    """A recipe of stage 1 whose script hangs until there is a file ``go``."""
    folder.recipe(data={"train": "train", "valid": "train", "test": [], "files": ["text"]})
    folder.write("local/data.sh", SCRIPT)
    started = []

    def start() -> subprocess.Popen:
        run = subprocess.Popen(
            RUN, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(run)
        return run

    yield start
    for run in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.communicate()


def ready(run: subprocess.Popen) -> list[int]:
    """Wait for the script; return its processes: guard, bash, three below it."""
    assert any("ready" in line for line in run.stdout)
    pids = [int(x) for x in Path("pids").read_text().split()]
    assert len(pids) == 5 and all(map(alive, pids))
    return pids


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def all_end(pids: list[int], within_s: float) -> bool:
    until = time.monotonic() + within_s
    while any(map(alive, pids)) and time.monotonic() < until:
        time.sleep(0.05)
    return not any(map(alive, pids))


def test_a_killed_run_takes_its_script_along_and_the_next_run_waits_for_it(recipe):
    Path("stubborn").touch()
    run = recipe()
    pids = ready(run)
    run.kill()
    run.wait()
    assert alive(pids[4])  # it ignores SIGTERM, so it has two seconds left
    Path("go").touch()
    after = recipe()
    assert any("running" in line for line in after.stdout)  # its stage begins
    assert not any(map(alive, pids))
    _, err = after.communicate(timeout=60)
    assert after.returncode == 0, err
    assert Path("data/train/text").read_text() == "a b\n"


@pytest.mark.parametrize("which", ["guard", "bash"])
def test_a_killed_child_fails_the_stage_and_leaves_nothing(recipe, which):
    run = recipe()
    pids = ready(run)
    os.kill(pids[0 if which == "guard" else 1], signal.SIGKILL)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "local/data.sh ended with exit code 137: SIGKILL (often: out of memory)" in err
    assert not any(map(alive, pids))


@pytest.mark.parametrize(
    ("signum", "code", "says"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
def test_a_signal_ends_all_in_one_line(recipe, signum, code, says):
    run = recipe()
    pids = ready(run)
    os.killpg(run.pid, signum)
    _, err = run.communicate(timeout=60)
    assert run.returncode == code
    assert err.strip() == f"{says}; start again to go on from here"
    assert not any(map(alive, pids))


POOL = """
import os, sys, time
from pathlib import Path
from espnet_ext.recipe import lock, runner, processes
from espnet_ext.recipe.executor import make_executor
from espnet_ext.recipe.options import Options
sys.path.insert(0, {here!r})
from test_processes import hang
def run(argv):
    with lock.hold(Path("lock"), print), make_executor(Options(nj=2)) as executor:
        list(executor.map(hang, range(8)))
runner._main = run
if __name__ == "__main__":
    sys.exit(runner.main([]))
"""


def hang(item: int) -> None:
    """Say who works, and work for long."""
    Path(f"worker{os.getpid()}").touch()
    time.sleep(60)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_of_a_pool_end_with_the_run(folder, signum):
    script = folder.write("pool.py", POOL.format(here=str(Path(__file__).parent)))
    run = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while len(found := list(Path().glob("worker*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    pids = [int(p.name.removeprefix("worker")) for p in found]
    assert len(pids) == 2
    for pid in pids:  # the lock is theirs as well
        assert lock._has_open(Path(f"/proc/{pid}/fd"), os.stat("lock"))
    if signum == signal.SIGINT:
        os.killpg(run.pid, signum)  # as a terminal does
    else:
        run.send_signal(signum)
    _, err = run.communicate(timeout=30)
    assert run.returncode == (-9 if signum == signal.SIGKILL else 128 + signum)
    assert len(err.splitlines()) <= 2 and "Traceback" not in err
    assert all_end(pids, 2)


LOADER = """
import sys, time
from pathlib import Path
from espnet_ext.recipe import lock, runner
def run(argv):
    import torch
    class Slow(torch.utils.data.Dataset):
        def __len__(self): return 100
        def __getitem__(self, i):
            (Path() / f"worker{torch.utils.data.get_worker_info().id}").touch()
            time.sleep(0.2)
            return i
    with lock.hold(Path("lock"), print):
        for _ in torch.utils.data.DataLoader(Slow(), num_workers=2): pass
runner._main = run
sys.exit(runner.main([]))
"""


def test_data_loading_processes_that_get_the_signal_too_say_nothing(folder):
    script = folder.write("loader.py", LOADER)
    run = subprocess.Popen(
        [sys.executable, str(script)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    until = time.monotonic() + 60
    while len(list(Path().glob("worker*"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(run.pid, signal.SIGTERM)
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err.strip()) == (
        143,
        "stopped by SIGTERM; start again to go on from here",
    )


def suicide(item: int) -> int:
    """End as the kernel does it when memory is short."""
    if item == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_killed_worker_is_told_as_such(folder):
    with (
        pytest.raises(EspnetExtError, match="a worker process was killed"),
        make_executor(Options(nj=2)) as executor,
    ):
        list(executor.map(suicide, range(40)))


def test_how_a_command_ended():
    assert processes.how_ended(3) == "exit code 3"
    assert processes.how_ended(143) == "exit code 143: SIGTERM"
    assert processes.how_ended(255) == "exit code 255"


def test_a_child_that_ends_after_the_signal_is_no_error():
    """SIG_DFL would do, but for a SIGCHLD that is pending by then: Python prints a traceback."""
    before = signal.signal(signal.SIGCHLD, lambda *_: pytest.fail("torch's handler"))
    try:
        with pytest.raises(processes.Stopped), processes.stop_on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
        assert callable(signal.getsignal(signal.SIGCHLD))
        os.kill(os.getpid(), signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_signal_whose_exception_python_drops_ends_the_run_at_the_next_chance():
    reached = []
    with pytest.raises(processes.Stopped, match="SIGTERM"), processes.stop_on_signals():
        with contextlib.suppress(KeyboardInterrupt):  # as what is raised in __del__
            signal.raise_signal(signal.SIGTERM)
        reached.append("on")
    assert reached == ["on"] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    with processes.stop_on_signals():
        processes.raise_if_swallowed()  # forgotten with the run that it ended
