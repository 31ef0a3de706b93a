# SPDX-License-Identifier: Apache-2.0
"""What a run record must hold, and that a bad one names its file and field."""

import json

import pytest
from record_pages import changed

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics import find
from espnet_ext.scoring.record import load_record, load_records

DECODED = ("sets", "test", "greedy_ctc")


def test_a_record_is_read(recipe_dir, record_dict):
    record = load_record(recipe_dir.add(record_dict(seed=3)))
    decoded = record.sets["test"]["greedy_ctc"]
    assert (record.seed, record.phases["finetune"].params) == (3, 1234567)
    totals = decoded.metrics["wer"].totals
    assert (totals["errors"], totals["del"], decoded.value(find("wer"))) == (3, 0, 25.0)


@pytest.mark.parametrize("keys", [("later",), ("phases", "finetune", "later"), (*DECODED, "later")])
def test_fields_of_a_newer_stage_are_tolerated(recipe_dir, record_dict, keys):
    load_record(recipe_dir.add(changed(record_dict(), keys, {"x": 1})))


def test_budget_may_be_absent(recipe_dir, record_dict):
    assert load_record(recipe_dir.add(changed(record_dict(), ("budget",)))).budget is None


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("seed",), None),
        (("dirty",), None),
        (("phases", "finetune", "params"), None),
        ((*DECODED, "wer", "del"), None),
        ((*DECODED, "per_utt", "word_errors"), None),
        (("seed",), "1"),
        (("seed",), True),
        (("dirty",), "no"),
        (("date",), "21.11.2026"),
        (("commit",), "main"),
        (("config_sha256",), "12"),
        (("sets",), []),
        (("phases", "finetune", "wall_s"), -1),
        (("phases", "finetune", "wall_s"), float("nan")),
        (("phases", "finetune", "epochs"), 1.5),
        ((*DECODED, "wer", "rate"), "7.6"),
        ((*DECODED, "utterances"), 0),
    ],
)
def test_a_missing_or_wrong_field_is_named(recipe_dir, record_dict, keys, value):
    path = recipe_dir.add(changed(record_dict(), keys, value))
    with pytest.raises(DataError) as err:
        load_record(path)
    assert str(err.value.where) == f"{path}: {'.'.join(keys)}"
    assert err.value.how


@pytest.mark.parametrize(
    ("keys", "value", "words"),
    [
        ((*DECODED, "wer", "rate"), 7.6, "rate 7.6 is not that of the counts, 25.000"),
        ((*DECODED, "utterances"), 4, "holds 3 entries for 4 utterances"),
        ((*DECODED, "per_utt", "word_errors"), [1, 1, 2], "sums to 4, wer says 3"),
        ((*DECODED, "per_utt", "word_ref"), [4, 4, 5], "sums to 13, wer says 12"),
        ((*DECODED, "cer", "ref"), 0, "not defined"),
    ],
)
def test_counts_that_contradict_each_other_are_refused(recipe_dir, record_dict, keys, value, words):
    path = recipe_dir.add(changed(record_dict(), keys, value))
    with pytest.raises(DataError, match=words) as err:
        load_record(path)
    assert str(err.value.where).startswith(f"{path}: sets.test.greedy_ctc")


def test_another_schema_is_told_by_its_number(recipe_dir, record_dict):
    path = recipe_dir.add(record_dict(schema=3))
    with pytest.raises(DataError, match="schema 3; this release reads schema 1 to 2"):
        load_record(path)


@pytest.mark.parametrize("content", [b"", b"{", b'{"schema": 1', b"\xff\xfe", b"[]", b"null"])
def test_a_broken_file_is_named(tmp_path, content):
    path = tmp_path / "broken.json"
    path.write_bytes(content)
    with pytest.raises(DataError) as err:
        load_record(path)
    assert err.value.where == path


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"none\.json"):
        load_record(tmp_path / "none.json")


def test_records_are_sorted_by_group_and_numeric_seed(recipe_dir, record_dict):
    for group, seed in (("b", 2), ("a", 10), ("a", 9), ("b", 1)):
        recipe_dir.add(record_dict(group, seed))
    (recipe_dir.path / "results" / ".hidden.json").write_text("{")
    records = load_records(recipe_dir.path / "results")
    assert [(r.group, r.seed) for r in records] == [("a", 9), ("a", 10), ("b", 1), ("b", 2)]


def test_a_plain_run_stands_beside_the_results_that_come_with_the_recipe(recipe_dir, record_dict):
    """Whichever of the two was there first, and whichever seed has no other run keeps its group."""
    recipe_dir.add(record_dict("full", 1))
    recipe_dir.add(record_dict("full", 2))
    for name, seed in (("full", 1), ("full_three", 3)):
        own = record_dict("full", seed) | {"name": name, "group": name}
        (recipe_dir.path / "results" / f"{name}.json").write_text(json.dumps(own))
    found = {r.name: r.group for r in load_records(recipe_dir.path / "results")}
    assert found == {"full_seed1": "full", "full_seed2": "full", "full": "full_own",
                     "full_three": "full_three"}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "other"}, "same group and seed"),
        ({"seed": 2, "name": "cpu_seed1"}, "same name: cpu_seed1"),
        ({"seed": 2, "name": "other", "recipe": "an4/asr2"}, "'an4/asr1' and of 'an4/asr2'"),
    ],
)
def test_records_that_cannot_stand_together_are_refused(recipe_dir, record_dict, changes, words):
    recipe_dir.add(record_dict())
    second = recipe_dir.path / "results" / "second.json"
    second.write_text(json.dumps(record_dict() | changes))
    with pytest.raises(DataError, match=words) as err:
        load_records(recipe_dir.path / "results")
    assert str(second) in str(err.value.where)
