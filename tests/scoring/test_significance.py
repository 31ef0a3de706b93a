# SPDX-License-Identifier: Apache-2.0
"""The bootstrap against a loop over the same draws, and its invariants."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring import significance
from espnet_ext.scoring.metrics import percent
from espnet_ext.scoring.p_values import holm
from espnet_ext.scoring.significance import (
    bootstrap_interval,
    paired,
    paired_bootstrap,
    resample,
    resample_indices,
    seed_weights,
)

RNG = np.random.default_rng(7)
REF = RNG.integers(1, 12, size=23)
RUNS_A = RNG.integers(0, 4, size=(3, 23))
RUNS_B = RNG.integers(0, 3, size=(3, 23))


def loop_rates(runs, ref, samples, seed):
    """Rate of each draw of seeds and utterances, by plain loops."""
    weights = seed_weights(len(runs), samples, seed)
    draws = np.concatenate(list(resample_indices(len(ref), samples, seed)))
    rates = []
    for draw, weight in zip(draws, weights, strict=True):
        per_run = [sum(run[u] for u in draw) / sum(ref[u] for u in draw) for run in runs]
        rates.append(sum(100 * w * r for w, r in zip(weight, per_run, strict=True)))
    return rates


def counts(runs, ref):
    """Return errors ``(S, U)`` and lengths ``(U,)`` as counts ``(S, U, 2)``."""
    runs = np.atleast_2d(runs)
    return np.stack([runs, np.broadcast_to(ref, runs.shape)], axis=-1)


def compare(a, b, ref, better="lower", **options):
    return paired_bootstrap(counts(a, ref), counts(b, ref), percent, better, **options)


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
    got = compare(RUNS_A, RUNS_B, REF, samples=200, seed=5)
    np.testing.assert_allclose([got.low, got.high], np.quantile(b - a, [0.025, 0.975]), rtol=1e-9)
    relative = np.quantile(100 * (b - a) / a, [0.025, 0.975])
    np.testing.assert_allclose([got.relative_low, got.relative_high], relative, rtol=1e-9)
    rates = [100 * runs.sum(axis=1) / REF.sum() for runs in (RUNS_A, RUNS_B)]
    assert got.changes == pytest.approx(rates[1] - rates[0])
    assert got.delta == pytest.approx(rates[1].mean() - rates[0].mean())
    assert got.relative == pytest.approx(100 * (rates[1].mean() / rates[0].mean() - 1))
    side = min(np.sum(b - a <= 0), np.sum(b - a >= 0))
    assert got.p_bootstrap == pytest.approx(2 * (side + 1) / 201)


def test_t_interval_and_p_are_student_s():
    got = compare(RUNS_A, RUNS_B, REF, samples=10)
    changes = np.array(got.changes)
    error = changes.std(ddof=1) / np.sqrt(3)
    half = 4.302652729911275 * error  # the table's quantile of 0.975 for two degrees of freedom
    assert (got.t_low, got.t_high) == pytest.approx((got.delta - half, got.delta + half))
    t = abs(got.delta) / error
    assert got.p_t == pytest.approx(1 - t / np.sqrt(2 + t * t))  # closed form for two
    assert got.p == max(got.p_bootstrap, got.p_t)


def test_seeds_are_drawn_as_often_as_there_are_and_each_draw_sums_to_one():
    weights = seed_weights(3, 500, seed=0)
    assert weights.sum(axis=1) == pytest.approx(1)
    assert set(np.round(3 * weights.ravel())) == {0, 1, 2, 3}
    assert seed_weights(1, 4, seed=0).tolist() == [[1.0]] * 4


def test_a_spread_over_seeds_widens_the_interval():
    errors = np.tile(RUNS_A[0], (3, 1))
    spread = errors + np.array([[0], [1], [2]])
    same, apart = (bootstrap_interval(e, REF) for e in (errors, spread))
    assert apart[1] - apart[0] > 1.5 * (same[1] - same[0])


@pytest.mark.parametrize(
    ("low", "high", "t", "seeds", "better", "expected"),
    [
        (-2, -1, (-3, -0.1), 3, "lower", "better"),
        (1, 2, (0.1, 3), 3, "lower", "worse"),
        (1, 2, (0.1, 3), 5, "higher", "better"),
        (-2, -1, (-3, -0.1), 3, "higher", "worse"),
        (-2, -1, (-3, 0.1), 3, "lower", None),  # the t interval contains 0
        (-2, 0.0, (-3, -0.1), 3, "lower", None),
        (-2, -1, (-3, -0.1), 2, "lower", None),  # two seeds
        (-2, -1, (None, None), 1, "lower", None),
        (-2, -1, (0.1, 3), 3, "lower", None),  # they contradict each other
    ],
)
def test_a_claim_needs_both_intervals_and_three_seeds(low, high, t, seeds, better, expected):
    plain = compare(RUNS_A, RUNS_B, REF, samples=10)
    changed = replace(
        plain, low=low, high=high, t_low=t[0], t_high=t[1], changes=(1.0,) * seeds, better=better
    )
    assert changed.direction == expected


def test_accuracy_is_compared_by_its_errors():
    right = [[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0]]
    more = [[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0]]
    got = compare(right, more, np.ones(4, int), "higher")
    assert got.delta == pytest.approx(75 - 125 / 3)
    assert got.relative == pytest.approx(100 * (25 - 175 / 3) / (175 / 3))
    assert got.relative_low <= got.relative <= got.relative_high


def test_holm_is_that_of_the_paper():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []
    assert holm([0.01, 0.04], tests=4) == pytest.approx([0.04, 0.12])  # chosen from four


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
    got = compare(a, a, ref, samples=100)
    assert (got.delta, got.low, got.high, got.p_bootstrap, got.p_t) == (0, 0, 0, 1, 1)
    assert got.relative == (0 if a.any() else None)
    assert got.direction is None


@given(systems())
@settings(max_examples=50)
def test_interval_lies_between_the_best_and_the_worst_utterance_of_any_run(system):
    a, _, ref = system
    low, high = bootstrap_interval(a, ref, samples=100)
    per_utt = 100 * a / ref  # of each run
    assert per_utt.min() - 1e-9 <= low <= high <= per_utt.max() + 1e-9


@given(systems())
@settings(max_examples=50)
def test_swapping_the_systems_mirrors_the_interval(system):
    a, b, ref = system
    ab, ba = (compare(x, y, ref, samples=100) for x, y in ((a, b), (b, a)))
    assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low), abs=1e-9)
    assert ab.delta == pytest.approx(-ba.delta)
    assert ab.p_bootstrap == ba.p_bootstrap


def test_one_utterance_leaves_nothing_to_chance():
    assert bootstrap_interval([1], [4]) == (25.0, 25.0)


def test_more_utterances_narrow_the_interval():
    few = bootstrap_interval(RUNS_A[0], REF)
    many = bootstrap_interval(np.tile(RUNS_A[0], 16), np.tile(REF, 16))
    assert (many[1] - many[0]) / (few[1] - few[0]) == pytest.approx(0.25, rel=0.15)


def test_empty_references_add_errors_and_draws_of_nothing_are_left_out():
    low, high = bootstrap_interval([1, 1], [0, 2], samples=500)
    assert (low, high) == (50.0, 100.0)  # draws (B, B) and (A, B); (A, A) has no rate


def test_a_perfect_reference_has_no_relative_change():
    got = compare([0, 0], [1, 0], [2, 2])
    assert (got.relative, got.relative_low, got.relative_high) == (None, None, None)


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
        compare(RUNS_A, RUNS_B[:2], REF)
    a, b = (resample(counts(runs, REF), percent, samples=5) for runs in (RUNS_A, RUNS_B[:2]))
    with pytest.raises(DataError, match="3 runs against 2"):
        paired(a, b, "lower")


@pytest.mark.parametrize("option", [{"samples": 0}, {"level": 1.0}, {"level": 0}])
def test_options_out_of_range_are_refused(option):
    with pytest.raises(UsageError, match=next(iter(option))):
        bootstrap_interval([1], [2], **option)
