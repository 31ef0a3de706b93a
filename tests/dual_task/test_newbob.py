# SPDX-License-Identifier: Apache-2.0
"""NewBob against tables by hand, and across a resume."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from espnet_ext.dual_task.newbob import NewBob
from espnet_ext.errors import UsageError


def rates_of(newbob):
    """Return the rate of each parameter group."""
    return [group["lr"] for group in newbob.optimizer.param_groups]


def rates(values, patience=0, factor=0.5, threshold=0.0025):
    """Return the rate after each epoch, from 1."""
    optimiser = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    newbob = NewBob(optimiser, factor, threshold, patience)
    out = []
    for value in values:
        fell = newbob.step(value)
        out.append(rates_of(newbob)[0])
        assert fell == (out[-1] < ([1.0, *out])[-2])
    return out


@pytest.mark.parametrize(
    "values, patience, expected",
    [
        # 1 % better; a quarter of a per cent exactly is enough; 0.2 % is not; worse.
        ([100, 99, 98.7525, 98.55, 99], 0, [1, 1, 1, 0.5, 0.25]),
        # Against the epoch before, not the best: 15 after 20 is progress although 10 was better.
        ([10, 20, 15, 12, 12], 0, [1, 0.5, 0.5, 0.5, 0.25]),
        # Every second bad epoch counts, good ones between them or not.
        ([10, 10, 5, 5, 5, 5], 1, [1, 1, 1, 0.5, 0.5, 0.25]),
        # Every third.
        ([4, 4, 4, 4, 4, 4, 4], 2, [1, 1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([1, math.nan, 0.9, math.inf, 0.5], 0, [1, 0.5, 0.5, 0.25, 0.25]),
        ([0, 0, 1, 0.5], 0, [1, 0.5, 0.25, 0.25]),
        ([-1, -2, -1], 0, [1, 1, 0.5]),  # a smaller loss is better below 0, too
    ],
)
def test_tables_by_hand(values, patience, expected):
    assert rates(values, patience) == expected


def test_all_groups_of_its_own_optimiser_fall():
    body, head = nn.Linear(1, 1), nn.Linear(1, 1)
    first = torch.optim.Adam([{"params": [body.weight]}, {"params": [body.bias], "lr": 3e-4}], 1e-4)
    second = torch.optim.Adadelta(head.parameters(), lr=1.0, rho=0.95, eps=1e-8)
    both = [NewBob(first, 0.9), NewBob(second, 0.8)]
    for value in (2.0, 2.0, 1.0):
        for newbob in both:
            newbob.step(value)
    assert rates_of(both[0]) == pytest.approx([0.9e-4, 2.7e-4])
    assert rates_of(both[1]) == pytest.approx([0.8])


@given(
    st.lists(st.sampled_from([1.0, 0.999, 0.9, 0.5, 2.0]), min_size=2, max_size=12),
    st.integers(0, 3),
    st.data(),
)
def test_a_resumed_training_has_the_rates_of_an_uninterrupted_one(values, patience, data):
    cut = data.draw(st.integers(1, len(values) - 1))
    parameters = list(nn.Linear(1, 1).parameters())

    def new():
        optimiser = torch.optim.SGD(parameters, lr=1.0)
        return optimiser, NewBob(optimiser, 0.5, patience=patience)

    optimiser, newbob = new()
    for value in values[:cut]:
        newbob.step(value)
    states = optimiser.state_dict(), newbob.state_dict()
    optimiser, newbob = new()
    optimiser.load_state_dict(states[0])
    newbob.load_state_dict(states[1])
    for value in values[cut:]:
        newbob.step(value)
    assert rates_of(newbob) == rates(values, patience)[-1:]


WRONG = [
    ("factor", 0),
    ("factor", 1.1),
    ("factor", math.nan),
    ("threshold", math.nan),
    ("patience", -1),
    ("patience", 0.5),
]


@pytest.mark.parametrize("key, value", WRONG)
def test_impossible_values(key, value):
    with pytest.raises(UsageError, match=key):
        NewBob(torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0), **{key: value})
