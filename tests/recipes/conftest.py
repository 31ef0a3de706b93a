# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run recipes and the scripts of local/."""

import shutil
import sys

import pytest
from recipe_tree import ROOT, RecipeCopy, copy_recipe

from espnet_ext.cli import main as cli
from espnet_ext.errors import exit_code


@pytest.fixture(scope="session")
def recipe_copy():
    """Return ``copy_recipe(name, root) -> RecipeCopy``."""
    return copy_recipe


@pytest.fixture
def new_recipe(tmp_path, monkeypatch):
    """Return ``make(name, *options, fill=True) -> RecipeCopy``, by ``espnet-ext new egs2/<name>``.

    It is made in a tree like a clone, ``tmp_path/tree``; ``fill`` answers what is open.
    """

    def make(name, *options, fill=True):
        tree = tmp_path / "tree"
        (tree / "egs2").mkdir(parents=True, exist_ok=True)
        for shared in ("utils", "local"):
            shutil.copytree(ROOT / shared, tree / shared, dirs_exist_ok=True)
        with monkeypatch.context() as m:
            m.chdir(tree)
            assert cli(["new", f"egs2/{name}", *map(str, options)]) == 0
        recipe = tree / "egs2" / name / "recipe.yaml"
        if fill:
            recipe.write_text(recipe.read_text().replace(": EDIT ", ": told "))
        return RecipeCopy(recipe.parent)

    return make


@pytest.fixture
def run_local(monkeypatch, capsys, tmp_path):
    """Return ``run(script, *argv, code=0, **variables) -> what it printed``, here in ``tmp_path``.

    ``script`` is what ``load_local`` returns; a variable of the environment that is None is not
    set.
    """

    def run(script, *argv, code=0, **variables):
        for name, value in variables.items():
            if value is None:
                monkeypatch.delenv(name, raising=False)
            else:
                monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(sys, "argv", [script.__file__, *map(str, argv)])
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        got = exit_code(script.main)
        told = "".join(capsys.readouterr())
        assert got == code, told
        return told

    return run
