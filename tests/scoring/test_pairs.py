# SPDX-License-Identifier: Apache-2.0
"""Which systems are compared, and that a new metric is compared without any further change."""

import copy

import pytest
from record_pages import comparisons, section, tables

from espnet_ext.errors import DataError
from espnet_ext.scoring.results import render_results

GOOD = [(1, 0, 1), (1, 1, 1), (1, 0, 2)]
FAIR = [(2, 0, 2), (2, 1, 2), (2, 0, 3)]
POOR = [(2, 1, 3), (2, 2, 3), (3, 1, 3)]
OWN = """
import numpy as np
from espnet_ext.scoring.metrics import Metric

METRIC = Metric(
    "hits", "Hit rate", "higher", ("hits", "tries"),
    lambda refs, hyps: np.ones((len(refs), 2), dtype=int), note="Made for a test.",
)
"""


def three_groups(recipe_dir, record_dict, change=lambda record: record):
    for group, errors in (("good", GOOD), ("fair", FAIR), ("poor", POOR)):
        for seed in range(3):
            recipe_dir.add(change(record_dict(group, seed, errors[seed])))


def plan(recipe_dir, settings):
    (recipe_dir.path / "recipe.yaml").write_text(settings)
    return render_results(recipe_dir.path)


def pairs(rows):
    return [(r["System"], r["Against"]) for r in rows]


def test_all_stand_against_the_strongest_and_against_the_planned_reference(recipe_dir, record_dict):
    three_groups(recipe_dir, record_dict)
    text = plan(recipe_dir, "")
    assert pairs(comparisons(text)) == [("fair", "good"), ("poor", "good")]
    assert "this page: 2, chosen from 3 pairs." in text
    text = plan(recipe_dir, "results: {planned: {system: fair, against: poor}}")
    rows = comparisons(text)
    assert "this page: 3, chosen from 2 pairs besides the planned one." in text
    # The pair of good and poor is there already, the other way round.
    assert pairs(rows) == [("fair", "poor"), ("fair", "good"), ("poor", "good")]
    assert [r["Verdict"].endswith(" †") for r in rows] == [True, False, False]
    first = {r["System"]: r for r in tables(text)[0]}
    assert (first["fair"]["Against"], first["good"]["Verdict"]) == ("good", "reference")


def test_an_ablation_stands_against_the_planned_system_and_is_no_reference(recipe_dir, record_dict):
    """A lucky variant of the method must not take the place of the baseline, nor cost a pair."""
    three_groups(recipe_dir, record_dict)
    for seed in range(3):
        recipe_dir.add(record_dict("no_part", seed, [x + 1 for x in POOR[seed]]))
    text = plan(recipe_dir, "results: {planned: {system: fair, against: poor}}")
    assert ("no_part", "good") in pairs(comparisons(text)) and "from 5 pairs besides" in text
    whole = "results: {planned: {system: fair, against: poor, ablations: [no_part, good]}}"
    text = plan(recipe_dir, whole)
    rows = comparisons(text)
    assert pairs(rows) == [("fair", "poor"), ("good", "fair"), ("no_part", "fair")]
    assert "this page: 3, chosen from 2 pairs besides the planned one." in text
    assert "; ablations against `fair` alone." in text
    first = {r["System"]: r["Against"] for r in tables(text)[0]}
    assert first == {"good": "fair", "fair": "poor", "poor": "–", "no_part": "fair"}
    with pytest.raises(DataError, match="'poor' is planned to be compared, and so no ablation"):
        plan(recipe_dir, whole.replace("good", "poor"))
    # Without results of the planned system nothing is said of its parts.
    text = plan(recipe_dir, whole.replace("system: fair", "system: soon"))
    assert pairs(comparisons(text)) == [("poor", "fair")] and "ablations" not in text


def test_one_lucky_run_is_no_reference_of_systems_with_seeds(recipe_dir, record_dict):
    three_groups(recipe_dir, record_dict)
    recipe_dir.add(record_dict("lucky", 0, (0, 0, 0)))
    assert pairs(comparisons(plan(recipe_dir, ""))) == [("fair", "good"), ("poor", "good")]
    recipe_dir.add(record_dict("luckless", 0, (9, 9, 9)))  # no claim is possible: the strongest
    assert pairs(comparisons(plan(recipe_dir, "")))[-1] == ("luckless", "lucky")


def test_the_planned_comparison_is_of_one_set_and_decoding(recipe_dir, record_dict):
    def twice(record):
        decoded = record["sets"]["test"]["greedy_ctc"]
        record["sets"] = {s: {"beam": decoded, "greedy_ctc": decoded} for s in ("easy", "test")}
        return record

    three_groups(recipe_dir, record_dict, twice)
    planned = "system: good, against: poor, set: test, decoding: greedy_ctc"
    text = plan(recipe_dir, f"data: {{test: [easy, test]}}\nresults: {{planned: {{{planned}}}}}")
    row, *main = comparisons(text)  # the planned one is visible, whatever its set
    assert (row["Set"], row["System"], row["Verdict"][-1]) == ("test", "good (greedy_ctc)", "†")
    assert {r["Set"] for r in main} == {"easy"} and len(main) == 4
    others = section(text, "Comparisons on other sets and by other metrics")[0]
    against_poor = [r["System"] for r in others if r["Against"] == "poor (greedy_ctc)"]
    assert "fair (greedy_ctc)" in against_poor and "good (greedy_ctc)" not in against_poor


def test_only_what_is_listed_is_compared_and_corrected_for(recipe_dir, record_dict):
    def twice(record):
        record["sets"]["easy"] = copy.deepcopy(record["sets"]["test"])
        return record

    three_groups(recipe_dir, record_dict, twice)
    every = plan(recipe_dir, "data: {test: [test, easy]}")
    few = plan(recipe_dir, "results: {compare: {metrics: [wer], sets: [test]}}")
    assert "this page: 4, chosen from 6 pairs." in every and "recipe.yaml lists" not in every
    assert "this page: 2, chosen from 3 pairs. recipe.yaml lists what is compared: " in few
    assert "metrics `wer`; sets `test`." in few
    planned = "results: {planned: {system: a, against: b, metric: wre}}"
    with pytest.raises(DataError, match="'wre' is no metric"):
        plan(recipe_dir, planned)
    with pytest.raises(DataError, match="'wor' is no metric"):
        plan(recipe_dir, "results: {compare: {metrics: [wor]}}")


def test_a_metric_of_the_recipe_is_shown_and_compared(recipe_dir, record_dict):
    """One file and its name in recipe.yaml are all that it takes."""
    (recipe_dir.path / "local").mkdir()
    (recipe_dir.path / "local/hits.py").write_text(OWN)
    for group, hits in (("base", 1), ("new", 3)):
        for seed in range(3):
            record = copy.deepcopy(record_dict(group, seed, POOR[seed]))
            decoded = record["sets"]["test"]["greedy_ctc"]
            per_utt = {"hits": [hits, hits, 1], "tries": [4, 4, 4]}
            decoded["metrics"] = {
                "hits": {
                    "title": "Hit rate",
                    "better": "higher",
                    "value": 100 * (2 * hits + 1) / 12,
                    "totals": {k: sum(v) for k, v in per_utt.items()},
                    "per_utt": per_utt,
                }
            }
            decoded["ids_sha256"] = decoded["per_utt"]["ids_sha256"]
            for key in ("wer", "cer", "per_utt"):
                del decoded[key]
            recipe_dir.add(record | {"schema": 2})
    text = plan(recipe_dir, "score: {metrics: ['local.hits:METRIC']}")
    assert "## Hit rate on test" in text and "Made for a test." in text
    assert [(r["System"], r["Hit rate"]) for r in tables(text)[0]] == [
        ("new", "58.33 ± 0.00"),
        ("base", "25.00 ± 0.00"),
    ]
    (row,) = comparisons(text)
    assert (row["System"], row["Change"], row["Relative"][:6]) == ("base", "-33.33", "+80.0 ")
    assert row["Verdict"] in ("worse", "n.s.")


@pytest.mark.parametrize("metrics", ["", "score: {metrics: [wer, cer]}"])
def test_a_metric_without_counts_by_utterance_is_shown_but_not_compared(
    recipe_dir, record_dict, metrics
):
    three_groups(recipe_dir, record_dict)  # records of schema 1 keep totals of CER only
    text = plan(recipe_dir, metrics)
    assert tables(text)[0][0]["CER"] == "5.00 ± 0.00"
    assert "Metric" not in comparisons(text)[0]


def test_the_first_metric_is_visible_and_the_others_are_compared_too(recipe_dir, record_dict):
    def both(record):
        decoded = record["sets"]["test"]["greedy_ctc"]
        errors, words = (decoded["per_utt"][k] for k in ("word_errors", "word_ref"))
        totals = {"errors": sum(errors), "ref": sum(words), "sub": sum(errors), "del": 0, "ins": 0}
        scored = {"better": "lower", "value": 100 * sum(errors) / sum(words), "totals": totals}
        scored["per_utt"] = {"errors": errors, "ref": words}
        decoded["ids_sha256"] = decoded["per_utt"]["ids_sha256"]
        decoded["metrics"] = {"wer": {"title": "WER", **scored}, "cer": {"title": "CER", **scored}}
        for key in ("wer", "cer", "per_utt"):
            del decoded[key]
        return record | {"schema": 2}

    three_groups(recipe_dir, record_dict, both)
    text = plan(recipe_dir, "score: {metrics: [wer, cer]}")
    assert "## WER on test" in text and "Comparisons on this page: 4, chosen from 6 pairs." in text
    main = comparisons(text)
    others = section(text, "Comparisons on other sets and by other metrics")[0]
    assert pairs(main) == pairs(others) == [("fair", "good"), ("poor", "good")]
    assert {r["Change"] for r in main} == {r["Change"] for r in others}
