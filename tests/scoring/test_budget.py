# SPDX-License-Identifier: Apache-2.0
"""Budgets: summed over phases and epochs, printed, and never compared silently when unequal."""

import pytest
from record_pages import PLANNED, comparisons, section

from espnet_ext.errors import DataError
from espnet_ext.scoring.record import load_record
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.spent import budget_line, total_budget

BASE = [(2, 1, 3), (2, 2, 3), (3, 1, 3)]
BETTER = [(1, 0, 1), (1, 1, 1), (1, 0, 2)]


@pytest.fixture
def counted(record_dict):
    """A builder of records whose only phase has counted its batches and passes."""

    def build(group, seed, errors, labelled, unlabelled, updates=321):
        record = record_dict(group, seed, errors)
        counts = {
            "labelled_batches": labelled,
            "unlabelled_batches": unlabelled,
            "passes": labelled + unlabelled,
        }
        record["phases"]["finetune"] |= {"updates": updates, **counts}
        return record | {"budget": total_budget(record["phases"].values())}

    return build


def rows_of(text, heading):
    """Return the rows of the first table below a heading or a folded summary."""
    return section(text, heading)[0]


def page(recipe_dir, records):
    """Return the page of ``records``; the comparison of ``new`` with ``base`` was planned."""
    for record in records:
        recipe_dir.add(record)
    (recipe_dir.path / "recipe.yaml").write_text(PLANNED)
    return render_results(recipe_dir.path)


def compared(recipe_dir, records):
    (row,) = comparisons(page(recipe_dir, records))
    return row


def test_phases_are_summed():
    joint = {"updates": 10, "labelled_batches": 6, "unlabelled_batches": 9, "passes": 15}
    assert total_budget([joint, joint]) == {k: 2 * v for k, v in joint.items()}
    assert total_budget([{"updates": 3}, {"updates": 4, "batches": 8}]) == {"updates": 7}
    assert total_budget([]) == {"updates": 0}


def test_a_phase_that_did_not_count_is_not_free():
    joint = {"updates": 10, "labelled_batches": 6, "unlabelled_batches": 9, "passes": 15}
    stock = {"updates": 4, "batches": 8}  # gradients of two batches make an update
    assert total_budget([stock, joint]) == {"updates": 14, "passes": 23}


def test_one_line_for_a_person():
    phase = {"train_wall_s": 782.4, "peak_rss_mb": 912, "peak_gpu_mb": 0}
    assert budget_line(phase) == "13 min 02 s, peak memory 912 MB"
    phase |= {"passes": 6300, "labelled_batches": 2275, "unlabelled_batches": 4025}
    assert budget_line(phase | {"peak_gpu_mb": 2048}) == (
        "6,300 forward-backward passes: 2,275 labelled and 4,025 unlabelled batches, 13 min 02 s, "
        "peak memory 912 MB, GPU 2,048 MB"
    )


def test_an_epoch_without_a_kind_of_batch_counts_none_of_it():
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    from espnet_ext.espnet.trainer import RunState

    plain = {"train_wall_s": 1.5, "batches": 4, "updates": 2}
    state = RunState(None, spent={"1": plain, "2": plain})
    assert not {"labelled_batches", "unlabelled_batches", "passes"} & state.total_spent().keys()
    state.spent = {
        "1": plain | {"labelled_batches": 3, "unlabelled_batches": 5, "passes": 8},
        "2": plain | {"labelled_batches": 4, "passes": 4},
    }
    spent = state.total_spent()
    assert (spent["labelled_batches"], spent["unlabelled_batches"], spent["passes"]) == (7, 5, 12)
    assert (spent["batches"], spent["updates"], spent["train_wall_s"]) == (8, 4, 3.0)


def test_a_training_that_went_on_elsewhere_tells_both_devices():
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    from espnet_ext.espnet.trainer import RunState

    epochs = [{"train_wall_s": 1.0, "device": d} for d in ("1 x A100", "1 x H100", "1 x H100")]
    state = RunState(None, spent={str(e): cost for e, cost in enumerate(epochs, 1)})
    assert state.total_spent()["devices"] == ["1 x A100", "1 x H100"]


def test_labelled_batches_are_the_budget_and_a_second_table_is_at_equal_passes(recipe_dir, counted):
    """`long` has the passes of `new`, `base` its labelled batches: each its own reference."""
    records = [counted("base", s, BASE[s], 2275, 0) for s in range(3)]
    records += [counted("long", s, BASE[s], 6300, 0, updates=6300) for s in range(3)]
    records += [counted("new", s, BETTER[s], 2275, 4025, updates=4025) for s in range(3)]
    text = page(recipe_dir, records)
    first, second = section(text, "Comparisons")[:2]
    columns = ("System", "Against", "Budget", "Passes", "Verdict")
    assert [tuple(r[c] for c in columns) for r in first] == [
        ("new", "base", "1.00x", "2.77x", "better †"),
        ("long", "new", "2.77x", "1.00x", "worse"),
        ("long", "base", "2.77x", "2.77x", "n.s."),
    ]
    assert [(r["System"], r["Against"], r["Budget"], r["Verdict"]) for r in second] == [
        ("new", "base", "2.77x", "not comparable †"),
        ("long", "new", "1.00x", "worse"),
    ]
    assert "Budgets are labelled batches here" in text and "The same systems by passes" in text


@pytest.mark.parametrize(
    ("unlabelled", "budget", "passes", "verdict"),
    [("", "2.00x", None, "not comparable †"), ("pretrain", "1.00x", "2.00x", "better †"),
     ("midtrain", "2.00x", None, "not comparable †")],
)  # fmt: skip
def test_updates_of_phases_without_labels_are_no_labelled_budget(
    recipe_dir, record_dict, unlabelled, budget, passes, verdict
):
    """A recipe names these phases; records from before it did so are read alike."""
    for seed in range(3):
        base, new = record_dict("base", seed, BASE[seed]), record_dict("new", seed, BETTER[seed])
        new["phases"]["pretrain"] = new["phases"]["finetune"]
        for record in (base, new):
            recipe_dir.add(record | {"budget": total_budget(record["phases"].values())})
    section_of_recipe = f"{{planned: {{system: new, against: base}}, unlabelled: [{unlabelled}]}}"
    (recipe_dir.path / "recipe.yaml").write_text(f"results: {section_of_recipe}\n")
    row = comparisons(render_results(recipe_dir.path))[0]
    assert (row["Budget"], row.get("Passes"), row["Verdict"]) == (budget, passes, verdict)


def test_a_phase_without_labels_is_one_of_the_recipe_s_phases(recipe_dir, record_dict):
    recipe_dir.add(record_dict("base", 0, BASE[0]))
    (recipe_dir.path / "recipe.yaml").write_text("results: {unlabelled: [pretraining]}\n")
    with pytest.raises(DataError, match=r"results\.unlabelled\.0"):
        render_results(recipe_dir.path)


def test_more_labelled_batches_are_a_larger_budget_at_equal_passes(recipe_dir, counted):
    base = [counted("base", s, BASE[s], 2275, 4025) for s in range(3)]
    new = [counted("new", s, BETTER[s], 6300, 0) for s in range(3)]
    first, second = section(page(recipe_dir, base + new), "Comparisons")[:2]
    assert [r["Verdict"] for r in (*first, *second)] == ["not comparable †", "better †"]


def test_equal_passes_are_told_whatever_the_batches_and_updates(recipe_dir, counted):
    base = [counted("base", s, BASE[s], 6300, 0, updates=6300) for s in range(3)]
    joint = [counted("new", s, BETTER[s], 2275, 4025, updates=4025) for s in range(3)]
    text = page(recipe_dir, base + joint)
    (row,) = comparisons(text)
    assert (row["Budget"], row["Passes"], row["Verdict"]) == ("0.36x", "1.00x", "better †")
    budgets = {r["System"]: r for r in rows_of(text, "Budgets")}
    columns = ("Updates", "Labelled batches", "Unlabelled batches", "Passes", "Training time")
    assert [budgets["base"][c] for c in columns] == ["6,300", "6,300", "0", "6,300", "1 min 00 s"]
    assert [budgets["new"][c] for c in columns[:4]] == ["4,025", "2,275", "4,025", "6,300"]
    assert budgets["new"]["Peak memory (MB)"] == "901"
    costs = {r["Run"]: r for r in rows_of(text, "Costs by run")}
    assert [costs["new_seed1"][c] for c in columns[1:4]] == ["2,275", "4,025", "6,300"]


@pytest.mark.parametrize(("passes", "equal"), [(10_000, True), (9_900, True), (9_899, False)])
def test_one_percent_is_the_tolerance_in_both_directions(recipe_dir, counted, passes, equal):
    pairs = [(10_000, passes), (passes, 10_000)]
    for of_base, of_new in pairs:
        records = [counted("base", s, BASE[s], of_base, 0) for s in range(3)]
        records += [counted("new", s, BETTER[s], of_new, 0) for s in range(3)]
        row = compared(recipe_dir, records)
        # A gain in spite of a smaller budget is one; a gain with a larger budget is none.
        favoured = not equal and of_new > of_base
        assert row["Verdict"] == ("not comparable †" if favoured else "better †")
        assert row["Budget"] == f"{of_new / of_base:.2f}x"


@pytest.mark.parametrize(
    ("base", "new", "ratio", "verdict"),
    [
        ((2300, 4000), (1900, 4400), "0.83x", "better †"),  # better with less
        ((1900, 4400), (2300, 4000), "1.21x", "not comparable †"),
        ((2300, 1900), (2300, 4000), "1.00x", "better †"),  # unlabelled batches come on top
    ],
)
def test_a_gain_of_the_larger_budget_is_none(recipe_dir, counted, base, new, ratio, verdict):
    records = [counted("base", s, BASE[s], *base) for s in range(3)]
    records += [counted("new", s, BETTER[s], *new) for s in range(3)]
    row = compared(recipe_dir, records)
    assert (row["Budget"], row["Verdict"], row["Change"]) == (ratio, verdict, "-33.33")


def test_a_loss_in_spite_of_the_larger_budget_is_one(recipe_dir, counted):
    records = [counted("base", s, BETTER[s], 1000, 0) for s in range(3)]
    records += [counted("new", s, BASE[s], 2000, 0) for s in range(3)]
    assert compared(recipe_dir, records)["Verdict"] == "worse †"
    for record in [counted("new", s, BASE[s], 500, 0) for s in range(3)]:
        recipe_dir.add(record)
    assert compared(recipe_dir, [])["Verdict"] == "not comparable †"


def test_each_system_stands_against_the_strongest_of_its_budget(recipe_dir, counted):
    half = [(2, 0, 2), (2, 1, 2), (2, 0, 3)]
    for group, errors, passes in (("a", BASE, 100), ("b", half, 100), ("c", BETTER, 200)):
        for s in range(3):
            recipe_dir.add(counted(group, s, errors[s], passes, 0))
    rows = comparisons(render_results(recipe_dir.path))
    found = [(r["System"], r["Against"], r["Budget"]) for r in rows]
    assert found == [("b", "c", "0.50x"), ("a", "b", "1.00x")]


def test_one_longer_run_makes_its_group_unequal(recipe_dir, counted):
    records = [counted("base", s, BASE[s], 1000, 0) for s in range(3)]
    records += [counted("new", s, BETTER[s], 1000 + 100 * (s == 2), 0) for s in range(3)]
    text = page(recipe_dir, records)
    (row,) = comparisons(text)
    assert (row["Budget"], row["Verdict"]) == ("1.03x", "not comparable †")
    assert rows_of(text, "Budgets")[0]["Passes"] == "1,000 to 1,100"


@pytest.mark.parametrize(
    ("updates", "ratio", "verdict"),
    [(321, "1.00x", "better †"), (320, "1.00x", "better †"), (300, "1.07x", "not comparable †")],
)
def test_passes_on_one_side_only_are_judged_by_updates(
    recipe_dir, record_dict, counted, updates, ratio, verdict
):
    records = [record_dict("base", s, BASE[s], budget={"updates": updates}) for s in range(3)]
    records += [counted("new", s, BETTER[s], 300, 21) for s in range(3)]
    text = page(recipe_dir, records)
    (row,) = comparisons(text)
    assert (row["Budget"], row["Verdict"]) == (ratio, verdict)
    assert row["Remarks"] == "compared in updates: not all runs counted passes"
    assert rows_of(text, "Budgets")[1]["Passes"] == "–"


def test_pages_of_runs_without_passes_have_no_new_column(recipe_dir, record_dict):
    recipe_dir.add(record_dict(budget={"updates": 321}))
    text = render_results(recipe_dir.path)
    assert "Budgets</summary>" not in text
    assert "Passes" not in text and "Labelled batches" not in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"passes": 6299}, "budget.passes is 6299, the phases have 6300"),
        ({"passes": None}, "not usable"),
        ({"passes": "many"}, "budget.passes is 'many', not a count"),
        ({"passes": -1}, "not a count"),
        ({"unlabelled_batches": 4025.0}, "not a count"),
    ],
)
def test_a_budget_that_is_not_that_of_the_phases_is_refused(recipe_dir, counted, change, words):
    record = counted("base", 1, BASE[0], 2275, 4025)
    record["budget"] |= change
    with pytest.raises(DataError, match=words):
        load_record(recipe_dir.add(record))


def test_a_missing_sum_is_refused_where_all_phases_counted(recipe_dir, counted):
    record = counted("base", 1, BASE[0], 2275, 4025)
    del record["budget"]["passes"]
    with pytest.raises(DataError, match=r"budget\.passes is None, the phases have 6300"):
        load_record(recipe_dir.add(record))
