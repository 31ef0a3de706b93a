# SPDX-License-Identifier: Apache-2.0
"""IntentClassifier against the network itself: order, batches, n-best, misuse."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from intent_model import LABELS, TEXTS, write_recipe

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.ml_lmcl.classifier import IntentClassifier, weights_of


@pytest.fixture(scope="module")
def exp(tmp_path_factory):
    return write_recipe(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="module")
def classify(exp):
    return IntentClassifier.from_pretrained(exp, batch_size=3)


def alone(classify, text, which="asr"):
    """The network's posteriors of one text, straight from its interface."""
    ids = torch.as_tensor(classify.tokenizer(text))[None]
    lengths = torch.tensor([ids.shape[1]])
    with torch.inference_mode():
        return {h: p[0].numpy() for h, p in classify.net.posteriors(ids, lengths, which).items()}


def test_batches_keep_the_order_and_equal_the_network(classify):
    texts = [*TEXTS, "", "play", *TEXTS[::-1], "a " * 50]
    found = classify(texts)
    assert len(found) == len(texts)
    assert len({str(p) for p in found}) > 1  # else the order would not be tested
    for text, prediction in zip(texts, found, strict=True):
        want = alone(classify, text.strip())
        best = {head: LABELS[head][int(p.argmax())] for head, p in want.items()}
        assert prediction.labels == best
        joint = np.prod([p.max() for p in want.values()])
        assert prediction.probability == pytest.approx(joint, rel=1e-4)
        assert list(prediction.labels) == ["scenario", "action"]
        assert str(prediction) == f"{best['scenario']} {best['action']}"
        for head, rows in prediction.posteriors.items():
            assert rows[0][0] == best[head]
            assert [p for _, p in rows] == sorted((p for _, p in rows), reverse=True)
            assert sum(p for _, p in rows) == pytest.approx(1, abs=1e-5)


def test_one_text_is_one_prediction_and_no_text_is_none(classify):
    assert classify(TEXTS[0]).labels == classify([TEXTS[0]])[0].labels
    assert classify([]) == [] and classify.nbest_many([]) == []
    assert classify("").probability > 0  # the special tokens alone


def test_texts_are_normalised_as_those_of_the_training(classify):
    assert classify.normalize_mode == "words"
    assert classify("Play, SOME jazz!") == classify("play some jazz")


def test_top_limits_the_list_and_not_the_probability(exp, classify):
    one = IntentClassifier.from_pretrained(exp, top=1)(TEXTS[1])
    full = classify(TEXTS[1])
    assert [len(rows) for rows in one.posteriors.values()] == [1, 1]
    assert one.labels == full.labels and one.probability == pytest.approx(full.probability)


def test_inference_models(exp, classify):
    by = {w: IntentClassifier.from_pretrained(exp, inference_model=w) for w in ("asr", "clean")}
    average = IntentClassifier.from_pretrained(exp, inference_model="average")
    for head in LABELS:
        asr, clean = (by[w].posteriors(TEXTS)[head] for w in ("asr", "clean"))
        assert abs(asr - clean).max() > 1e-3
        np.testing.assert_allclose(average.posteriors(TEXTS)[head], (asr + clean) / 2, atol=1e-6)
    vectors = classify.represent([*TEXTS, ""])
    np.testing.assert_allclose(vectors[3], classify.represent([TEXTS[3]])[0], atol=1e-5)
    assert vectors.shape == (5, 32)
    assert abs(vectors - classify.represent([*TEXTS, ""], "clean")).max() > 1e-3


def test_nbest_is_the_weighted_mixture(classify):
    hypotheses = [(TEXTS[0], -1.5), (TEXTS[2], -0.5), ("", -3.0)]
    weights = np.exp([-1.5, -0.5, -3.0])
    weights /= weights.sum()
    each = [alone(classify, t) for t, _ in hypotheses]
    mixed = {h: sum(w * p[h] for w, p in zip(weights, each, strict=True)) for h in LABELS}
    found = classify.nbest(hypotheses)
    best = {h: int(p.argmax()) for h, p in mixed.items()}
    assert found.labels == {h: LABELS[h][i] for h, i in best.items()}
    for head, rows in found.posteriors.items():
        assert rows[0][1] == pytest.approx(float(mixed[head].max()), rel=1e-4)
    joint = sum(w * np.prod([p[h][best[h]] for h in LABELS])
                for w, p in zip(weights, each, strict=True))  # fmt: skip
    assert found.probability == pytest.approx(joint, rel=1e-4)


def test_nbest_of_equal_texts_is_the_text(classify):
    one, same = classify(TEXTS[3]), classify.nbest([TEXTS[3]] * 3)
    assert same.labels == one.labels and same.probability == pytest.approx(one.probability)
    many = classify.nbest_many([[TEXTS[0]], [(TEXTS[3], 0.0), ("", -1e9)], [TEXTS[1], TEXTS[1]]])
    assert [p.labels for p in many] == [classify(t).labels for t in (TEXTS[0], TEXTS[3], TEXTS[1])]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6), st.floats(-1e3, 1e3))
def test_weights_are_a_softmax(scores, shift):
    _, weights = weights_of([("a", s) for s in scores])
    assert weights.sum() == pytest.approx(1) and (weights >= 0).all()
    assert weights[np.argmax(scores)] == weights.max()
    _, moved = weights_of([("a", s + shift) for s in scores])
    np.testing.assert_allclose(moved, weights, atol=1e-6)


@pytest.mark.parametrize(
    "hypotheses",
    [[], "text", [("a", 1.0), "b"], [("a", float("nan"))], [("a", float("-inf"))], [("a", 1, 2)]],
)
def test_unusable_hypotheses(hypotheses):
    with pytest.raises(UsageError):
        weights_of(hypotheses)


@pytest.mark.parametrize("texts", [[b"x"], [None], 3])
def test_what_is_no_text(classify, texts):
    with pytest.raises((UsageError, TypeError)):
        classify(texts)


def test_misuse(exp, tmp_path):
    with pytest.raises(UsageError, match="did you mean 'clean'"):
        IntentClassifier.from_pretrained(exp, inference_model="claen")
    with pytest.raises(UsageError, match="no device 'gpu'"):
        IntentClassifier.from_pretrained(exp, device="gpu")
    with pytest.raises(SetupError, match="no GPU"):
        IntentClassifier.from_pretrained(exp, device="cuda:99")
    with pytest.raises(UsageError, match="batch_size"):
        IntentClassifier.from_pretrained(exp, batch_size=0)
    with pytest.raises(DataError, match="no such model"):
        IntentClassifier.from_pretrained(tmp_path / "none")
    single = write_recipe(tmp_path / "single", both=False)
    for which in ("clean", "average"):
        with pytest.raises(UsageError, match="trained without"):
            IntentClassifier.from_pretrained(single, inference_model=which)
    (single / "finetune/valid.acc.best.pth").unlink()
    (single / "finetune/checkpoint.pth").touch()
    with pytest.raises(DataError, match=r"there are: checkpoint\.pth"):
        IntentClassifier.from_pretrained(single)
