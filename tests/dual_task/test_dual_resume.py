# SPDX-License-Identifier: Apache-2.0
"""A training killed by -9 goes on to the same bits: both optimisers, NewBob, the batches drawn."""

import os
import signal

import pytest
import torch
from children import in_child

from espnet_ext.espnet import checkpoint, fastimport, train, trainer

fastimport.enable()

from espnet_ext.dual_task import task as _  # noqa: E402, F401

CASES = {
    "dual": ("DualTask", ("schedule=dual", "sort=ascending")),
    "slu": ("DualTask", ("schedule=slu",)),
    "samu": ("DualTask", ("schedule=samu",)),
    "specialise": ("SpecialiseTask", ("schedule=sequential",)),
    "pretrain": ("PretrainTask", ()),
    "rebalanced": ("DualTask", ("rebalance_alpha=0.05",)),
    "ewc": ("DualTask", ("schedule=sequential", "retain=ewc")),
    "distil": ("DualTask", ("schedule=sequential", "retain=distil")),
}


def _train(argv, out, case, *more):
    name, options = CASES[case]
    # A rate that spoils the loss, so that NewBob has something to do in both optimisers.
    given = [x for o in options for x in ("--dual_task", o)]
    given += ["--scheduler_conf", "threshold=0.5", "--scheduler2_conf", "threshold=0.5"]
    train.run(f"espnet_ext.dual_task.task:{name}", [*argv, *given, *more, "--output_dir", str(out)])


def _killed_in(argv, out, case, epoch):
    """Die before the second batch of an epoch of this process."""

    class Killer(trainer.WaitTimer):
        epochs = 0

        def __iter__(self):
            Killer.epochs += 1
            for number, item in enumerate(super().__iter__()):
                if Killer.epochs == epoch and number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield item

    trainer.WaitTimer = Killer
    _train(argv, out, case)


def _equal(a, b):
    """Compare nested containers; tensors bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_equal(x, b[k]) for k, x in a.items())
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed(case, dual_argv, tmp_path):
    whole, ours = tmp_path / "whole", tmp_path / "ours"
    assert in_child(_train, dual_argv, whole, case) == 0
    for epoch in (1, 3):  # in the first epoch, then in the third
        assert in_child(_killed_in, dual_argv, ours, case, epoch) == -signal.SIGKILL
        assert not (ours / "phase.json").exists()
    assert in_child(_train, dual_argv, ours, case) == 0
    states = [checkpoint.load(p / checkpoint.CHECKPOINT) for p in (ours, whole)]
    for key in ("model", "optimizers", "schedulers"):
        assert _equal(*(s[key] for s in states)), key
    assert _equal(*(checkpoint.load(p / "valid.loss.best.pth") for p in (ours, whole)))
    rates = [o["param_groups"][0]["lr"] for o in states[0]["optimizers"]]
    assert rates[0] < 0.003 and rates[1] < 1.0  # annealed, and the state tells of which value
    assert all(s["previous"] is not None for s in states[0]["schedulers"])
