# SPDX-License-Identifier: Apache-2.0
"""A made-up recipe, and the page of its runs."""

import made_up
import pytest

from espnet_ext import cli


@pytest.fixture(scope="session")
def recipe(tmp_path_factory):
    return made_up.make(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="session")
def page_path(recipe):
    """The page of all four runs."""
    out = recipe.path / "page.html"
    argv = ["report", *map(str, sorted((recipe.path / "exp").iterdir())), "--out", str(out)]
    assert cli.main([*argv, "--alignment", str(recipe.add_alignment())]) == 0
    return out
