# SPDX-License-Identifier: Apache-2.0
"""Algorithm 1 and its baselines as lists of updates."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.bl_just.options import CHOICES, resolve
from espnet_ext.bl_just.schedule import Counts, gamma_ramp, make_schedule
from espnet_ext.errors import UsageError

STEPS = {"explore_steps": 3, "joint_steps": 4, "final_steps": 6}


def plan(labelled=5, unlabelled=7, **options):
    return make_schedule(resolve({"epochs": 3, **options}), labelled, unlabelled)


def told(schedule):
    """One letter an update, an epoch a word; capitals where the lower level is computed, too."""
    letters = {"explore": "e", "joint": "j", "label": "l", "pseudo": "p", "final": "f"}
    words = []
    for epoch in range(1, len(schedule.epochs) + 1):
        steps = schedule.steps(epoch)
        words.append("".join(
            letters[s.kind].upper() if s.labelled and s.unlabelled else letters[s.kind]
            for s in steps
        ))  # fmt: skip
    return " ".join(words)


def test_the_penalty_starts_at_zero_and_does_not_reach_its_bound():
    """Self-test 4: an off-by-one in the epoch moves all values."""
    conf = resolve({"epochs": 5, "gamma_max": 1.0})
    assert [gamma_ramp(conf, k)[0] for k in range(1, 6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    conf = resolve({"epochs": 200, "gamma_ramp": "reference"})
    assert gamma_ramp(conf, 200)[0] == pytest.approx(0.398)
    conf = resolve({"epochs": 600, "gamma_ramp": "reference"})
    assert gamma_ramp(conf, 600)[0] == 1.0
    conf = resolve({"epochs": 5, "gamma_ramp": "constant", "gamma_max": 0.3})
    assert {gamma_ramp(conf, k)[0] for k in range(1, 6)} == {0.3}


@pytest.mark.parametrize("unit", ["epoch", "step"])
def test_gamma_inside_an_epoch(unit):
    schedule = plan(**STEPS, gamma_max=1.2, gamma_unit=unit)
    seen = [[s.gamma for s in schedule.steps(k) if s.kind == "joint"] for k in (1, 2, 3)]
    if unit == "epoch":
        assert seen == [[0.0] * 4, pytest.approx([0.4] * 4), pytest.approx([0.8] * 4)]
    else:
        assert list(itertools.chain(*seen)) == pytest.approx([0.1 * i for i in range(12)])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "eeejjjj eeeJJJJ eeeJJJJ ffff ff"),
        ({"explore_steps": 0}, "jjjj JJJJ JJJJ ffff ff"),
        ({"final_steps": 0}, "eeejjjj eeeJJJJ eeeJJJJ"),
        ({"explore_when": "first"}, "eeejjjj JJJJ JJJJ ffff ff"),
        ({"gamma_max": 0.0}, "eeejjjj eeejjjj eeejjjj ffff ff"),
        ({"gamma_ramp": "constant"}, "eeeJJJJ eeeJJJJ eeeJJJJ ffff ff"),
        ({"gamma_unit": "step"}, "eeejJJJ eeeJJJJ eeeJJJJ ffff ff"),
        # 18 labelled and 17 unlabelled ones, as in the first row
        ({"schedule": "supervised"}, "llll llll llll ffff ff"),
        ({"schedule": "pt_ft"}, "eeeeeee eeeeeee eee llll llll llll ffff ff"),
        ({"schedule": "weighted_sum"}, "JJJJ JJJJ JJJJ JJJJ JJ"),
        ({"schedule": "pseudo_label"}, "llll ll PPPP PP ffff ff"),
        # 35 passes, as in the first row
        ({"schedule": "supervised", "budget": "passes"}, "llll " * 7 + "l ffff ff"),
        ({"schedule": "weighted_sum", "budget": "passes"}, "JJJJ JJJJ JJJJ JJJJ J"),
    ],
)
def test_rows_of_the_table_of_schedules(options, expected):
    assert told(plan(**{**STEPS, **options})) == expected


def test_steps_that_are_not_given_are_passes_over_the_data():
    first, second, third, *final = told(plan(labelled=2, unlabelled=5, final_steps=None)).split()
    assert (first, second, third) == ("eeeeejj", "eeeeeJJ", "eeeeeJJ")
    assert "".join(final) == "f" * 10
    assert told(plan(labelled=2, unlabelled=5, upper_level="unsupervised")).startswith("eejj")


def test_reversed_levels_explore_with_labelled_batches():
    schedule = plan(**STEPS, upper_level="unsupervised")
    assert schedule.total == Counts(labelled=3 * 3 + 2 * 4 + 6, unlabelled=3 * 4)
    explore = next(schedule.steps(1))
    assert explore.labelled and not explore.unlabelled


schedules = st.fixed_dictionaries({
    "schedule": st.sampled_from(CHOICES["schedule"]),
    "epochs": st.integers(1, 6),
    "explore_steps": st.none() | st.integers(0, 5),
    "joint_steps": st.none() | st.integers(1, 5),
    "final_steps": st.none() | st.integers(0, 9),
    "explore_when": st.sampled_from(CHOICES["explore_when"]),
    "gamma_ramp": st.sampled_from(CHOICES["gamma_ramp"]),
    "gamma_unit": st.sampled_from(CHOICES["gamma_unit"]),
    "gamma_max": st.sampled_from([0.1, 0.4]),
    "budget": st.sampled_from(CHOICES["budget"]),
})  # fmt: skip


@given(schedules, st.integers(1, 6), st.integers(1, 6))
def test_counts_are_those_of_the_steps_and_baselines_keep_to_the_budget(options, labelled, other):
    conf = resolve(options)
    schedule = make_schedule(conf, labelled, other)
    for epoch in range(1, len(schedule.epochs) + 1):
        steps = list(schedule.steps(epoch))
        assert steps and schedule.counts(epoch) == Counts(
            sum(s.labelled for s in steps), sum(s.unlabelled for s in steps)
        )
    steps = [list(schedule.steps(e)) for e in range(1, len(schedule.epochs) + 1)]
    assert sum(schedule.updates(o) for o in range(3)) == len(list(itertools.chain(*steps)))
    reference = make_schedule(resolve({**options, "schedule": "bljust"}), labelled, other).total
    total = schedule.total
    if conf.schedule == "pt_ft":
        assert total == reference
    elif conf.budget == "passes":
        assert abs(total.passes - reference.passes) <= 1
    elif conf.schedule != "bljust":
        assert total.labelled == reference.labelled


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"gamma_max": -1}, "gamma_max"),
        ({"unsup_loss": "cpcc"}, "'cpc'"),
        ({"schedul": "bljust"}, "'schedule'"),
        ({"schedule": "weighted_sum", "gamma_max": 0}, "supervised"),
        ({"schedule": "pt_ft", "upper_level": "unsupervised"}, "upper_level"),
        ({"epochs": 0}, "epochs"),
        ({"epochs": 2.5}, "epochs"),
        ({"joint_steps": 0}, "joint_steps"),
        ({"cpc": {"contxt_s": 1}}, "'context_s'"),
        ({"best_rq": {"codes": 1}}, "codes"),
        ({"explore_ratio": 10, "explore_lr": 0.01}, "given twice"),
    ],
)
def test_impossible_options_are_named(section, message):
    with pytest.raises(UsageError, match=message):
        resolve(section)
