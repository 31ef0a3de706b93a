# SPDX-License-Identifier: Apache-2.0
"""Error counts against hand-made cases and a textbook edit distance."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring.edits import alignment_lines, confusions, score_sets

TEXTS = st.lists(st.sampled_from(["a", "b", "ab", "é"]), max_size=6).map(" ".join)
PAIRS = st.dictionaries(st.text("xyz", min_size=1), st.tuples(TEXTS, TEXTS), min_size=1, max_size=6)


def counts(score):
    """Substitutions, deletions, insertions of the only utterance."""
    return int(score.substitutions[0]), int(score.deletions[0]), int(score.insertions[0])


def edit_distance(ref, hyp):
    """The textbook recurrence, cost 1 for every edit."""
    previous = list(range(len(hyp) + 1))
    for i, r in enumerate(ref, 1):
        row = [i]
        for j, h in enumerate(hyp, 1):
            row.append(min(previous[j] + 1, row[j - 1] + 1, previous[j - 1] + (r != h)))
        previous = row
    return previous[-1]


def test_one_word_of_two_is_fifty_percent():
    score = score_sets({"u": "the cat"}, {"u": "the cart"})
    assert score.rate == 50.0
    assert score.totals() == {"rate": 50.0, "sub": 1, "del": 0, "ins": 0, "ref": 2}


def test_the_same_pair_by_characters_counts_the_space():
    score = score_sets({"u": "the cat"}, {"u": "the cart"}, "char")
    assert counts(score) == (0, 0, 1)
    assert score.ref_len.tolist() == [7]


@pytest.mark.parametrize(
    ("ref", "hyp", "unit", "expected"),
    [
        ("a b", "", "word", (0, 2, 0)),
        ("", "a b", "word", (0, 0, 2)),
        ("", "", "word", (0, 0, 0)),
        ("a b", "ab", "char", (0, 1, 0)),
        (" a \t  b ", "a b", "char", (0, 0, 0)),
        ("A", "a", "word", (1, 0, 0)),
    ],
)
def test_counts_of_edge_cases(ref, hyp, unit, expected):
    assert counts(score_sets({"u": ref}, {"u": hyp}, unit)) == expected


def test_utterances_are_in_byte_order_whatever_the_order_given():
    refs = {"b": "x y", "é": "x", "a": "x y z", "B": "x x x x"}
    score = score_sets(refs, dict(reversed(refs.items())) | {"a": "x"})
    assert score.utt_ids == ("B", "a", "b", "é")
    assert score.errors.tolist() == [0, 2, 0, 0]
    assert score.ref_len.tolist() == [4, 3, 2, 1]
    assert score.ids_sha256 == hashlib.sha256("B\na\nb\né\n".encode()).hexdigest()


def test_a_missing_hypothesis_is_named():
    refs = {f"u{i:02d}": "x" for i in range(12)}
    with pytest.raises(DataError) as err:
        score_sets(refs, {"u03": "x"})
    assert "11 of 12" in err.value.what
    assert "u00" in err.value.where and "u03" not in err.value.where
    assert "and 1 more" in err.value.where


def test_an_extra_hypothesis_is_named():
    with pytest.raises(DataError, match="stranger"):
        score_sets({"u": "x"}, {"u": "x", "stranger": "x"})


def test_nothing_to_score_is_refused():
    with pytest.raises(DataError, match="no utterance"):
        score_sets({}, {})


def test_a_rate_without_reference_is_refused_but_its_insertions_are_there():
    score = score_sets({"u": ""}, {"u": "a"})
    assert score.errors.tolist() == [1]
    with pytest.raises(DataError, match="not defined"):
        _ = score.rate


def test_an_unknown_unit_names_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'word'"):
        score_sets({"u": "x"}, {"u": "x"}, "words")


@given(PAIRS, st.sampled_from(["word", "char"]))
def test_counts_agree_with_the_textbook(pairs, unit):
    refs = {u: r for u, (r, _) in pairs.items()}
    hyps = {u: h for u, (_, h) in pairs.items()}
    score = score_sets(refs, hyps, unit)
    split = str.split if unit == "word" else list
    for i, u in enumerate(score.utt_ids):
        ref, hyp = split(refs[u]), split(hyps[u])
        assert score.errors[i] == edit_distance(ref, hyp)
        assert score.ref_len[i] == len(ref)
        assert len(ref) - score.deletions[i] + score.insertions[i] == len(hyp)
    assert score.errors.dtype == np.int64


def test_alignment_lines_stand_in_columns():
    assert alignment_lines("the cat sat on it", "a the cart on it") == [
        "REF: *** the cat  sat on it",
        "HYP: a   the cart *** on it",
        "     I       S    D",
    ]


def test_alignment_lines_show_a_space_among_characters():
    lines = alignment_lines("a b", "ab", "char")
    assert lines[0] == "REF: a <space> b"
    assert lines[2].split() == ["D"]


@given(TEXTS, TEXTS)
def test_alignment_lines_hold_both_texts_and_every_error(ref, hyp):
    lines = alignment_lines(ref, hyp)
    assert [w for w in lines[0].split()[1:] if w != "***"] == ref.split()
    assert [w for w in lines[1].split()[1:] if w != "***"] == hyp.split()
    assert len(lines[2].split()) == score_sets({"u": ref}, {"u": hyp}).errors[0]


def test_confusions_are_counted_and_ties_are_alphabetical():
    refs = {"1": "cat dog", "2": "cat", "3": "ant gone", "4": "same"}
    hyps = {"1": "cart dig", "2": "cart", "3": "aunt", "4": "same"}
    assert confusions(refs, hyps) == [("cat", "cart", 2), ("ant", "aunt", 1), ("dog", "dig", 1)]
    assert confusions(refs, hyps, top=1) == [("cat", "cart", 2)]
