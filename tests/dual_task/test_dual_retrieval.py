# SPDX-License-Identifier: Apache-2.0
"""Speech retrieves sentences: of its language and of others, by meaning."""

import numpy as np
import pytest

from espnet_ext.dual_task.retrieval import NONE, Candidates, cosines, rank, retrieve_set
from espnet_ext.errors import DataError, UsageError
from espnet_ext.text.similarity import Parallel

VECTORS = {"oui": (1, 0, 0), "sì": (0.9, 0.1, 0), "non": (0, 1, 0), "no": (0.1, 0.9, 0)}
ROWS = [Parallel(*r) for r in (
    ("yes", "fr", "oui"), ("yes", "it", "sì"), ("nay", "fr", "non"), ("nay", "it", "no"),
    ("refuse", "it", "no"),
)]  # fmt: skip


def vector(text):
    return np.array(VECTORS[text], np.float32)


def test_cosines_and_ranks():
    found = cosines(np.array([[2.0, 0], [0, 0]]), np.array([[0, 3.0], [1, 1], [-5, 0]]))
    np.testing.assert_allclose(found, [[0, 0.5**0.5, -1], [0, 0, 0]], atol=1e-6)
    ranked = rank(np.array([[2.0, 0]]), np.array([[0, 3.0], [1, 1], [-5, 0], [2, 2]]), 9)
    assert [i for i, _ in ranked[0]] == [1, 3, 0, 2]  # the first of equals
    with pytest.raises(UsageError, match="top is 0"):
        rank(found, found, 0)
    with pytest.raises(DataError, match="no texts"):
        rank(found, np.zeros((0, 3)))
    with pytest.raises(DataError, match="sentence vectors have 2 values, speech 3"):
        cosines(found, np.zeros((1, 2)))


def test_the_nearest_sentence_of_the_own_and_of_other_languages():
    candidates = Candidates(ROWS, vector)
    assert len(candidates.texts) == 4
    speech = {"u1": vector("oui"), "u2": vector("no"), "u3": np.array([0.5, 0.6, 0], np.float32)}
    languages = {"u1": "fr", "u2": "it", "u3": "fr"}
    same, other = candidates.retrieve(speech, languages, {"u1": "yes", "u2": "refuse", "u3": "yes"})
    assert same == {"u1": "yes", "u2": "refuse", "u3": "nay"}  # u3 is wrong
    assert other == {"u1": "yes", "u2": "nay", "u3": "nay"}
    # The same text has two meanings: that of the utterance counts, if it is one of them.
    assert candidates.retrieve({"u2": vector("no")}, {"u2": "it"}, {"u2": "yes"})[0]["u2"] == "nay"


def test_one_language_has_no_other_one():
    candidates = Candidates([r for r in ROWS if r.language == "fr"], vector)
    for language in ("fr", "", "ar"):
        same, other = candidates.retrieve({"u": vector("no")}, {"u": language}, {"u": "x"})
        assert (same, other) == ({"u": "nay"}, {})


def test_a_set_counts_all_its_utterances():
    found = retrieve_set(
        Candidates(ROWS, vector), {"a": vector("oui") * 3, "b": vector("no")},
        {"a": "oui", "b": "sì", "short": "non"}, {"a": "fr", "b": "it", "short": "fr"},
        {"a": "yes", "b": "yes", "short": "nay"}, vector,
    )  # fmt: skip
    assert found.same == {"a": "yes", "b": "nay", "short": NONE}
    assert found.other == {"a": "yes", "b": "nay", "short": NONE}
    assert found.cosine["a"] == pytest.approx(1) and found.cosine["short"] == 0
    assert found.cosine["b"] == pytest.approx(0.18 / 0.82, abs=1e-6)


def test_nothing_to_retrieve():
    with pytest.raises(DataError, match="no sentences to retrieve"):
        Candidates([], vector)
