# SPDX-License-Identifier: Apache-2.0
"""The bootstrap against a loop over the same draws, and its invariants."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring import significance
from espnet_ext.scoring.significance import bootstrap_interval, paired_bootstrap, resample_indices

RNG = np.random.default_rng(7)
REF = RNG.integers(1, 12, size=23)
RUNS_A = RNG.integers(0, 4, size=(3, 23))
RUNS_B = RNG.integers(0, 3, size=(3, 23))


def loop_rates(runs, ref, samples, seed):
    """Mean rate over runs of each draw, by plain loops."""
    rates = []
    for draw in np.concatenate(list(resample_indices(len(ref), samples, seed))):
        per_run = [sum(run[u] for u in draw) / sum(ref[u] for u in draw) for run in runs]
        rates.append(100 * sum(per_run) / len(per_run))
    return rates


@st.composite
def systems(draw):
    """Errors of two systems, ``(S, U)`` each, and reference lengths ``(U,)``."""
    runs, utts = draw(st.integers(1, 3)), draw(st.integers(1, 8))
    counts = st.lists(st.integers(0, 9), min_size=runs * utts, max_size=runs * utts)
    a, b = (np.array(draw(counts)).reshape(runs, utts) for _ in range(2))
    ref = draw(st.lists(st.integers(1, 9), min_size=utts, max_size=utts))
    return a, b, np.array(ref)


@pytest.mark.parametrize("level", [0.5, 0.95])
def test_interval_equals_the_loop(level):
    rates = loop_rates(RUNS_A, REF, 200, seed=3)
    expected = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    got = bootstrap_interval(RUNS_A, REF, samples=200, seed=3, level=level)
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_paired_result_equals_the_loop():
    a, b = (np.array(loop_rates(runs, REF, 200, seed=5)) for runs in (RUNS_A, RUNS_B))
    got = paired_bootstrap(RUNS_A, RUNS_B, REF, samples=200, seed=5)
    np.testing.assert_allclose([got.low, got.high], np.quantile(b - a, [0.025, 0.975]), rtol=1e-9)
    rate_a, rate_b = (100 * runs.sum() / 3 / REF.sum() for runs in (RUNS_A, RUNS_B))
    assert got.delta_abs == pytest.approx(rate_b - rate_a)
    assert got.rel_percent == pytest.approx(100 * (rate_b - rate_a) / rate_a)
    assert got.p_better == pytest.approx(np.mean(b < a - 1e-9))


def test_draws_do_not_depend_on_the_chunk_size():
    whole = np.concatenate(list(resample_indices(23, 50, 0)))
    chunks = list(resample_indices(23, 50, 0, chunk_elements=3 * 23))
    assert {len(c) for c in chunks} == {3, 2}
    np.testing.assert_array_equal(np.concatenate(chunks), whole)


def test_memory_is_bounded_for_a_large_test_set():
    first = next(resample_indices(300_000, 10_000, 0))
    assert first.size <= significance._CHUNK_ELEMENTS


def test_the_seed_decides():
    assert bootstrap_interval(RUNS_A, REF, seed=1) == bootstrap_interval(RUNS_A, REF, seed=1)
    assert bootstrap_interval(RUNS_A, REF, seed=1) != bootstrap_interval(RUNS_A, REF, seed=2)


@given(systems())
@settings(max_examples=50)
def test_identical_systems_differ_by_exactly_nothing(system):
    a, _, ref = system
    got = paired_bootstrap(a, a, ref, samples=100)
    assert (got.delta_abs, got.low, got.high, got.p_better) == (0, 0, 0, 0)
    assert got.rel_percent == (0 if a.any() else None)


@given(systems())
@settings(max_examples=50)
def test_interval_lies_between_the_best_and_the_worst_utterance(system):
    a, _, ref = system
    low, high = bootstrap_interval(a, ref, samples=100)
    per_utt = 100 * a.mean(axis=0) / ref
    assert per_utt.min() - 1e-9 <= low <= high <= per_utt.max() + 1e-9


@given(systems())
@settings(max_examples=50)
def test_swapping_the_systems_mirrors_the_interval(system):
    a, b, ref = system
    ab, ba = (paired_bootstrap(x, y, ref, samples=100) for x, y in ((a, b), (b, a)))
    assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low), abs=1e-9)
    assert ab.delta_abs == pytest.approx(-ba.delta_abs)
    assert ab.p_better + ba.p_better <= 1


@given(systems())
@settings(max_examples=50)
def test_order_and_repetition_of_runs_do_not_matter(system):
    a, b, ref = system
    got = paired_bootstrap(a, b, ref, samples=100)
    turned = paired_bootstrap(a[::-1], b[::-1], ref, samples=100)
    twice = paired_bootstrap(np.vstack([a, a]), np.vstack([b, b]), ref, samples=100)
    assert turned == got
    assert (twice.low, twice.high) == pytest.approx((got.low, got.high), abs=1e-9)


def test_one_utterance_leaves_nothing_to_chance():
    assert bootstrap_interval([1], [4]) == (25.0, 25.0)


def test_more_utterances_narrow_the_interval():
    few = bootstrap_interval(RUNS_A[0], REF)
    many = bootstrap_interval(np.tile(RUNS_A[0], 16), np.tile(REF, 16))
    assert (many[1] - many[0]) / (few[1] - few[0]) == pytest.approx(0.25, rel=0.15)


def test_empty_references_add_errors_and_draws_of_nothing_are_left_out():
    low, high = bootstrap_interval([1, 1], [0, 2], samples=500)
    assert (low, high) == (50.0, 100.0)  # draws (B, B) and (A, B); (A, A) has no rate


def test_a_perfect_baseline_has_no_relative_change():
    assert paired_bootstrap([0, 0], [1, 0], [2, 2]).rel_percent is None


@pytest.mark.parametrize(
    ("errors", "ref_len", "word"),
    [
        ([1, 2], [3], "do not fit"),
        ([], [], "do not fit"),
        ([[[1]]], [1], "do not fit"),
        ([-1], [3], ">= 0"),
        ([0.5], [3], "integers"),
        ([1], [0], "not defined"),
    ],
)
def test_unusable_counts_are_refused(errors, ref_len, word):
    with pytest.raises(DataError, match=word):
        bootstrap_interval(errors, ref_len)


def test_systems_with_different_runs_cannot_be_paired():
    with pytest.raises(DataError, match="paired"):
        paired_bootstrap(RUNS_A, RUNS_B[:2], REF)


@pytest.mark.parametrize("option", [{"samples": 0}, {"level": 1.0}, {"level": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        bootstrap_interval([1], [2], **option)
