# SPDX-License-Identifier: Apache-2.0
"""BLEU of summed counts is sacrebleu's own corpus score, whatever the texts."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from espnet_ext.scoring.metrics import bleu

SENTENCE = st.lists(st.sampled_from(["che", "tempo", "fa", "a", "Parigi,"]), max_size=8)
PAIRS = st.lists(st.tuples(SENTENCE, SENTENCE.filter(bool)), min_size=1, max_size=6)


@given(PAIRS)
def test_the_sum_of_utterances_has_the_score_of_the_corpus(pairs):
    hyps, refs = ([" ".join(p[i]) for p in pairs] for i in (0, 1))
    totals = bleu.count(refs, hyps).sum(axis=0)
    assert np.isclose(bleu.value(totals), BLEU().corpus_score(hyps, [refs]).score, atol=1e-9)


def test_no_match_is_0_and_no_reference_is_undefined():
    assert bleu.value(bleu.count(["a b c d"], ["x y z w"])[0]) == 0.0
    assert bleu.value(bleu.count(["a b c d"], ["a b c d"])[0]) == 100.0
    assert np.isnan(bleu.value(np.zeros(len(bleu.COUNTS))))


def test_many_draws_are_scored_at_once():
    counts = bleu.count(["a b c d", "e f g h i"], ["a b c e", "e f g h"])
    draws = np.random.default_rng(0).integers(0, 2, (7, 5))
    together = bleu.value(counts[draws].sum(axis=-2))
    assert np.allclose(together, [bleu.value(counts[d].sum(axis=0)) for d in draws])


def test_the_signature_is_that_of_the_note():
    assert bleu.signature().startswith(bleu.SIGNATURE) and "version:" in bleu.signature()
