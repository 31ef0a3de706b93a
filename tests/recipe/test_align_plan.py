# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_ext.errors import UsageError
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.align import plan


def test_a_wrong_key_is_told_before_time_is_spent():
    with pytest.raises(UsageError, match="epoch") as e:
        plan(Context(Recipe(align={"hybrid": {"epoch": 3}}), Options()))
    assert "epochs" in e.value.how


def test_alignments_that_exist_are_needed_instead_of_a_lexicon():
    given = {"lexicon": "l.txt", "alignments": {"train": "ali"}}
    needs = {str(p) for p in plan(Context(Recipe(align=given), Options())).needs}
    assert {"ali/header.json", "ali/labels.scp"} <= needs and "l.txt" not in needs
    assert "l.txt" in {
        str(p) for p in plan(Context(Recipe(align={"lexicon": "l.txt"}), Options())).needs
    }
