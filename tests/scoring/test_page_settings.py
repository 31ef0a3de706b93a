# SPDX-License-Identifier: Apache-2.0
"""What recipe.yaml says of the results page, and what is refused of it."""

from pathlib import Path

import pytest
from record_pages import tables

from espnet_ext.errors import DataError
from espnet_ext.scoring.results import render_results
from espnet_ext.scoring.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]


def test_a_fixed_baseline_is_refused_with_the_way_to_plan(recipe_dir, record_dict):
    recipe_dir.add(record_dict())
    (recipe_dir.path / "recipe.yaml").write_text("results: {baseline: cpu}\n")
    with pytest.raises(DataError, match="no fixed baseline") as err:
        render_results(recipe_dir.path)
    assert "planned: {system: GROUP, against: GROUP}" in err.value.how


def test_published_figures_stand_apart(recipe_dir, record_dict):
    recipe_dir.add(record_dict())
    (recipe_dir.path / "recipe.yaml").write_text(
        "results:\n  published:\n"
        "    - {system: 'a | b', set: test, wer: 7.6, source: 'a paper, table 2'}\n"
    )
    text = render_results(recipe_dir.path)
    assert "## Published figures (not ours)" in text
    (row,) = next(t for t in tables(text) if "Source" in t[0])
    assert row == {
        "System": r"a \| b",
        "Set": "test",
        "WER": "7.6",
        "Source": "a paper, table 2",
    }


@pytest.mark.parametrize(
    ("recipe_yaml", "where"),
    [
        ("results: {basline: x}", "recipe.yaml: results.basline"),
        (
            "results: {published: [{system: x, set: y, wer: 1, source: z, notes: n}]}",
            "results.published.0.notes",
        ),
        ("results: [x]", "recipe.yaml: results"),
        ("results: {planned: {system: [x], against: y}}", "recipe.yaml: results.planned.system"),
        ("results: {published: [{system: x, set: y, wer: 1}]}", "results.published.0.source"),
        ("results: {", "recipe.yaml:1"),
    ],
)
def test_bad_settings_name_file_and_field(recipe_dir, record_dict, recipe_yaml, where):
    recipe_dir.add(record_dict())
    (recipe_dir.path / "recipe.yaml").write_text(recipe_yaml)
    with pytest.raises(DataError) as err:
        render_results(recipe_dir.path)
    assert str(err.value.where).endswith(where)


@pytest.mark.parametrize(
    "recipe_yaml", ["", "results:", "results: {planned: {}}", "stages: [1]", "- x"]
)
def test_a_recipe_without_settings_has_no_comparison(recipe_dir, record_dict, recipe_yaml):
    recipe_dir.add(record_dict())
    (recipe_dir.path / "recipe.yaml").write_text(recipe_yaml)
    assert "## Comparisons" not in render_results(recipe_dir.path)


@pytest.mark.parametrize("path", sorted(ROOT.glob("egs2/*/*/recipe.yaml")), ids=str)
def test_published_figures_of_the_recipes_have_a_source_that_was_read(path):
    for figures in read_settings(path).published.values():
        for figure, value in figures:
            assert value and len(figure.source) > 5
            assert not {"recalled", "unknown"} & set(figure.source.replace(",", " ").split())
