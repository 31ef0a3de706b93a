# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the tests that run recipes."""

import pytest
from recipe_tree import copy_recipe


@pytest.fixture(scope="session")
def recipe_copy():
    """Return ``copy_recipe(name, root) -> RecipeCopy``."""
    return copy_recipe
