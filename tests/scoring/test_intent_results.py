# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md of recipes that classify utterances, and that the other pages stay as they are."""

import copy
import re
from pathlib import Path

import pytest
from record_pages import PLANNED, comparisons, section, tables

from espnet_ext.errors import DataError
from espnet_ext.scoring.intent import score_intents
from espnet_ext.scoring.metrics import percent
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.significance import interval, paired_bootstrap, resample

ROOT = Path(__file__).resolve().parents[2]
BASE = [(1, 1, 0, 1), (1, 0, 1, 1), (0, 1, 1, 1)]
BETTER = [(0, 0, 0, 1), (0, 0, 0, 0), (0, 0, 1, 0)]


def two_groups(recipe_dir, intent_record, base=BASE, new=BETTER, **other):
    for seed, (a, b) in enumerate(zip(base, new, strict=True)):
        recipe_dir.add(intent_record("base", seed, a))
        recipe_dir.add(intent_record("new", seed, b, **other))
    (recipe_dir.path / "recipe.yaml").write_text(PLANNED)


def compared(recipe_dir):
    """Return the only row of the comparison."""
    (row,) = comparisons(render_results(recipe_dir.path))
    return row


def counts(runs):
    """Return right utterances and ones, ``(S, U, 2)``."""
    return [[[1 - w, 1] for w in run] for run in runs]


GROUPS = "Accuracy by errors of the input, by label"


def test_all_systems_and_sets_stand_side_by_side(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    extra = intent_record("new", 0, BETTER[0])
    extra["sets"]["hard"] = {"asr": intent_record(wrong=(1, 1, 1, 0))["sets"]["test"]["asr"]}
    recipe_dir.add(extra)
    (recipe_dir.path / "recipe.yaml").write_text(f"data: {{test: [test, hard]}}\n{PLANNED}")
    text = render_results(recipe_dir.path)
    hard, test = "hard (WER 37.5 %)", "test (WER 37.5 %)"
    assert section(text, "Accuracy on all sets")[0] == [
        {"System": "new", test: "83.33 ± 14.43", hard: "25.00"},
        {"System": "base", test: "25.00 ± 0.00", hard: "–"},
    ]


def test_a_set_has_accuracy_interval_input_and_groups(recipe_dir, intent_record):
    for seed, wrong in enumerate(BETTER):
        recipe_dir.add(intent_record("new", seed, wrong, encoder={"source": "x/model", "k": 3}))
    text = render_results(recipe_dir.path)
    (row,) = tables(text)[0]
    scores = resample(counts(BETTER), percent)
    low, high = interval(scores)
    assert row == {
        "System": "new",
        "Seeds": "0-2",
        "Accuracy": "83.33 ± 14.43",
        "95 % interval": f"{low:.2f} to {high:.2f}",
    }
    assert "4 utterances, higher is better; decoding `asr`; text encoder `x (k 3)`." in text
    assert section(text, GROUPS)[0] == [  # rates 0, 1/4, 1/2, 3/4
        {
            "System": "new",
            "Input WER": "37.50",
            "WER ≤ 12.5 % (1)": "100.00 ± 0.00",
            "12.5 < WER ≤ 37.5 % (1)": "100.00 ± 0.00",
            "37.5 < WER ≤ 62.5 % (1)": "66.67 ± 57.74",
            "WER > 62.5 % (1)": "66.67 ± 57.74",
        }
    ]
    ((detail,),) = section(text, "Each set: parts of the score, scores by seed, decoding speed")
    assert (detail["Seed 1"], detail["Utterances per s"]) == ("100.00", "8")


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
    text = render_results(recipe_dir.path)
    assert tables(text)[0][0]["Accuracy"] == "50.00"
    assert section(text, GROUPS)[0] == [
        {
            "System": "asr_text",
            "Input WER": "25.00",
            "scenario": "100.00",
            "action": "50.00",
            "WER ≤ 25.0 % (2)": "50.00",
        }
    ]


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
    assert [[row["System"] for row in table] for table in groups] == [["b"], ["a"]]


def test_more_is_better_in_accuracy_points(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    row = compared(recipe_dir)
    r = paired_bootstrap(counts(BASE), counts(BETTER), percent, "higher")
    assert (row["Reference"], row["Score"]) == ("25.00", "83.33")
    assert row["Change"] == "+58.33" and row["Relative"].startswith("-77.8 % (")
    assert row["95 % interval"] == f"{r.low:+.2f} to {r.high:+.2f}"
    assert (row["p"], row["Verdict"]) == (f"{r.p:.3f}", "better †")
    assert 0 < r.low < r.delta < r.high


def test_worse_no_difference_and_too_few_seeds_are_said(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, base=BETTER, new=BASE)
    assert compared(recipe_dir)["Verdict"] == "worse †"
    assert compared(recipe_dir)["Change"] == "-58.33"
    two_groups(recipe_dir, intent_record, new=BASE)
    assert compared(recipe_dir)["Verdict"] == "n.s. †"
    for group in ("base", "new"):
        (recipe_dir.path / "results" / f"{group}_seed2.json").unlink()
    assert compared(recipe_dir)["Remarks"] == "2 paired seeds only"


def test_a_gain_that_one_seed_lacks_is_none(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, new=[*BETTER[:2], (1, 1, 1, 1)])
    assert compared(recipe_dir)["Verdict"] == "n.s. †"


def test_more_updates_are_told_once_and_their_gain_is_none(recipe_dir, intent_record):
    for budget, ratio, verdict in (
        ({"updates": 1500}, "15.00x", "not comparable †"),
        ({"updates": 101}, "1.01x", "better †"),  # within the tolerance
        ({"updates": 50}, "0.50x", "better †"),
        (None, "–", "not comparable †"),
    ):
        two_groups(recipe_dir, intent_record, budget=budget)
        row = compared(recipe_dir)
        assert (row["Budget"], row["Verdict"]) == (ratio, verdict)


def test_the_only_model_of_a_baseline_stands_against_each_of_two(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    for seed in range(3):
        record = intent_record("new", seed, BETTER[seed])
        record["sets"]["test"]["clean"] = record["sets"]["test"]["asr"]
        recipe_dir.add(record)
    rows = comparisons(render_results(recipe_dir.path))
    assert [(r["System"], r["Against"], r["Change"]) for r in rows] == [
        ("new (asr)", "base", "+58.33"),
        ("new (clean)", "base", "+58.33"),
    ]


def test_a_text_encoder_is_named_with_its_layers(recipe_dir, intent_record):
    about = {"source": "gt/model", "name": "all-MiniLM-L6-v2", "weights": "8dbd"}
    about |= {"layers": 2, "layers_of": 6}
    recipe_dir.add(intent_record("new", 1, [0, 1, 0, 0], encoder=about))
    text = render_results(recipe_dir.path)
    assert "; text encoder `all-MiniLM-L6-v2, 2 of 6 layers`." in text
    assert "- text encoder: all-MiniLM-L6-v2, 2 of 6 layers (from gt, weights 8dbd)" in text


def test_encoders_of_one_name_are_told_apart(recipe_dir, intent_record):
    about = {"source": "gt/model", "name": "MiniLM", "layers": 6, "layers_of": 6}
    recipe_dir.add(intent_record("new", 1, [0, 1, 0, 0], encoder={**about, "weights": "a"}))
    recipe_dir.add(intent_record("old", 1, [0, 1, 0, 0], encoder={**about, "weights": "b"}))
    a, b = (f"`MiniLM, 6 layers (from gt, weights {x})`" for x in "ab")
    assert f"text encoder {a}, {b}." in render_results(recipe_dir.path)


def test_equal_weights_are_one_encoder_whatever_else_is_told(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, encoder={"weights": "a", "name": "L"})
    for seed, wrong in enumerate(BASE):
        recipe_dir.add(intent_record("base", seed, wrong, encoder={"weights": "a"}))
    assert "text encoders differ" not in render_results(recipe_dir.path)


def test_another_text_encoder_is_said(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record, encoder={"source": "large"})
    row = compared(recipe_dir)
    assert (row["Verdict"], row["Remarks"]) == ("better †", "text encoders differ")


def test_other_labels_or_other_transcripts_are_not_compared(recipe_dir, intent_record):
    for key, words in (
        ("ref_sha256", "references differ (9999"),
        ("input_sha256", "the classified transcripts differ"),
    ):
        two_groups(recipe_dir, intent_record)
        for seed in range(3):
            record = intent_record("new", seed, BETTER[seed])
            record["sets"]["test"]["asr"][key] = "99" * 32
            recipe_dir.add(record)
        row = compared(recipe_dir)
        assert row["Verdict"] == "not comparable †" and row["Remarks"].startswith(words)


def test_costs_are_told_by_system(recipe_dir, intent_record):
    two_groups(recipe_dir, intent_record)
    record = intent_record("new", 0, BETTER[0])
    stage1 = {**record["phases"]["finetune"], "updates": 600, "train_wall_s": 360}
    for seed in range(3):
        phases = {**record["phases"], "midtrain": stage1}  # records sort their keys
        recipe_dir.add(intent_record("new", seed, BETTER[seed], phases=phases))
    rows = section(render_results(recipe_dir.path), "Costs by system")[0]
    assert [(r["System"], r["Updates"], r["Time, relative"]) for r in rows] == [
        ("new", "921", "1.00"),
        ("base", "321", "0.14"),
    ]
    assert rows[0]["Phases"] == "midtrain, finetune"


def test_the_curve_is_that_of_the_last_phase_by_stage_not_by_name(recipe_dir, intent_record):
    for seed in range(3):
        record = intent_record("new", seed)
        record["phases"]["finetune"] |= {"valid_acc": [0.5, 0.7], "params": 7}
        first = {**record["phases"]["finetune"], "valid_acc": [], "params": 5}
        record["phases"]["midtrain"] = first
        recipe_dir.add(record)
    text = render_results(recipe_dir.path)
    ((row,),) = section(text, "Learning speed")
    assert (row["Best accuracy"], row["Passes"], row["Passes to match"]) == ("0.7000", "2.0", "2.0")
    assert row["Updates"] == row["Updates to match"] == "321"
    assert section(text, "Costs by system")[0][0]["Parameters"] == "7"


def test_learning_speed_is_told_against_the_planned_reference(recipe_dir, intent_record):
    for seed in range(3):
        for group, wrong, curve in (
            ("base", BASE, [0.1, 0.4, 0.5, 0.5]),
            ("new", BETTER, [0.2, 0.6, 0.7]),
            ("poor", BASE, [0.2, 0.3]),
        ):
            record = intent_record(group, seed, wrong[seed])
            record["phases"]["finetune"]["valid_acc"] = curve
            recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text(PLANNED)
    text = render_results(recipe_dir.path)
    assert "match the best accuracy of `base` (same seed)" in text
    rows = section(text, "Learning speed")[0]
    assert [(r["System"], r["Passes"], r["Passes to match"]) for r in rows] == [
        ("new", "3.0", "2.0"),
        ("base", "4.0", "3.0"),
        ("poor", "2.0", "–"),
    ]


def test_learning_speed_is_in_passes_and_updates_whatever_an_epoch_is(recipe_dir, intent_record):
    """An epoch of `new` explores, then makes half a pass over the labelled data."""
    base = {"valid_acc": [0.3, 0.5], "valid_updates": [10, 20], "valid_passes": [1.0, 2.0]}
    new = {"valid_acc": [0.4, 0.6], "valid_updates": [95, 190], "valid_passes": [0.5, 1.0]}
    old = {"valid_acc": [0.2, 0.5], "updates": 80, "labelled_batches": 20}
    for seed in range(3):
        for group, wrong, told in (("base", BASE, base), ("new", BETTER, new), ("old", BASE, old)):
            record = intent_record(group, seed, wrong[seed])
            record["phases"]["finetune"] |= told
            record["budget"] = None
            recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text(PLANNED)
    rows = section(render_results(recipe_dir.path), "Learning speed")[0]
    columns = ("System", "Passes", "Updates", "Passes to match", "Updates to match")
    assert [tuple(r[c] for c in columns) for r in rows] == [
        ("new", "1.0", "190", "1.0", "190"),
        ("base", "2.0", "20", "2.0", "20"),
        ("old", "–", "80", "–", "80"),  # its epochs are taken as equally long
    ]


def test_words_and_intents_can_stand_on_one_page(recipe_dir, record_dict, intent_record):
    for seed in range(3):
        for group, words, wrong in (("base", (2, 1, 3), BASE), ("new", (1, 0, 1), BETTER)):
            record = record_dict(group, seed, words)
            record["sets"] |= copy.deepcopy(intent_record(group, seed, wrong[seed])["sets"])
            record["sets"]["dev"] = record_dict(group, seed, words)["sets"]["test"]
            recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text("data: {test: [dev, test]}\n")
    text = render_results(recipe_dir.path)
    rows = [*comparisons(text), *section(text, "Comparisons on other sets and by other metrics")[0]]
    assert [(r["System"], r["Against"], r["Change"], r["Verdict"]) for r in rows] == [
        ("base", "new", "+33.33", "worse"),
        ("base", "new", "-58.33", "worse"),
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
        [{"System": "ML-LMCL", "Set": "test", "Accuracy": "97.21", "Source": "a paper"}],
        [{"System": "an ASR", "Set": "test", "WER": "7.6", "Source": "a page"}],
    ]


@pytest.mark.parametrize("figures", ["", "wer: 1, accuracy: 2, "])
def test_a_published_figure_has_one_measure(recipe_dir, intent_record, figures):
    recipe_dir.add(intent_record())
    line = f"results: {{published: [{{system: x, set: y, {figures}source: z}}]}}"
    (recipe_dir.path / "recipe.yaml").write_text(line)
    with pytest.raises(DataError, match="give the value of one metric"):
        render_results(recipe_dir.path)


def test_committed_pages_are_those_of_their_records():
    pages = sorted(ROOT.glob("egs2/*/*/RESULTS.md"), key=lambda p: p.stat().st_size)
    assert len(pages) > 2
    # The smallest are enough here: every page costs a bootstrap for each of its sets.
    for page in pages[:3]:
        assert render_results(page.parent) == page.read_text(encoding="utf-8"), page


@pytest.mark.parametrize("page", sorted(ROOT.glob("egs2/*/*/RESULTS.md")), ids=str)
def test_what_a_reader_sees_of_a_page_is_short(page):
    text = page.read_text(encoding="utf-8")
    visible = re.sub(r"<details>.*?</details>", "", text, flags=re.S).splitlines()
    assert len(visible) < 150
    assert "recalled" not in text
    for picture in re.findall(r"\]\((results/.*?png)\)", text):
        assert (page.parent / picture).stat().st_size < 60_000
