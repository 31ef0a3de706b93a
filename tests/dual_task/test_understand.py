# SPDX-License-Identifier: Apache-2.0
"""Concepts and embeddings of speech: order, batches, too short and long audio, wrong input."""

from argparse import Namespace

import numpy as np
import pytest
from speaking_model import ARGS, SpeakingModel, spell

from espnet_ext.dual_task.reading import Concept
from espnet_ext.dual_task.understand import SpeechUnderstander
from espnet_ext.errors import DataError, UsageError

SAID = ["<x> _ a b _ > _ c", "a", "<y> _ >", "- - b - b _ <x> _ c _ a - c _ >"]


@pytest.fixture
def understand():
    return SpeechUnderstander(SpeakingModel(), ARGS)


def test_what_is_said_is_read_with_its_times(understand):
    (found,) = understand([spell("- <x> _ a b b _ > _ c")])
    assert (found.tagged, found.words) == ("<x> ab > c", "ab c")
    assert found.concepts == (Concept("x", "ab", 0.03, 0.06),)
    assert not found.too_short and not found.long
    assert found.embedding.shape == (10,) and found.embedding.sum() == pytest.approx(1)


def test_order_and_batches_change_nothing(understand):
    speech = [spell(x) for x in SAID]
    alone = [understand([x])[0] for x in speech]
    for batch_s in (0.05, 0.25, 60):
        together = SpeechUnderstander(SpeakingModel(), ARGS, batch_s=batch_s)(speech)
        for one, many in zip(alone, together, strict=True):
            assert (one.tagged, one.concepts) == (many.tagged, many.concepts)
            np.testing.assert_allclose(one.embedding, many.embedding, atol=1e-6)
    together = SpeechUnderstander(SpeakingModel(), ARGS)
    together.model.batches.clear()
    together(speech)
    assert together.model.batches == [4]


def test_audio_that_is_too_short_is_empty_and_keeps_its_place(understand):
    found = understand([spell("a")[:-1], spell("b"), spell("")])
    assert [x.tagged for x in found] == ["", "b", ""]
    assert [x.too_short for x in found] == [True, False, True]
    assert found[0].embedding is None and found[0].concepts == ()
    with pytest.raises(DataError, match="at least 160 samples") as e:
        understand.embed([spell("b"), spell("")])
    assert "utterance 1" in str(e.value)


def test_embeddings_of_a_batch(understand):
    speech = [spell(x) for x in SAID]
    vectors = understand.embed(speech)
    assert vectors.shape == (4, 10) and vectors.dtype == np.float32
    np.testing.assert_allclose(vectors[1], np.eye(10)[2])
    assert understand.embed([]).shape == (0, 10) and understand([]) == []


def test_long_audio_is_one_utterance_all_the_same():
    """The encoder sees pieces; symbols across the cut, times and the embedding are of the whole."""
    text = " ".join(["<x> _ a b _ >", *["-"] * 120, "_ <y> _ c _ >"])
    whole = SpeechUnderstander(SpeakingModel(), ARGS)([spell(text)])[0]
    model = SpeakingModel()
    cutting = SpeechUnderstander(model, ARGS, longest_s=1)
    model.batches.clear()
    pieces, short = cutting([spell(text), spell("a")])
    assert len(model.batches) == 3 and pieces.long and not short.long
    assert (pieces.tagged, pieces.concepts) == (whole.tagged, whole.concepts)
    assert pieces.tagged == "<x> ab > <y> c >" and pieces.concepts[1].start_s == 1.29
    np.testing.assert_allclose(pieces.embedding, whole.embedding, atol=1e-6)


def test_a_model_that_does_not_write_or_does_not_embed():
    model = SpeakingModel()
    model.losses, model.pooling = ("samu",), None
    understand = SpeechUnderstander(model, ARGS)
    found = understand([spell("a b")])[0]
    assert (found.tagged, found.embedding, understand.hears) == ("", None, False)
    with pytest.raises(UsageError, match="no utterance embeddings"):
        understand.embed([spell("a")])
    with pytest.raises(UsageError, match="not loaded"):
        SpeechUnderstander(SpeakingModel(), ARGS).retrieve([spell("a")], ["a"])


def test_retrieval_among_texts():
    def sentences(texts):
        rows = {"one": spell("a"), "due": spell("b"), "trois": spell("c")}
        return np.array([understand([rows[t]])[0].embedding for t in texts])

    understand = SpeechUnderstander(SpeakingModel(), ARGS, sentences=sentences)
    found = understand.retrieve([spell("a a b"), spell("c")], ["one", "due", "one", "trois"], 2)
    assert [[t for t, _ in row] for row in found] == [["one", "due"], ["trois", "one"]]
    assert found[0][0][1] == pytest.approx(2 / 5**0.5) and found[1][0][1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("speech", "fs", "says"),
    [
        ([np.zeros((2, 800))], None, r"not of shape \(2, 800\)"),
        ([np.array([0.0, np.nan] * 400)], None, "not finite"),
        ([np.zeros(800)], 8000, "the model takes 16000 Hz and the audio has 8000 Hz"),
    ],
)
def test_wrong_audio_is_refused(understand, speech, fs, says):
    with pytest.raises(DataError, match=says):
        understand(speech, fs)


def test_misuse():
    with pytest.raises(UsageError, match="a list of arrays"):
        SpeechUnderstander(SpeakingModel(), ARGS)(np.zeros(800))
    with pytest.raises(UsageError, match="longest_s at least 1"):
        SpeechUnderstander(SpeakingModel(), ARGS, longest_s=0.5)
    with pytest.raises(UsageError, match="'phn' are not supported"):
        SpeechUnderstander(SpeakingModel(), Namespace(**{**vars(ARGS), "token_type": "phn"}))
