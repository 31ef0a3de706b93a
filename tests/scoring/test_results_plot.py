# SPDX-License-Identifier: Apache-2.0
"""The pictures of a results page show what the records say, and are linked where they exist."""

import sys

import pytest
from record_pages import section, tables

from espnet_ext.scoring.results import render_results, write_results

ERRORS = [(2, 1, 3), (2, 2, 3), (3, 1, 3)]


def add_groups(recipe_dir, record_dict, curves=None):
    for seed in range(3):
        for group, less in (("$b", 0), ("a", 1)):
            record = record_dict(group, seed, tuple(e - less for e in ERRORS[seed]))
            record["name"] = f"{group.strip('$')}_{seed}"
            if curves:
                record["phases"]["finetune"]["valid_acc"] = curves[seed]
            recipe_dir.add(record)


def test_systems_are_drawn_from_the_best_with_a_dot_for_each_seed(recipe_dir, record_dict, drawn):
    add_groups(recipe_dir, record_dict)
    text = write_results(recipe_dir.path).read_text()
    assert "](results/scores.png)" in text and "curves.png" not in text
    (axes,) = drawn[0].axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["a", r"\$b"]
    dots = [sorted(line.get_xdata()) for line in axes.lines if line.get_marker() == "o"]
    assert dots[0] == pytest.approx([25.0, 100 / 3, 100 / 3])
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert means == pytest.approx([275 / 9, 500 / 9])
    assert axes.yaxis.get_inverted()  # the best on top
    assert axes.get_xlabel() == "WER (%) on test, lower is better"


def test_curves_are_drawn_as_percent_by_pass(recipe_dir, record_dict, drawn):
    add_groups(recipe_dir, record_dict, [[0.1, 0.2, 0.3], [0.3, 0.4, 0.5], [0.2, 0.3]])
    text = write_results(recipe_dir.path).read_text()
    assert "](results/curves.png)" in text
    (axes,) = drawn[1].axes
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert [line.get_label() for line in thick] == ["a", r"\$b"]
    assert list(thick[0].get_xdata()) == [1, 2]  # epochs that all seeds have
    assert list(thick[0].get_ydata()) == pytest.approx([20.0, 30.0])
    assert axes.get_xlabel().startswith("Passes over the labelled data")


def test_curves_are_drawn_by_updates_where_passes_are_not_known(recipe_dir, record_dict, drawn):
    for group, counts in (("a", {"labelled_batches": 5}), ("b", {"valid_updates": [30, 40]})):
        record = record_dict(group, 1, ERRORS[0])
        record["phases"]["finetune"] |= {"valid_acc": [0.1, 0.2], "updates": 20, **counts}
        record["budget"] = None
        recipe_dir.add(record)
    write_results(recipe_dir.path)
    (axes,) = drawn[1].axes
    thick = [line for line in axes.lines if line.get_linewidth() > 1]
    assert [list(line.get_xdata()) for line in thick] == [[10, 20], [30, 40]]
    assert axes.get_xlabel().startswith("Updates")


def test_without_matplotlib_the_page_has_no_pictures(recipe_dir, record_dict, monkeypatch):
    add_groups(recipe_dir, record_dict)
    for name in [n for n in sys.modules if n.startswith("matplotlib")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert ".png" not in write_results(recipe_dir.path).read_text()


def test_the_page_of_the_records_is_that_which_was_written(recipe_dir, record_dict):
    pytest.importorskip("matplotlib")
    add_groups(recipe_dir, record_dict)
    assert write_results(recipe_dir.path).read_text() == render_results(recipe_dir.path)


def test_sweeps_stand_apart_and_are_not_compared(recipe_dir, record_dict):
    add_groups(recipe_dir, record_dict)
    for seed in range(3):
        for value in ("0.1", "0.2"):
            recipe_dir.add(record_dict(f"sweep_lr_{value}", seed, (0, 0, 1)))
    (recipe_dir.path / "results/sweep_lr.png").write_bytes(b"")
    text = render_results(recipe_dir.path)
    assert "## Sweeps\n\n![Sweep lr](results/sweep_lr.png)" in text
    assert "chosen from 1 pair" in text
    assert [r["System"] for r in tables(text)[0]] == ["a", "$b"]
    rows = section(text, "Sweeps: scores of each setting")[0]
    assert [(r["System"], r["WER on test"]) for r in rows] == [
        ("sweep_lr_0.1", "8.33 ± 0.00"),
        ("sweep_lr_0.2", "8.33 ± 0.00"),
    ]
    assert len(section(text, "Costs by run")[0]) == 12


def test_a_page_of_sweeps_only_has_no_systems(recipe_dir, record_dict):
    recipe_dir.add(record_dict("sweep_lr_1", 1))
    text = render_results(recipe_dir.path)
    assert "sweep_lr_1" in text and "## WER on test" not in text
