# SPDX-License-Identifier: Apache-2.0
"""A recipe's folder to work in."""

import os
from pathlib import Path

import pytest
import yaml

from espnet_ext.recipe import config, executor
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find


class RecipeFolder:
    """The current directory, with a recipe.yaml."""

    def __init__(self, path: Path):
        self.path = path

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def recipe(self, **sections: object) -> Path:
        """Write recipe.yaml of these sections."""
        return self.write("recipe.yaml", yaml.safe_dump({"recipe": "toy/asr1", **sections}))

    def context(self, stage: str = "", **options: object) -> Context:
        """Return what a stage is given, for recipe.yaml as it stands."""
        options = {"ngpu": 0, **options}
        recipe = config.load(Path("recipe.yaml"))
        return Context(recipe, Options(**options), find(stage) if stage else None)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name in executor.THREADS:  # the executor sets them for its workers
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    path = tmp_path / "egs2/toy/asr1"
    path.mkdir(parents=True)
    monkeypatch.chdir(path)
    made = RecipeFolder(path)
    made.recipe()
    return made
