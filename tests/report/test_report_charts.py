# SPDX-License-Identifier: Apache-2.0
"""Axes hold every value, in order, with few ticks."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.report.charts import axis

VALUES = st.lists(st.floats(-1e6, 1e6).map(lambda x: float(f"{x:.5g}")), min_size=1, max_size=20)
SLACK = 1e-6


@given(VALUES)
def test_every_value_is_on_the_axis_in_order(values):
    ticks, place = axis(values, 200.0, 10.0)
    places = [place(v) for v in sorted(values)]
    assert all(10 - SLACK <= p <= 200 + SLACK for p in places)
    assert all(a >= b for a, b in pairwise(places))
    assert 2 <= len(ticks) <= 12
    assert all(a[0] > b[0] for a, b in pairwise(ticks))


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=20))
def test_counts_begin_at_zero_and_have_whole_ticks(values):
    ticks, place = axis(map(float, values), 50.0, 500.0, whole=True)
    assert ticks[0] == (50.0, "0")
    assert all("." not in label for _, label in ticks)
    assert all(50 - SLACK <= place(v) <= 500 + SLACK for v in values)
