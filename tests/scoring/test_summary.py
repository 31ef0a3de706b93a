# SPDX-License-Identifier: Apache-2.0
"""The table and figure over recipes: what a verdict stands on, and that README.md is current."""

from pathlib import Path

import pytest
from record_pages import tables

from espnet_ext import cli
from espnet_ext.errors import DataError, UsageError
from espnet_ext.scoring import summary, summary_page
from espnet_ext.scoring.plot import note_of

ROOT = Path(__file__).resolve().parents[2]
MARKS = "# Title\n\n<!-- results: egs2/an4/asr1{} -->\nold\n<!-- end of results -->\nend\n"
FIGURE = "; figure: pictures/results.png"
WRONG = {"base": [(3, 2, 4), (3, 3, 4), (4, 2, 4)], "good": [(1, 1, 1), (1, 1, 2), (2, 0, 1)]}


@pytest.fixture
def page(recipe_dir, record_dict):
    """A page over one recipe that planned ``good`` against ``base``."""
    for group, runs in WRONG.items():
        for seed, errors in enumerate(runs):
            recipe_dir.add(record_dict(group, seed, errors))
    (recipe_dir.path / "recipe.yaml").write_text(
        "results: {planned: {system: good, against: base}}\n"
    )
    path = recipe_dir.root / "README.md"
    path.write_text(MARKS.format(FIGURE))
    return path


def test_the_row_is_the_planned_comparison_and_its_interval_covers_both(page, capsys):
    assert cli.main(["results", "--page", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    text = page.read_text()
    assert text.startswith("# Title\n") and text.endswith("<!-- end of results -->\nend\n")
    assert "old" not in text
    (row,) = tables(text)[0]
    assert row["Recipe"] == "[an4/asr1](egs2/an4/asr1/RESULTS.md)"
    assert row["Baseline"] == "80.56 (base)" and row["Method"] == "27.78 (good)"
    assert row["Seeds"] == "3" and row["Budget"] == "1.00x" and row["Verdict"] == "**better**"
    (found,) = summary.read_rows(page.parent, ["egs2/an4/asr1"])
    result, (low, high) = found.comparison.result, found.interval
    assert low == min(result.low, result.t_low) and high == max(result.high, result.t_high)
    assert "Verdicts of the planned comparisons: 1 better." in text
    before, now = summary_page.current(page)
    assert before == now


def test_the_figure_knows_what_it_was_drawn_from(page):
    summary_page.write_page(page)
    lines = summary_page.current(page)[1].splitlines()
    assert note_of(page.parent / "pictures/results.png") == summary_page.fingerprint(lines)


def test_a_recipe_without_a_plan_shows_its_best_system(page, recipe_dir):
    (recipe_dir.path / "recipe.yaml").write_text("title: x\n")
    page.write_text(MARKS.format(""))
    summary_page.write_page(page)
    (row,) = tables(page.read_text())[0]
    assert row["Method"] == "27.78 (good)" and row["Baseline"] == row["Verdict"] == "–"
    assert "![" not in page.read_text() and "planned comparisons" not in page.read_text()


def test_what_is_missing_is_told(page, recipe_dir):
    with pytest.raises(UsageError, match="no such page"):
        summary_page.write_page(page.with_name("none.md"))
    (recipe_dir.path / "recipe.yaml").write_text(
        "results: {planned: {system: best, against: base}}\n"
    )
    with pytest.raises(DataError, match="best against base"):
        summary_page.write_page(page)
    page.write_text("# No marks\n")
    with pytest.raises(UsageError, match="where its results go"):
        summary_page.write_page(page)


def test_readme_shows_what_the_records_say():
    again = "run: espnet-ext results --page README.md"
    before, now = summary_page.current(ROOT / "README.md")
    assert before == now, again
    assert note_of(ROOT / "docs/results.png") == summary_page.fingerprint(now.splitlines()), again
