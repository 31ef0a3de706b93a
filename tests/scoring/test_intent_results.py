# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md of recipes that classify utterances, and that the other pages stay as they are."""

import copy
from pathlib import Path

import pytest
from record_pages import tables

from espnet_ext.errors import DataError
from espnet_ext.scoring.intent import score_intents, wilson_interval
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.significance import paired_bootstrap

ROOT = Path(__file__).resolve().parents[2]
BASE = [(1, 1, 0, 1), (1, 0, 1, 1), (0, 1, 1, 1)]
BETTER = [(0, 0, 0, 1), (0, 0, 0, 0), (0, 0, 1, 0)]


def two_groups(recipe_dir, intent_record, base=BASE, new=BETTER, **other):
    for seed, (a, b) in enumerate(zip(base, new, strict=True)):
        recipe_dir.add(intent_record("base", seed, a))
        recipe_dir.add(intent_record("new", seed, b, **other))
    (recipe_dir.path / "recipe.yaml").write_text("results: {baseline: base}\n")


def compared(recipe_dir):
    """Return the only row of the comparison."""
    (row,) = next(t for t in tables(render_results(recipe_dir.path)) if "Verdict" in t[0])
    return row


def test_the_page_begins_with_all_systems_and_sets(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    extra = intent_record("new", 0, BETTER[0])
    extra["sets"]["hard"] = {"asr": intent_record(wrong=(1, 1, 1, 0))["sets"]["test"]["asr"]}
    recipe_dir.add(extra)
    text = render_results(recipe_dir.path)
    hard, test = "hard (WER 37.5 %)", "test (WER 37.5 %)"
    assert "## Accuracy of all systems\n\nDecoding `asr`:\n" in text
    assert tables(text)[0] == [
        {"System": "base", hard: "–", test: "25.00 ± 0.00", "Seeds": "0, 1, 2"},
        {"System": "new", hard: "25.00", test: "83.33 ± 14.43", "Seeds": "0, 1, 2"},
    ]


def test_a_set_has_accuracy_interval_input_and_groups(recipe_dir, intent_record):
    for seed, wrong in enumerate(BETTER):
        recipe_dir.add(intent_record("new", seed, wrong))
    text = render_results(recipe_dir.path)
    assert "## test, asr" in text.splitlines()
    _, (row,), (groups,) = tables(text)[:3]
    low, high = wilson_interval(10 / 3, 4)  # the mean of three seeds, not twelve utterances
    assert row == {
        "System": "new",
        "Accuracy": "83.33 ± 14.43",
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "Input WER": "37.50",
        "Utterances": "4",
        "Utterances per s": "8",
        "Seeds": "0, 1, 2",
    }
    assert groups == {  # rates 0, 1/4, 1/2, 3/4
        "System": "new",
        "WER ≤ 12.5 % (1)": "100.00 ± 0.00",
        "12.5 < WER ≤ 37.5 % (1)": "100.00 ± 0.00",
        "37.5 < WER ≤ 62.5 % (1)": "66.67 ± 57.74",
        "WER > 62.5 % (1)": "66.67 ± 57.74",
    }
    assert "Wilson" in text and "S / D / I" not in text and "RTF" not in text


def test_several_heads_have_a_column_each_and_empty_groups_none(recipe_dir, intent_record):
    record = intent_record()
    decoded = record["sets"]["test"]["asr"]
    labels = {"u0": ("email", "query"), "u1": ("email", "send")}
    found = {"u0": ("email", "query"), "u1": ("email", "query")}
    decoded["intent"] = score_intents(
        labels, found, ["scenario", "action"], dict.fromkeys(labels, (1, 4))
    )
    decoded["utterances"] = 2
    recipe_dir.add(record)
    _, (row,), (groups,) = tables(render_results(recipe_dir.path))[:3]
    assert (row["Accuracy"], row["scenario"], row["action"]) == ("50.00", "100.00", "50.00")
    assert groups == {"System": "asr_text", "WER ≤ 25.0 % (2)": "50.00"}


def test_systems_of_differing_input_text_have_their_own_groups(recipe_dir, intent_record):
    recipe_dir.add(intent_record("a", 1))
    other = intent_record("b", 1)
    utts = [f"u{i}" for i in range(4)]
    other["sets"]["test"]["asr"]["intent"] = score_intents(
        dict.fromkeys(utts, ("a",)),
        dict.fromkeys(utts, ("a",)),
        ["intent"],
        {u: (i, 8) for i, u in enumerate(utts)},
    )
    recipe_dir.add(other)
    groups = [t for t in tables(render_results(recipe_dir.path)) if any("WER ≤" in k for k in t[0])]
    assert [[row["System"] for row in table] for table in groups] == [["a"], ["b"]]


def test_more_is_better_in_accuracy_points(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    row, result = compared(recipe_dir), paired_bootstrap(BASE, BETTER, [1] * 4)
    assert (row["Accuracy baseline"], row["Accuracy"]) == ("25.00", "83.33")
    assert (row["Change"], row["Errors"]) == ("+58.33", "-77.8 %")
    assert result.delta_abs < 0 and result.low <= result.high
    assert row["95 % interval"] == f"{-result.high:+.2f} to {-result.low:+.2f}"
    assert row["P(better)"] == f"{result.p_better:.3f}"
    assert row["Verdict"] == "better: the interval lies above 0"


def test_worse_no_difference_and_too_few_seeds_are_said(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, base=BETTER, new=BASE)
    assert compared(recipe_dir)["Verdict"] == "worse: the interval lies below 0"
    assert compared(recipe_dir)["Change"] == "-58.33"
    two_groups(recipe_dir, intent_record, new=BASE)
    assert compared(recipe_dir)["Verdict"] == "no difference shown: the interval holds 0"
    for group in ("base", "new"):
        (recipe_dir.path / "results" / f"{group}_seed2.json").unlink()
    assert compared(recipe_dir)["Verdict"] == "fewer than 3 seeds: not a claim"


def test_a_gain_that_one_seed_lacks_is_said_in_accuracy(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, new=[*BETTER[:2], (1, 1, 1, 1)])
    assert compared(recipe_dir)["Verdict"].endswith("; not on every seed (+50.00, +75.00, -25.00)")


def test_unequal_updates_are_no_refusal_but_said(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, budget={"updates": 1500})
    assert compared(recipe_dir)["Verdict"] == (
        "better: the interval lies above 0; "
        "unequal budget: 1,500 updates against 100 of the baseline"
    )
    two_groups(recipe_dir, intent_record, budget={"updates": 101})  # within the tolerance
    assert compared(recipe_dir)["Verdict"] == "better: the interval lies above 0"
    two_groups(recipe_dir, intent_record, budget=None)
    assert "unequal budget: not recorded in all runs" in compared(recipe_dir)["Verdict"]


def test_the_only_model_of_a_baseline_stands_against_each_of_two(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    for seed in range(3):
        record = intent_record("new", seed, BETTER[seed])
        record["sets"]["test"]["clean"] = record["sets"]["test"]["asr"]
        recipe_dir.add(record)
    rows = next(t for t in tables(render_results(recipe_dir.path)) if "Verdict" in t[0])
    assert [(r["Decoding"], r["Change"]) for r in rows] == [
        ("asr", "+58.33"),
        ("clean (baseline: asr)", "+58.33"),
    ]


def test_another_text_encoder_is_said(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, encoder={"source": "large"})
    assert compared(recipe_dir)["Verdict"] == (
        "better: the interval lies above 0; text encoders differ"
    )


def test_other_labels_or_other_transcripts_are_not_compared(recipe_dir, intent_record):
    for key, words in (
        ("ref_sha256", "references differ (baseline abab"),
        ("input_sha256", "transcripts that were classified differ"),
    ):
        two_groups(recipe_dir, intent_record)
        for seed in range(3):
            record = intent_record("new", seed, BETTER[seed])
            record["sets"]["test"]["asr"][key] = "99" * 32
            recipe_dir.add(record)
        assert compared(recipe_dir)["Verdict"].startswith(f"not compared: {words}")


def test_costs_are_told_by_system(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    record = intent_record("new", 0, BETTER[0])
    stage1 = {**record["phases"]["finetune"], "updates": 600, "train_wall_s": 360}
    for seed in range(3):
        phases = {"midtrain": stage1, **record["phases"]}
        recipe_dir.add(intent_record("new", seed, BETTER[seed], phases=phases))
    rows = next(t for t in tables(render_results(recipe_dir.path)) if "Phases" in t[0])
    assert [(r["System"], r["Updates"], r["Time, relative"]) for r in rows] == [
        ("base", "321", "1.00"),
        ("new", "921", "7.00"),
    ]
    assert rows[1]["Phases"] == "midtrain, finetune"


def test_the_development_curve_is_called_accuracy_of_utterances(recipe_dir, intent_record):
    record = intent_record()
    record["phases"]["finetune"]["valid_acc"] = [0.5, 0.7]
    recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text("results: {baseline: asr_text}\n")
    text = render_results(recipe_dir.path)
    assert "\nAccuracy on the development set" in text and "Token accuracy" not in text


def test_words_and_intents_can_stand_on_one_page(recipe_dir, record_dict, intent_record):
    for seed in range(3):
        for group, words, wrong in (("base", (2, 1, 3), BASE), ("new", (1, 0, 1), BETTER)):
            record = record_dict(group, seed, words)
            record["sets"] |= copy.deepcopy(intent_record(group, seed, wrong[seed])["sets"])
            record["sets"]["dev"] = record_dict(group, seed, words)["sets"]["test"]
            recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text("results: {baseline: base}\n")
    found = [t for t in tables(render_results(recipe_dir.path)) if "Verdict" in t[0]]
    assert [(t[0]["Set"], t[0]["Decoding"], t[0]["Verdict"]) for t in found] == [
        ("dev", "greedy_ctc", "better: the interval lies below 0"),
        ("test", "asr", "better: the interval lies above 0"),
    ]


def test_published_accuracies(recipe_dir, intent_record):
    recipe_dir.add(intent_record())
    (recipe_dir.path / "recipe.yaml").write_text(
        "results:\n  published:\n"
        "    - {system: ML-LMCL, set: test, accuracy: 97.21, source: a paper}\n"
        "    - {system: an ASR, set: test, wer: 7.6, source: a page}\n"
    )
    found = [t for t in tables(render_results(recipe_dir.path)) if "Source" in t[0]]
    assert found == [
        [{"System": "an ASR", "Set": "test", "WER": "7.6", "Source": "a page"}],
        [{"System": "ML-LMCL", "Set": "test", "Accuracy": "97.21", "Source": "a paper"}],
    ]


@pytest.mark.parametrize("figures", ["", "wer: 1, accuracy: 2, "])
def test_a_published_figure_has_one_measure(recipe_dir, intent_record, figures):
    recipe_dir.add(intent_record())
    line = f"results: {{published: [{{system: x, set: y, {figures}source: z}}]}}"
    (recipe_dir.path / "recipe.yaml").write_text(line)
    with pytest.raises(DataError, match="either wer or accuracy"):
        render_results(recipe_dir.path)


def test_pages_of_word_errors_have_not_changed():
    pages = sorted(ROOT.glob("egs2/*/*/RESULTS.md"))
    words = [p for p in pages if "WER and CER in percent" in p.read_text(encoding="utf-8")]
    assert words
    # The smallest are enough here: every page costs a bootstrap for each of its rows.
    for page in sorted(words, key=lambda p: p.stat().st_size)[:2]:
        assert render_results(page.parent) == page.read_text(encoding="utf-8"), page
