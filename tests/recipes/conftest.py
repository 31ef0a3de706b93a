# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run recipes and the scripts of local/."""

import sys

import pytest
from recipe_tree import copy_recipe

from espnet_ext.errors import exit_code


@pytest.fixture(scope="session")
def recipe_copy():
    """Return ``copy_recipe(name, root) -> RecipeCopy``."""
    return copy_recipe


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
