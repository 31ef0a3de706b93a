# SPDX-License-Identifier: Apache-2.0
"""Intent accuracy: joint and by head, its interval, groups by the errors of the transcripts."""

import hashlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.edits import score_sets
from espnet_ext.scoring.intent import score_intents, wer_groups, wilson_interval

LABELS = {"b": ("email", "query"), "a": ("email", "send"), "c": ("play", "music")}
FOUND = {"a": ("email", "query"), "b": ("email", "query"), "c": ("news", "query")}
ERRORS = {"a": (1, 4), "b": (0, 5), "c": (3, 0)}
HEADS = ["scenario", "action"]


def test_all_heads_must_be_right_and_each_has_its_own_accuracy():
    scored = score_intents(LABELS, FOUND, HEADS, ERRORS)
    assert (scored["correct"], scored["accuracy"]) == (1, pytest.approx(100 / 3))
    assert [(h["head"], h["correct"]) for h in scored["heads"]] == [("scenario", 2), ("action", 1)]
    assert scored["heads"][0]["accuracy"] == pytest.approx(200 / 3)


def test_utterances_are_in_byte_order_and_hashed_as_word_scores_are():
    scored = score_intents(LABELS, FOUND, HEADS, ERRORS)
    assert scored["per_utt"]["wrong"] == [1, 0, 1]
    assert scored["per_utt"]["ids_sha256"] == hashlib.sha256(b"a\nb\nc\n").hexdigest()
    texts = dict.fromkeys(LABELS, "x")
    assert scored["per_utt"]["ids_sha256"] == score_sets(texts, texts).ids_sha256


def test_the_word_error_rate_of_the_input_is_one_of_sums():
    scored = score_intents(LABELS, FOUND, HEADS, ERRORS)["input_wer"]
    assert scored == {"errors": 4, "ref": 9, "rate": pytest.approx(400 / 9)}


def test_groups_of_a_set_worked_out_by_hand():
    # Sorted rates 0, 0, 1/4, 1/2, 1/2, 3/4, 1, 2. Seven steps between eight rates: the quartiles
    # fall at 1.75, 3.5 and 5.25, of which the midpoints are 1/8, 1/2 and 7/8.
    errors = {"a": (0, 4), "b": (0, 4), "c": (1, 4), "d": (2, 4), "e": (1, 2), "f": (3, 4),
              "g": (4, 4), "h": (2, 0)}  # fmt: skip
    wrong = "dgh"
    scored = score_intents(
        dict.fromkeys(errors, ("x",)),
        {u: ("y",) if u in wrong else ("x",) for u in errors},
        ["intent"],
        errors,
    )
    rows = [(g["above"], g["up_to"], g["utterances"], g["correct"]) for g in scored["wer_groups"]]
    assert rows == [
        (None, 12.5, 2, 2),
        (12.5, 50.0, 3, 2),  # 1/2 is not above the threshold 1/2
        (50.0, 87.5, 1, 1),
        (87.5, None, 2, 0),
    ]


def test_equal_rates_all_fall_into_the_first_group():
    thresholds, group = wer_groups([0.2] * 5)
    assert thresholds.tolist() == [0.2] * 3
    assert group.tolist() == [0] * 5


@given(st.lists(st.fractions(0, 3, max_denominator=12), min_size=1, max_size=40))
def test_groups_follow_the_naive_rule(rates):
    ordered, n = sorted(map(float, rates)), len(rates)
    naive = []
    for quarter in (1, 2, 3):
        below, above = (n - 1) * quarter // 4, -(-(n - 1) * quarter // 4)
        naive.append((ordered[below] + ordered[above]) / 2)
    thresholds, group = wer_groups([float(r) for r in rates])
    assert thresholds == pytest.approx(naive)
    assert group.tolist() == [sum(float(t) < float(r) for t in thresholds) for r in rates]


@given(st.integers(1, 2000), st.data())
def test_wilson_bounds_solve_their_equation(total, data):
    correct = data.draw(st.integers(0, total))
    low, high = (x / 100 for x in wilson_interval(correct, total))
    share, z = correct / total, 1.959963984540054
    for bound in (low, high):  # |share - bound| is z standard errors of the bound
        edge = z * math.sqrt(bound * (1 - bound) / total)
        assert abs(share - bound) == pytest.approx(edge, abs=1e-7)
    assert 0 <= low <= share <= high <= 1
    mirrored = wilson_interval(total - correct, total)
    assert mirrored == pytest.approx((100 - 100 * high, 100 - 100 * low))


def test_wilson_known_values():
    assert wilson_interval(0, 10) == pytest.approx((0, 27.7533), abs=1e-4)
    assert wilson_interval(10, 10) == pytest.approx((72.2467, 100), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((25.53, 36.62), abs=5e-3)  # Newcombe 1998
    low, high = wilson_interval(760, 800)
    assert (high - low) / 2 == pytest.approx(1.5, abs=0.05)


def test_perfect_scores_and_a_single_utterance():
    scored = score_intents({"u": ("x",)}, {"u": ("x",)}, ["intent"], {"u": (0, 1)})
    assert (scored["accuracy"], scored["interval"]["high"]) == (100.0, 100.0)
    assert [g["utterances"] for g in scored["wer_groups"]] == [1, 0, 0, 0]


@pytest.mark.parametrize("which", ["predictions", "asr_errors"])
@pytest.mark.parametrize("change", ["missing", "extra"])
def test_differing_utterances_are_refused_and_named(which, change):
    tables = {"predictions": dict(FOUND), "asr_errors": dict(ERRORS)}
    if change == "missing":
        del tables[which]["b"]
    else:
        tables[which]["zz"] = tables[which]["a"]
    with pytest.raises(DataError, match="b" if change == "missing" else "zz"):
        score_intents(LABELS, heads=HEADS, **tables)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"labels": {}}, DataError),
        ({"heads": ["scenario"]}, DataError),
        ({"heads": []}, UsageError),
        ({"heads": ["x", "x"]}, UsageError),
        ({"predictions": {**FOUND, "a": ("email",)}}, DataError),
        ({"asr_errors": {**ERRORS, "a": (-1, 4)}}, DataError),
        ({"asr_errors": dict.fromkeys(ERRORS, (1, 0))}, DataError),
    ],
)
def test_misuse(changes, error):
    call = {"labels": LABELS, "predictions": FOUND, "heads": HEADS, "asr_errors": ERRORS}
    with pytest.raises(error):
        score_intents(**call | changes)


@pytest.mark.parametrize("case", [(1, 0), (-1, 4), (5, 4)])
def test_impossible_counts_have_no_interval(case):
    with pytest.raises(DataError):
        wilson_interval(*case)


def test_the_result_is_plain_json():
    import json

    scored = score_intents(LABELS, FOUND, HEADS, ERRORS)
    assert json.loads(json.dumps(scored)) == scored
    assert not any(isinstance(x, np.generic) for x in scored["per_utt"]["wrong"])
