# SPDX-License-Identifier: Apache-2.0
"""Processes that start with their imports done, forked from a server that did them once.

Importing torch and ESPnet takes longer than most tests need for their work. A process of here is
like a new one otherwise: a session, an environment and a folder of its own, no state of pytest.
"""

import atexit
import functools
import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import TextIO

# What a training comes to import in the end; methods import their own.
TRAINING = """
from espnet_ext.espnet import compat, fastimport
fastimport.enable()
compat.provide_editdistance()
import contextlib, importlib, espnet2.tasks.asr
for name, first in (  # they may wait for their first use; some are extras
    ("librosa", "filters"), ("librosa.filters", "mel"), ("scipy.signal", "lfilter"),
    ("torch.utils.tensorboard", "SummaryWriter"), ("rapidfuzz.fuzz", "ratio"),
    ("matplotlib.figure", "Figure"), ("matplotlib.backends.backend_agg", "FigureCanvasAgg"),
):
    with contextlib.suppress(ImportError):
        getattr(importlib.import_module(name), first)
"""
RECIPE = (
    TRAINING
    + """
import espnet_ext.recipe.runner, espnet_ext.recipe.preflight
with contextlib.suppress(ImportError):  # an extra
    from transformers import AutoModelForMaskedLM, AutoTokenizer, RobertaForMaskedLM
    from transformers import RobertaTokenizerFast
"""
)
# Stock ESPnet where this package cannot be imported. Its import alone takes a quarter of a minute.
STOCK = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "espnet_ext":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Block())
import soundfile, espnet2.bin.asr_inference, espnet2.bin.pack
"""


@functools.cache
def have(imports: str) -> None:
    """Make imports once, for all processes that are forked from here."""
    exec(imports, {})
    gc.collect()
    gc.freeze()  # a collection in each process would copy the memory of all these modules


def run_stock(code: str, cwd: Path, env: dict | None = None) -> str:
    """Run Python code in a process that cannot import this package; return what it printed."""
    code += '\nimport sys\nassert "espnet_ext" not in sys.modules\nprint("done")\n'
    said, _ = Warm(STOCK, code, cwd, env or {**os.environ}).communicate(timeout=600)
    assert said.endswith("done\n"), said
    return said


def as_module(name: str, argv: list[str]) -> str:
    """Return the code that does what ``python -m name argv`` does."""
    return f"""
import runpy, sys
sys.argv = {[name, *argv]!r}
runpy.run_module({name!r}, run_name="__main__", alter_sys=True)
"""


class Warm:
    """A running process, with what tests use of ``subprocess.Popen``."""

    def __init__(self, imports: str, code: str, cwd: Path, env: dict[str, str]):
        out, child_out = os.pipe()
        status, child_status = os.pipe()
        request = json.dumps({"code": code, "cwd": str(cwd), "env": env}).encode()
        socket.send_fds(_server(imports), [request], [child_out, child_status])
        os.close(child_out)
        os.close(child_status)
        self.stdout, self._status = (open(fd, encoding="utf-8") for fd in (out, status))  # noqa: SIM115
        self.pid, self.returncode = int(self._status.readline()), None

    def wait(self) -> int:
        """Wait for the end; return the exit code, or the negative signal."""
        if self.returncode is None:
            with self._status:
                self.returncode = os.waitstatus_to_exitcode(int(self._status.readline()))
        return self.returncode

    def communicate(self, timeout: float) -> tuple[str, None]:
        """Read to the end and wait; a process that hangs is killed."""
        timer = threading.Timer(timeout, os.killpg, (self.pid, signal.SIGKILL))
        timer.start()
        with self.stdout:
            said = self.stdout.read()
        self.wait()
        timer.cancel()
        timer.join()  # a fork wants no other threads
        return said, None


@functools.cache
def _server(imports: str) -> socket.socket:
    """Start the server of this test process that has made ``imports``."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import warm; "
    code += f"del sys.path[0]; warm.serve({theirs.fileno()}, {imports!r})"
    process = subprocess.Popen(
        [sys.executable, "-c", code], pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL
    )
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)  # the other way round, so first
    return ours


def serve(number: int, imports: str) -> None:
    """Fork a process for each request, until nobody can ask any more."""
    have(imports)
    del sys.modules["warm"]
    signal.signal(signal.SIGCHLD, _reap)
    with socket.socket(fileno=number) as requests:
        while (got := socket.recv_fds(requests, 1 << 20, 2))[0]:
            if os.fork() == 0:
                requests.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _start(json.loads(got[0]), *got[1])
            for fd in got[1]:
                os.close(fd)
    os._exit(0)


def _reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _start(request: dict, out: int, status: int) -> None:
    """Run a request in a process of its own, which may be killed, and tell how it ended."""
    if (pid := os.fork()) == 0:
        os.setsid()
        os.write(status, f"{os.getpid()}\n".encode())
        os.close(status)
        os._exit(_run(request, out))
    os.close(out)
    os.write(status, f"{os.waitpid(pid, 0)[1]}\n".encode())
    os._exit(0)


def _run(request: dict, out: int) -> int:
    """Do what an interpreter does from its first line to its exit code."""
    null = os.open(os.devnull, os.O_RDONLY)
    for fd, name in ((null, 0), (out, 1), (out, 2)):
        os.dup2(fd, name)
    os.close(null)
    os.close(out)
    sys.stdout, sys.stderr = _text(1, "strict", buffering=-1), _text(2, "backslashreplace", 1)
    sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
    os.chdir(request["cwd"])
    sys.path[0] = request["cwd"]
    os.environ.clear()
    os.environ.update(request["env"])
    random.seed()
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    code = 0
    try:
        exec(request["code"], {"__name__": "__main__"})
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else int(e.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _text(fd: int, errors: str, buffering: int) -> TextIO:
    return open(fd, "w", buffering, encoding="utf-8", errors=errors, closefd=False)
