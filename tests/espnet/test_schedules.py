# SPDX-License-Identifier: Apache-2.0
"""More epochs later: the rates of a training that had them from the start, or a clear word."""

import argparse
import logging

import pytest
import torch
from espnet2.tasks.abs_task import scheduler_classes

from espnet_ext.errors import UsageError
from espnet_ext.espnet import checkpoint, schedules, train

KINDS = {
    "tristagelr": {"max_steps": None},
    "onecyclelr": {"total_steps": None, "max_lr": 0.1},
    "cosineannealinglr": {"T_max": None},
    "cosineannealingwarmuprestarts": {"first_cycle_steps": None, "max_lr": 0.1, "min_lr": 1e-4},
    "exponentialdecaywarmup": {"total_steps": None, "max_lr": 0.1, "min_lr": 1e-3,
                               "warmup_steps": 3},
}  # fmt: skip
WITHOUT_END = {"warmuplr": {"warmup_steps": 4}, "steplr": {"step_size": 3}, "noamlr": {},
               "cosineannealingwarmrestarts": {"T_0": 5}}  # fmt: skip


def make(kind, length=None):
    conf = {k: length if v is None else v for k, v in {**KINDS, **WITHOUT_END}[kind].items()}
    layer = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam([{"params": [layer.weight]}, {"params": [layer.bias]}], lr=0.1)
    return scheduler_classes[kind](optimizer, **conf), optimizer


def steps(pair, count):
    rates = []
    for _ in range(count):
        pair[1].step()
        pair[0].step()
        rates.append([(g["lr"], g["betas"]) for g in pair[1].param_groups])
    return rates


def resumed(kind, old, new, at):
    """A schedule of length ``new`` that reads the checkpoint of one of length ``old``."""
    before, after = make(kind, old), make(kind, new)
    steps(before, at)
    fresh = schedules.standing(*after)
    for there, here in zip(before, after, strict=True):
        here.load_state_dict(there.state_dict())
    return after, schedules.extend(*after, fresh)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [1, 9, 20])
def test_the_rates_are_those_of_a_longer_training(kind, at):
    pair, changed = resumed(kind, 20, 40, at)
    whole = make(kind, 40)
    expected = steps(whole, 40)[at:]
    assert changed and steps(pair, 40 - at) == expected


@pytest.mark.parametrize("kind", [*KINDS, *WITHOUT_END])
def test_the_same_length_is_left_bit_by_bit(kind):
    pair, changed = resumed(kind, 20, 20, 7)
    one_go = make(kind, 20)
    assert steps(pair, 5) == steps(one_go, 12)[7:] and not changed


def test_a_schedule_that_is_shorter_than_its_step_is_refused():
    with pytest.raises(UsageError, match="cannot be at step 20"):
        resumed("onecyclelr", 20, 10, 20)


def test_a_schedule_of_scores_and_another_rate_stay_as_they_are():
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.0)
    plateau = scheduler_classes["reducelronplateau"](optimizer)
    assert schedules.standing(plateau, optimizer) is None
    assert schedules.standing(None, optimizer) is None
    assert not schedules.extend(plateau, optimizer, None)
    pair = make("tristagelr", 20)
    fresh = schedules.standing(*pair)
    fresh.state["base_lrs"] = [9.0, 9.0]
    assert not schedules.extend(*pair, fresh)


def options(scheduler, **conf):
    return argparse.Namespace(scheduler=scheduler, scheduler_conf=conf, max_epoch=30)


@pytest.mark.parametrize("kind", KINDS)
def test_lengths_follow_from_the_training(kind):
    args = options(kind)
    schedules.set_lengths(args, 1, lambda: [300], say=True)
    wanted = 30 if kind == "cosineannealinglr" else 300
    assert args.scheduler_conf == {schedules.LENGTH_OF[kind]: wanted}


def test_what_has_no_end_or_a_length_is_left(caplog):
    for args in (options("warmuplr", warmup_steps=3), options(None), options("tristagelr",
                 max_steps=300), options("onecyclelr", epochs=30, steps_per_epoch=10)):  # fmt: skip
        before = dict(args.scheduler_conf)
        schedules.set_lengths(args, 1, lambda: [300], say=True)
        assert args.scheduler_conf == before and caplog.text == ""
    schedules.set_lengths(options("warmuplr"), 1, lambda: 1 / 0, say=True)  # not even counted


def test_an_end_before_that_of_the_training_is_told(caplog):
    args = options("tristagelr", max_steps=150)
    schedules.set_lengths(args, 1, lambda: [300], say=True)
    assert "at its end after 150 of 300 updates (scheduler_conf.max_steps)" in caplog.text
    assert "that is a new training" in caplog.text
    with pytest.raises(UsageError, match="150 of 300"):
        schedules.set_lengths(options("onecyclelr", total_steps=150), 1, lambda: [300], say=False)


def test_a_warm_up_that_outlasts_the_training_is_told(caplog):
    schedules.tell_rise(options("warmuplr", warmup_steps=2000), [150])
    assert "rises for 2,000 updates (scheduler_conf.warmup_steps)" in caplog.text
    assert "has only 150; usual is some tenth of them: 15" in caplog.text
    caplog.clear()
    schedules.tell_rise(options("warmuplr"), [150])  # ESPnet's default
    assert "rises for 25,000 updates" in caplog.text
    caplog.clear()
    for quiet in (options("warmuplr", warmup_steps=75), options(None), options("tristagelr"),
                  options("exponentialdecaywarmup", warmup_steps=3)):  # fmt: skip
        schedules.tell_rise(quiet, [150])
    schedules.tell_rise(options("warmuplr", warmup_steps=2000), [])  # the length is not known
    schedules.tell_rise(options("warmuplr", warmup_steps=2000), [0])  # nor used
    second = options(None)
    second.scheduler2, second.scheduler2_conf = "noamlr", {"warmup_steps": 80}
    assert caplog.text == ""
    schedules.tell_rise(second, [150, 150])
    assert "scheduler2_conf.warmup_steps" in caplog.text


def test_where_nothing_is_trained_any_length_will_do():
    args = options("onecyclelr", max_lr=1.0)
    schedules.stand_in(args, 1)
    assert args.scheduler_conf == {"max_lr": 1.0, "total_steps": schedules.STAND_IN}


def run(tiny_argv, out, epochs, *more):
    argv = [*tiny_argv, "--scheduler", "tristagelr", "--output_dir", str(out)]
    at = argv.index("--scheduler_conf")
    del argv[at : at + 2]
    train.run("asr", [*argv, "--max_epoch", str(epochs), *more])
    return checkpoint.load(out / checkpoint.CHECKPOINT)


def test_a_training_that_goes_on_ends_at_the_rate_of_a_whole_one(tiny_argv, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "espnet_ext.progress"):
        short = run(tiny_argv, tmp_path / "a", 2)
        longer = run(tiny_argv, tmp_path / "a", 4)
    assert "the learning rate goes on as in a training of 4 epochs" in caplog.text
    assert " in each of 2 epochs" in caplog.text and " in each of 4 epochs" in caplog.text
    whole = run(tiny_argv, tmp_path / "b", 4)
    assert longer["schedulers"] == whole["schedulers"]
    rate = [s["optimizers"][0]["param_groups"][0]["lr"] for s in (short, longer, whole)]
    assert rate[0] == pytest.approx(rate[1]) and rate[1] == rate[2]  # each at its end
    stats = longer["reporter"]["stats"]
    assert stats[3]["train"]["optim0_lr0"] > 3 * stats[2]["train"]["optim0_lr0"]


def test_an_equal_training_that_is_resumed_says_nothing_of_rates(tiny_argv, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "espnet_ext.progress"):
        first = run(tiny_argv, tmp_path / "a", 2)
        again = run(tiny_argv, tmp_path / "a", 2)
    assert "going on after epoch 2" in caplog.text and "the learning rate" not in caplog.text
    assert first["schedulers"] == again["schedulers"]


def test_more_models_than_were_kept_are_averaged_as_far_as_they_are_there(
    tiny_argv, tmp_path, caplog
):
    out = tmp_path / "exp"
    run(tiny_argv, out, 4, "--keep_nbest_models", "1")
    kept = {p.name for p in out.glob("*epoch.pth")}
    assert len(kept) < 4
    run(tiny_argv, out, 4, "--keep_nbest_models", "4")
    assert f"{len(kept)} models are there to be averaged, not 4" in caplog.text
    run(tiny_argv, out, 6, "--keep_nbest_models", "4")
    ave = (out / "valid.acc.ave.pth").resolve().name
    assert ave == f"valid.acc.ave_{min(4, len(kept) + 2)}best.pth"
    states = [checkpoint.load(p) for p in out.glob("*epoch.pth") if not p.is_symlink()]
    assert len(states) >= len(kept) + 2


@pytest.mark.parametrize("kind", [*KINDS, *WITHOUT_END])
def test_rates_are_foretold(kind):
    pair = make(kind, 12)
    seen = [pair[1].param_groups[0]["lr"]]
    seen += [groups[0][0] for groups in steps(pair, 11)]
    conf = {k: 12 if v is None else v for k, v in {**KINDS, **WITHOUT_END}[kind].items()}
    # Two of them step once an epoch.
    part, updates = (seen[4:], 99) if kind in ("steplr", "cosineannealinglr") else (seen, 12)
    found = schedules.rates(kind, conf, 0.1, updates, (4, 12))
    assert found == schedules.Rates(part[0], max(part), part[-1])


def test_rates_without_a_schedule_and_of_one_that_looks_at_scores():
    assert schedules.rates(None, {}, 0.1, 9, (0, 3)) == schedules.Rates(0.1, 0.1, 0.1)
    assert schedules.rates("ReduceLROnPlateau", {}, 0.1, 9, (0, 3)) is None
