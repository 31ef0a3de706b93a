# SPDX-License-Identifier: Apache-2.0
"""What training tells of its pace, by a clock that the test moves."""

import logging

import pytest

from espnet_ext.bl_just import options
from espnet_ext.bl_just.schedule import make_schedule
from espnet_ext.espnet import fastimport, pace

fastimport.enable()
from espnet_ext.bl_just.trainer import BLJustTrainer  # noqa: E402
from espnet_ext.espnet.trainer import ExtTrainer  # noqa: E402


@pytest.fixture
def clock(monkeypatch):
    """Seconds; ``clock[0]`` is the time."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])
    return now


def test_a_long_epoch_tells_after_1_2_4_minutes_and_a_short_one_nothing(clock, caplog):
    caplog.set_level(logging.INFO, "espnet_ext.progress")
    tell = pace.EpochPace("epoch 1/3", 1000)
    for batch in range(600):
        clock[0] = 0.5 * batch
        tell(batch)
    assert caplog.messages == [
        "epoch 1/3: 120 of 1,000 batches, 7 min 20 s left of it",
        "epoch 1/3: 240 of 1,000 batches, 6 min 20 s left of it",
        "epoch 1/3: 480 of 1,000 batches, 4 min 20 s left of it",
    ]


def test_a_batch_of_minutes_is_told_of_once(clock, caplog):
    caplog.set_level(logging.INFO, "espnet_ext.progress")
    tell = pace.EpochPace("epoch 1/3", 4)
    for batch, clock[0] in enumerate((0.0, 500.0, 501.0)):
        tell(batch)
    assert caplog.messages == ["epoch 1/3: 1 of 4 batches, 25 min 00 s left of it"]


@pytest.mark.parametrize(
    ("work", "first", "done", "left"),
    [([1] * 10, 1, 4, 60), ([1] * 10, 4, 4, 240), ([60, 1, 1], 1, 1, 40 / 30), ([1, 1], 1, 2, 0)],
)
def test_the_time_left_counts_the_length_of_epochs(work, first, done, left):
    assert pace.time_left(40.0, work, first, done) == pytest.approx(left)


def test_an_epoch_of_exploration_is_as_long_as_its_passes(monkeypatch):
    """Pre-training of 6,040 batches in epoch 1, then 40 an epoch: 12 hours left were told."""
    conf = options.resolve({"schedule": "pt_ft", "explore_when": "first", "explore_steps": 6000,
                            "epochs": 50, "final_steps": 400})  # fmt: skip
    schedule = make_schedule(conf, 40, 120)
    monkeypatch.setattr(BLJustTrainer, "schedule", schedule, raising=False)
    work = [BLJustTrainer._work_of(e + 1) for e in range(len(schedule.epochs))]
    assert work[0] == 6040 and work[-1] == 40 and sum(work) == schedule.total.passes
    assert pace.time_left(750.0, work, 1, 1) == pytest.approx(750 * sum(work[1:]) / 6040)
    assert ExtTrainer._work_of(1) == ExtTrainer._work_of(9)
