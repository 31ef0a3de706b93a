# SPDX-License-Identifier: Apache-2.0
"""Options that translation does not have are refused before anything heavy is imported."""

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.multistage.translation import check_config


def test_sections_of_the_other_phases_are_refused():
    check_config({"model_conf": {"asr_weight": 0.0}})
    with pytest.raises(UsageError) as e:
        check_config({"multistage": {"freeze": "encoder"}})
    assert e.value.where == "multistage" and "finetune.args.multistage" in str(e.value)
