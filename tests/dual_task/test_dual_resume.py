# SPDX-License-Identifier: Apache-2.0
"""A training killed by -9 goes on to the same bits: both optimisers, NewBob, the batches drawn."""

import signal

import pytest
from children import assert_same_end, equal, in_child, killed_in

from espnet_ext.espnet import checkpoint, fastimport, train

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


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed(case, dual_argv, tmp_path):
    whole, ours = tmp_path / "whole", tmp_path / "ours"
    assert in_child(_train, dual_argv, whole, case) == 0
    for epoch in (1, 3):  # in the first epoch, then in the third
        assert in_child(killed_in, epoch, _train, dual_argv, ours, case) == -signal.SIGKILL
        assert not (ours / "phase.json").exists()
    assert in_child(_train, dual_argv, ours, case) == 0
    state = assert_same_end(ours, whole)
    assert equal(*(checkpoint.load(p / "valid.loss.best.pth") for p in (ours, whole)))
    rates = [o["param_groups"][0]["lr"] for o in state["optimizers"]]
    assert rates[0] < 0.003 and rates[1] < 1.0  # annealed, and the state tells of which value
    assert all(s["previous"] is not None for s in state["schedulers"])
