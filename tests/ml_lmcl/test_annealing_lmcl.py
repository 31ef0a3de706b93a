# SPDX-License-Identifier: Apache-2.0
"""The cyclical coefficient: its course, what short runs reach, its period as a share."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.annealing import gamma, period_of, reachable


@pytest.mark.parametrize(
    ("update", "value"),
    [(1, 0), (1251, 0.5), (2501, 1), (4000, 1), (5000, 1), (5001, 0), (7501, 1), (10001, 0)],
)
def test_the_course_of_the_method(update, value):
    assert gamma(update) == value


def test_it_rises_evenly_holds_and_starts_again():
    course = [gamma(t, "cyclic", 10, 0.4) for t in range(1, 21)]
    assert course == [0, 0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1] * 2


def test_the_other_modes():
    assert {gamma(t, "constant") for t in (1, 2, 5001)} == {1.0}
    assert {gamma(t, "zero") for t in (1, 2501, 5000)} == {0.0}


@pytest.mark.parametrize(
    ("updates", "highest"),
    [(1980, 0.7916), (160, 0.0636), (180, 0.0716), (2500, 0.9996), (2501, 1), (10**6, 1), (0, 0)],
)
def test_what_a_run_reaches(updates, highest):
    """SLURP, ATIS and TREC6 with batches of 256 and 10 epochs come first."""
    assert reachable(updates, 5000, 0.5) == pytest.approx(highest, abs=1e-12)


@given(st.integers(1, 60), st.integers(2, 25), st.floats(0.01, 1))
def test_reachable_is_the_maximum_of_the_run(updates, period, ratio):
    course = [gamma(t, "cyclic", period, ratio) for t in range(1, updates + 1)]
    assert reachable(updates, period, ratio) == max(course)
    assert all(0 <= g <= 1 for g in course)


def test_the_period_as_a_share_of_the_run():
    assert period_of(5000, None, 160) == 5000
    assert period_of(5000, 0.25, 1980) == 495
    assert period_of(5000, 1.0, 160) == 160
    assert reachable(160, period_of(5000, 1.0, 160), 0.5) == 1
    assert period_of(5000, 0.01, 10) == 2


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: gamma(1, "cyclical"), "gamma_mode"),
        (lambda: gamma(1, "cyclic", 1), "gamma_period"),
        (lambda: gamma(1, "cyclic", 10, 0.0), "gamma_ratio"),
        (lambda: reachable(10, 10, 1.5), "gamma_ratio"),
        (lambda: period_of(5000, 0.0, 10), "gamma_period_fraction"),
        (lambda: period_of(5000, 1.1, 10), "gamma_period_fraction"),
    ],
)
def test_misuse_names_the_option(call, names):
    with pytest.raises(UsageError, match=names):
        call()


def test_updates_count_from_one():
    with pytest.raises(ValueError, match="from 1"):
        gamma(0)
