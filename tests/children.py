# SPDX-License-Identifier: Apache-2.0
"""Trainings in a process of their own, which may be killed, and what they leave compared."""

import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from warm import TRAINING, have


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
