# SPDX-License-Identifier: Apache-2.0
"""The recipe of GRID, on a small tree."""

import pytest
from av_trees import WORDS, make_grid

from espnet_ext.data.tables import read_table


def test_grid_to_formatted_sets(recipe_copy, tmp_path):
    pytest.importorskip("av")
    recipe = recipe_copy("grid/multistage1", tmp_path / "tree")
    recipe.run("--stop-stage", "format", env={"GRID": str(make_grid(tmp_path))})
    tables = {p.name: read_table(p / "text") for p in (recipe.path / "dump").iterdir()}
    assert {name: len(t) for name, t in tables.items()} == {"train": 7, "dev": 1, "test": 2}
    assert {text for t in tables.values() for text in t.values()} == set(WORDS.values())
    assert read_table(recipe.path / "dump/dev/video.scp").keys() == tables["dev"].keys()
