# SPDX-License-Identifier: Apache-2.0
"""Trainings in a process of their own, which may be killed, and what they leave compared."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warm import RECIPE, TRAINING, Warm, as_module, have


def in_child(target: Callable, *args: Any, within_s: float = 600) -> int | None:
    """Run in a forked process, in which ESPnet is imported; return its exit code.

    ``within_s`` is for a process that hangs, which is ended; a busy machine must not reach it.
    """
    have(TRAINING)
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    process.join(within_s)
    if process.is_alive():
        process.kill()
        process.join()
        return None
    return process.exitcode


def train_in_two(task: str, argv: list[str]) -> str:
    """Train in two processes that meet as those of torchrun do; return what they tell a runner.

    They order sets differently, as any two processes: the first is forked from a server.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    meet = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    envs = [{**meet, "MASTER_PORT": port, "RANK": r, "LOCAL_RANK": r} for r in ("0", "1")]
    argv = [*argv, "--dist_backend", "gloo", "--multiprocessing_distributed", "false"]
    code = as_module("espnet_ext.espnet.train", [task, *argv])
    first = Warm(RECIPE, code, Path.cwd(), {**os.environ, **envs[0]})
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as out:
        second = in_child(_train, out.name, envs[1], task, argv)
        said, _ = first.communicate(timeout=300)
        assert (first.returncode, second) == (0, 0), said[-3000:]
        lines = [*said.splitlines(True), *out]
    return "".join(line for line in lines if line.startswith("espnet_ext.progress: "))


def _train(out: str, env: dict[str, str], task: str, argv: list[str]) -> None:
    from espnet_ext.espnet import train

    os.environ.update(env)
    sys.argv = ["train", task, *argv]
    with open(out, "w", encoding="utf-8", buffering=1) as sys.stdout:
        train._main()


def killed_in(epoch: int, target: Callable, *args: Any) -> None:
    """Train; die before the second batch of an epoch of this process. To be run in a child."""
    from espnet_ext.espnet import trainer

    class Killer(trainer.WaitTimer):
        epochs = 0

        def __iter__(self):
            Killer.epochs += 1
            for number, item in enumerate(super().__iter__()):
                if Killer.epochs == epoch and number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield item

    trainer.WaitTimer = Killer
    target(*args)


def equal(a: Any, b: Any) -> bool:
    """Compare nested containers; tensors bit by bit."""
    import torch

    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(x, b[k]) for k, x in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def assert_same_end(ours: Path, whole: Path) -> dict:
    """Check that two trainings left the same weights and states; return the state of ours."""
    from espnet_ext.espnet import checkpoint

    states = [checkpoint.load(out / checkpoint.CHECKPOINT) for out in (ours, whole)]
    for key in ("model", "optimizers", "schedulers"):
        assert equal(*(s[key] for s in states)), key
    return states[0]
