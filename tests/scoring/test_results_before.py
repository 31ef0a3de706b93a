# SPDX-License-Identifier: Apache-2.0
"""Scores of the model before its final phase stand beside those after it, and nowhere else."""

import copy

from record_pages import comparisons, section, tables

from espnet_ext.scoring.results import render_results

RIGHT = {"retrieval": (1, 0, 1), "before_retrieval": (1, 1, 1)}


def add(recipe_dir, record_dict, group, seed, names):
    record = copy.deepcopy(record_dict(group, seed))
    decoded = record["sets"]["test"]["greedy_ctc"]
    decoded["ids_sha256"] = decoded.pop("per_utt")["ids_sha256"]
    for key in ("wer", "cer"):
        del decoded[key]
    decoded["metrics"] = {}
    for name in names:
        correct = [*RIGHT[name]]
        decoded["metrics"][name] = {
            "title": name,
            "better": "higher",
            "value": 100 * sum(correct) / 3,
            "totals": {"correct": sum(correct), "utterances": 3},
            "per_utt": {"correct": correct, "utterances": [1, 1, 1]},
        }
    recipe_dir.add(record | {"schema": 2})


def test_before_and_after_stand_side_by_side(recipe_dir, record_dict):
    for seed in range(2):
        add(recipe_dir, record_dict, "dual", seed, RIGHT)
        add(recipe_dir, record_dict, "plain", seed, ["retrieval"])  # it started from nothing
    text = render_results(recipe_dir.path)
    ((row,),) = section(text, "Before and after the final training phase")
    assert row == {
        "Set": "test",
        "System": "dual",
        "Seeds": "0, 1",
        "Retrieval": "100.00 → 66.67 (-33.33 ± 0.00)",
    }
    assert [r["System"] for r in tables(text)[0]] == ["dual", "plain"]
    assert "Retrieval before" not in text
    assert all("before" not in str(r) for r in comparisons(text))


def test_a_system_whose_runs_lack_a_score_has_none(recipe_dir, record_dict):
    add(recipe_dir, record_dict, "dual", 0, RIGHT)
    add(recipe_dir, record_dict, "dual", 1, ["retrieval"])
    assert "Before and after" not in render_results(recipe_dir.path)
