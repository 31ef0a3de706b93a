# SPDX-License-Identifier: Apache-2.0
"""A metric is data: built in or of a recipe, it counts, sums up and says which way is better."""

import numpy as np
import pytest

from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring import metrics
from espnet_ext.scoring.metrics import Metric

REFS = {"b": "the cat sat", "a": "a dog", "c": ""}
HYPS = {"c": "x", "a": "a dog", "b": "the cart sat down"}


def test_each_file_holds_the_metric_of_its_name():
    assert {"wer", "cer", "accuracy"} <= set(metrics.built_in())
    for name in metrics.built_in():
        found = metrics.find(name)
        assert found.name == name and found.title and found.note


def test_word_errors_are_counted_by_utterance_and_add_up():
    wer = metrics.find("wer")
    scored = wer.score_set(REFS, HYPS)
    assert scored.utt_ids == ("a", "b", "c")
    assert scored.counts.tolist() == [[0, 2], [2, 3], [1, 0]]
    assert scored.totals == {"errors": 3, "ref": 5, "sub": 1, "del": 0, "ins": 2}
    assert wer.of_totals(scored.totals) == pytest.approx(60.0)
    assert [wer.column(c, scored.totals) for c in wer.columns] == pytest.approx([20, 0, 40])
    draws = np.array([[0, 1], [1, 1]])  # two resamplings of two utterances each
    assert wer.value(scored.counts[draws].sum(axis=1)) == pytest.approx([40.0, 400 / 6])


def test_accuracy_needs_all_labels():
    accuracy = metrics.find("accuracy")
    scored = accuracy.score_set({"a": "x y", "b": "x y"}, {"a": "x  y", "b": "x z"})
    assert scored.counts.tolist() == [[1, 1], [0, 1]]
    assert accuracy.of_totals(scored.totals) == 50.0


def test_a_value_without_denominator_is_refused_and_a_draw_of_it_is_nan():
    wer = metrics.find("wer")
    with pytest.raises(
        DataError, match="WER is not defined for errors 1, ref 0, the sums of the whole"
    ) as e:
        wer.of_totals({"errors": 1, "ref": 0})
    assert "leave it out of score.metrics" in e.value.how  # decoding again would not help
    assert np.isnan(wer.value(np.array([[1, 0], [1, 2]]))).tolist() == [True, False]


OWN = """
from espnet_ext.scoring.metrics import Metric

def miss(reference, hypothesis):
    \"\"\"Whole utterances.\"\"\"
    return int(reference != hypothesis), 1

METRIC = Metric("ser", "SER", "lower", ("wrong", "all"),
                lambda refs, hyps: [[int(r != h), 1] for r, h in zip(refs, hyps)])
other = 3
"""


def test_a_recipes_own_metric_is_found_as_an_object_or_a_function(tmp_path):
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "own.py").write_text(OWN)
    loaded = metrics.load(["wer", "local.own:METRIC", "local.own:miss"], tmp_path)
    assert [*loaded] == ["wer", "ser", "miss"]
    for name in ("ser", "miss"):
        assert loaded[name].score_set(REFS, HYPS).counts.tolist() == [[0, 1], [1, 1], [1, 1]]
    assert loaded["miss"].note == "Whole utterances."


def test_recipes_may_have_files_of_one_name(tmp_path):
    for title in ("One", "Two"):
        (tmp_path / title).mkdir()
        (tmp_path / title / "own.py").write_text(OWN.replace("SER", title))
    titles = [metrics.find("own:METRIC", tmp_path / x).title for x in ("One", "Two")]
    assert titles == ["One", "Two"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wor", "no metric 'wor'.*did you mean 'wer'"),
        ("own:METRICS", "has no 'METRICS'"),
        ("own:other", "neither a Metric nor a function"),
        ("nowhere:x", "no module 'nowhere'"),
    ],
)
def test_what_is_no_metric_is_named(tmp_path, name, words):
    (tmp_path / "own.py").write_text(OWN)
    with pytest.raises(UsageError, match=f"(?s){words}"):
        metrics.find(name, tmp_path)
    with pytest.raises(UsageError, match="named twice"):
        metrics.load(["cer", "cer"])


@pytest.mark.parametrize(
    "change",
    [
        {"name": "W-R"},
        {"better": "up"},
        {"counts": ()},
        {"details": ("n",)},
        {"columns": {"x": ("n", "zz")}},
    ],
)
def test_a_metric_at_odds_with_itself_is_refused(change):
    whole = {"name": "m", "title": "M", "better": "lower", "counts": ("n", "of")}
    with pytest.raises(UsageError, match=r"'W-R'|metric m"):
        Metric(**{**whole, "score": len, **change})


@pytest.mark.parametrize("rows", [[[1]], [[0.5, 1.0]], [[-1, 1]]])
def test_counts_that_are_none_are_refused(rows):
    metric = Metric("m", "M", "lower", ("n", "of"), lambda refs, hyps: rows)
    with pytest.raises(DataError, match="metric m"):
        metric.score_set({"u": ""}, {"u": ""})


def test_words_and_characters_of_tagged_text_are_those_without_tags():
    refs, hyps = {"u": "à <ville> le mans >"}, {"u": "à <town> la mans"}
    for name, plain in (("wer", "wer_plain"), ("cer", "cer_plain")):
        found = metrics.find(plain).score_set(refs, hyps).totals
        assert found == metrics.find(name).score_set({"u": "à le mans"}, {"u": "à la mans"}).totals
    assert metrics.find("cer_plain").title == "ChER"  # CER is that of concepts
