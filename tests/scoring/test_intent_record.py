# SPDX-License-Identifier: Apache-2.0
"""Run records of classified utterances, and that word scores still need all their parts."""

import pytest
from record_pages import changed

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics import find
from espnet_ext.scoring.record import load_record

INTENT = ("sets", "test", "asr", "intent")


def test_a_record_of_intents_is_read(recipe_dir, intent_record):
    record = load_record(recipe_dir.add(intent_record(wrong=(0, 1, 0, 0))))
    decoded = record.sets["test"]["asr"]
    accuracy = find("accuracy")
    assert decoded.value(accuracy) == 75.0
    assert decoded.counts(accuracy).T.tolist() == [[1, 0, 1, 1], [1, 1, 1, 1]]
    assert [*decoded.metrics] == ["accuracy"] and decoded.rtf is None


def test_a_record_of_words_reads_through_the_same_names(recipe_dir, record_dict):
    decoded = load_record(recipe_dir.add(record_dict())).sets["test"]["greedy_ctc"]
    assert decoded.value(find("wer")) == 25.0
    assert decoded.counts(find("wer")).T.tolist() == [[1, 0, 2], [4, 3, 5]]
    assert decoded.ids_sha256 == "ef" * 32


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ((*INTENT, "correct"), 2, "per_utt.wrong leaves another count"),
        ((*INTENT, "accuracy"), 80.0, "accuracy 80.0 is not that of 3 of 4"),
        ((*INTENT, "heads"), [{"head": "x", "accuracy": 50.0, "correct": 2}], "less often"),
        ((*INTENT, "input_wer", "rate"), 99.0, "rate 99.0 is not that of the counts"),
        ((*INTENT, "wer_groups"), [], "wer_groups.utterances sums to 0, not 4"),
        ((*INTENT[:3], "utterances"), 5, "per_utt.wrong holds 4 entries for 5"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(
    recipe_dir, intent_record, keys, value, words
):
    path = recipe_dir.add(changed(intent_record(), keys, value))
    with pytest.raises(DataError, match=words) as err:
        load_record(path)
    assert str(err.value.where).startswith(f"{path}: sets.test.asr")


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        ((*INTENT, "per_utt"), {"ids_sha256": "ab" * 32, "wrong": [0, 2, 0, 0]}),
        ((*INTENT, "interval", "method"), "wald"),
        ((*INTENT, "heads"), []),
        ((*INTENT, "input_wer", "ref"), 0),
        ((*INTENT[:3], "input_sha256"), "x"),
    ],
)
def test_wrong_values_are_refused(recipe_dir, intent_record, keys, value):
    with pytest.raises(DataError):
        load_record(recipe_dir.add(changed(intent_record(), keys, value)))


@pytest.mark.parametrize("part", ["wer", "cer", "per_utt", "rtf", "audio_s"])
def test_word_scores_need_all_their_parts(recipe_dir, record_dict, part):
    keys = ("sets", "test", "greedy_ctc", part)
    with pytest.raises(DataError, match=f"neither an intent nor {part}"):
        load_record(recipe_dir.add(changed(record_dict(), keys, None)))


def test_a_set_is_scored_in_one_way_only(recipe_dir, record_dict, intent_record):
    both = record_dict()
    both["sets"]["test"]["greedy_ctc"]["intent"] = intent_record()["sets"]["test"]["asr"]["intent"]
    with pytest.raises(DataError, match="not both"):
        load_record(recipe_dir.add(both))
