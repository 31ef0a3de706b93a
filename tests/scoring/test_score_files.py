# SPDX-License-Identifier: Apache-2.0
"""Scores of decoded files become a record of the present schema; older records read the same."""

import json
from pathlib import Path

import pytest
from record_pages import changed

from espnet_ext.data.tables import write_table
from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics import find, load
from espnet_ext.scoring.record import load_record, load_records
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.score import score_files

EGS = Path(__file__).resolve().parents[2] / "egs2"
REFS = {"b": "the cat sat", "a": "a dog"}
HYPS = {"a": "a dog", "b": "the cart sat down"}
DECODED = ("sets", "test", "greedy_ctc")


@pytest.fixture
def scored(tmp_path):
    write_table(tmp_path / "ref/text", REFS)
    write_table(tmp_path / "hyp/text", HYPS)
    return score_files(load(["wer", "cer"]), tmp_path / "ref", tmp_path / "hyp")


def test_text_that_looks_the_same_is_the_same(tmp_path):
    write_table(tmp_path / "ref/text", {"a": "e\u0301te\u0301\u00a0fini\u200b"})
    write_table(tmp_path / "hyp/text", {"a": "été fini"})
    scored = score_files(load(["wer", "cer"]), tmp_path / "ref", tmp_path / "hyp")
    assert [scored["metrics"][name]["value"] for name in ("wer", "cer")] == [0, 0]


@pytest.fixture
def written(scored, record_dict):
    """A record as the score stage writes it."""
    return record_dict(schema=2, sets={"test": {"greedy_ctc": {**scored, "decode_wall_s": 1.0}}})


def test_counts_of_every_metric_reach_the_record(recipe_dir, written):
    record = load_record(recipe_dir.add(written))
    decoded = record.sets["test"]["greedy_ctc"]
    for name, counts in (("wer", [[0, 2], [2, 3]]), ("cer", [[0, 5], [6, 11]])):
        metric = find(name)
        counted = record.counted("test", "greedy_ctc", metric)
        assert counted.counts.tolist() == counts
        assert counted.ids_sha256 == decoded.ids_sha256
        assert decoded.value(metric) == pytest.approx(
            100 * counts[1][0] / (counts[0][1] + counts[1][1])
        )
    assert decoded.metrics["wer"].totals == {"errors": 2, "ref": 5, "sub": 1, "del": 0, "ins": 1}
    assert record.counted("dev", "greedy_ctc", find("wer")) is None
    assert record.counted("test", "greedy_ctc", find("accuracy")) is None


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        (("metrics", "wer", "value"), 7.6, "value 7.6 of wer is not that of the counts, 40.000"),
        (("metrics", "wer", "totals", "errors"), 3, "per_utt.errors sums to 2, totals say 3"),
        (("metrics", "wer", "totals", "sub"), None, "wer.totals has no sub"),
        (("metrics", "wer", "per_utt", "errors"), None, "wer.per_utt has no errors"),
        (("metrics", "cer", "per_utt", "ref"), [16], "has 1 entries for 2 utterances"),
        (("metrics",), {}, "at least 1 item"),
        (("utterances",), 3, "has 2 entries for 3 utterances"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(recipe_dir, written, keys, value, words):
    path = recipe_dir.add(changed(written, (*DECODED, *keys), value))
    with pytest.raises(DataError, match=words) as err:
        load_record(path)
    assert str(err.value.where).startswith(f"{path}: sets.test.greedy_ctc")


def test_a_set_without_reference_words_is_refused(tmp_path):
    for folder in ("ref", "hyp"):
        write_table(tmp_path / folder / "text", {"a": ""})
    with pytest.raises(DataError, match="WER is not defined"):
        score_files(load(["wer"]), tmp_path / "ref", tmp_path / "hyp")


def test_an_older_record_keeps_what_it_knew(recipe_dir, record_dict, intent_record):
    old = record_dict(errors=(1, 0, 2))
    record = load_record(recipe_dir.add(old))
    decoded = record.sets["test"]["greedy_ctc"]
    assert record.counted("test", "greedy_ctc", find("wer")).counts.tolist() == [
        [1, 4],
        [0, 3],
        [2, 5],
    ]
    assert record.counted("test", "greedy_ctc", find("cer")) is None  # it had totals only
    assert decoded.value(find("cer")) == 5.0
    assert (record.version, decoded.rtf, decoded.ids_sha256) == (2, 0.25, "ef" * 32)
    intents = load_record(recipe_dir.add(intent_record(wrong=(0, 1, 0, 0)))).sets["test"]["asr"]
    assert intents.counts(find("accuracy")).tolist() == [[1, 1], [0, 1], [1, 1], [1, 1]]
    assert (intents.intent.correct, len(intents.intent.wer_groups)) == (3, 4)


@pytest.mark.parametrize("folder", sorted(EGS.glob("*/*/results")), ids=lambda p: p.parts[-3])
def test_committed_records_load_with_the_values_they_state(folder):
    for record in load_records(folder):
        raw = json.loads((folder / f"{record.name}.json").read_text())
        for name, methods in record.sets.items():
            for method, decoded in methods.items():
                told = raw["sets"][name][method]
                for metric, scores in decoded.metrics.items():
                    stated = told.get("metrics", {}).get(metric, {}).get("value")
                    if stated is None:
                        stated = (
                            told["intent"]["accuracy"] if "intent" in told else told[metric]["rate"]
                        )
                    assert scores.value == pytest.approx(stated, abs=0.05)


def test_a_metric_that_the_page_does_not_know_is_named(recipe_dir, written):
    keys = (*DECODED, "metrics", "f1")
    scores = {"title": "F1", "better": "higher", "value": 50.0, "totals": {"hit": 1}}
    recipe_dir.add(changed(written, keys, scores))
    page = render_results(recipe_dir.path)
    assert "Recorded, but not shown: `f1`" in page and "WER" in page
    recipe_dir.add(written)
    assert "not shown" not in render_results(recipe_dir.path)
