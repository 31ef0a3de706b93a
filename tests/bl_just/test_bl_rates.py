# SPDX-License-Identifier: Apache-2.0
"""Learning rates of the phases: rho, alpha, tau, and where the last phase starts."""

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.espnet import checkpoint, train
from espnet_ext.progress import progress_log

TASK = "espnet_ext.bl_just.task:BLJustTask"
FALLING = ["--scheduler", "tristagelr", "--scheduler_conf", "final_lr_scale=0.03"]
CYCLE = ["--scheduler3", "onecyclelr", "--scheduler3_conf", "max_lr=0.001"]


@pytest.fixture
def lines(monkeypatch):
    told = []
    monkeypatch.setattr(progress_log, "info", lambda text, *_: told.append(text))
    return told


def run(argv, out, *conf, more=()):
    options = [x for option in conf for x in ("--bl_just", option)]
    train.run(TASK, [*argv, *options, *more, "--output_dir", str(out)])
    return checkpoint.load(out / "checkpoint.pth")["optimizers"]


@pytest.fixture
def falling(bl_argv):
    """Options with a rate that falls from 0.01 to 0.0003."""
    pairs = zip(bl_argv[::2], bl_argv[1::2], strict=True)
    return [x for pair in pairs if not pair[1].startswith("warmup_steps=") for x in pair] + FALLING


def test_rates_are_those_of_the_phases(bl_argv, tmp_path):
    more = ["--optim", "sgd", "--optim_conf", "lr=0.5", "--scheduler", "none"]
    for name, conf, rates in (
        ("a", [], [0.5, 0.005, 0.05]),
        ("b", ["explore_lr=null", "explore_ratio=2", "final_lr=0.2"], [0.5, 1.0, 0.2]),
    ):
        conf = [*conf, "epochs=1", "joint_steps=1", "explore_steps=1"]
        found = run(bl_argv, tmp_path / name, *conf, more=more)
        assert [{g["lr"] for g in x["param_groups"]} for x in found] == [{r} for r in rates]


@pytest.mark.parametrize("schedule", ["bljust", "pt_ft"])
def test_the_last_phase_starts_where_the_labelled_updates_ended(falling, tmp_path, lines, schedule):
    conf = (f"schedule={schedule}", "epochs=1", "explore_steps=1")
    rates = [x["param_groups"][0]["lr"] for x in run(falling, tmp_path / "exp", *conf)]
    assert rates[2] == pytest.approx(rates[0]) == pytest.approx(0.0003)
    told = "phase end at a learning rate of 0.0003, the last phase starts at 0.0003"
    assert sum(told in line for line in lines) == 1


@pytest.mark.parametrize(
    ("conf", "more"),
    [
        (["schedule=bljust", "final_lr=0.001"], []),
        (["schedule=pt_ft", "final_lr=0.001"], []),
        (["schedule=supervised"], CYCLE),
    ],
)
def test_a_last_phase_that_is_faster_than_the_one_before_it(falling, tmp_path, lines, conf, more):
    with pytest.raises(UsageError) as caught:
        run(falling, tmp_path / "exp", *conf, more=more)
    for part in ("rate of 0.0003", "would have", "bl_just.final_lr", "up to 0.0003"):
        assert part in str(caught.value)
    assert not any(line.startswith("epoch ") for line in lines)
