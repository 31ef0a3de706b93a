# SPDX-License-Identifier: Apache-2.0
"""The section dual_task: which losses a phase has, what is refused, and when a phase is off."""

import pytest

from espnet_ext.dual_task import check_config, phase_off
from espnet_ext.dual_task.options import check, resolve
from espnet_ext.errors import UsageError

GIVEN = {"samu_scale": 50, "samu_reduce": "sum"}
TASK = "espnet_ext.dual_task.task:"


@pytest.mark.parametrize(
    ("schedule", "finetune"),
    [("dual", ("samu", "slu")), ("slu", ("slu",)), ("samu", ("samu",)), ("sequential", ("slu",))],
)
def test_losses_of_each_phase(schedule, finetune):
    conf = resolve({"schedule": schedule})
    assert conf.losses("finetune") == finetune
    assert conf.losses("midtrain") == ("samu",)
    assert conf.losses("pretrain") == ("phones", "samu")
    assert resolve({"pretrain": "phones"}).losses("pretrain") == ("phones",)


def test_the_key_is_lambda_in_yaml_and_in_messages():
    assert resolve({"lambda": 5}).lambda_ == 5
    with pytest.raises(UsageError, match=r"lambda is -1") as e:
        resolve({"lambda": -1})
    assert e.value.where == "dual_task.lambda"
    with pytest.raises(UsageError, match="unknown key"):
        resolve({"lambda_": 5})


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"schedule": "duall"}, "did you mean 'dual'"),
        ({"samu_scal": 1}, "did you mean 'samu_scale'"),
        ({"samu_scale": 0}, "above 0"),
        ({"blstm_layers": -1}, "0 or more"),
        ({"rebalance_alpha": 2}, "from 0 to 1"),
        ({"lambda": float("inf")}, "finite"),
    ],
)
def test_impossible_values_are_refused(section, words):
    with pytest.raises(UsageError) as e:
        check_config({"dual_task": section})
    assert words in str(e.value)


@pytest.mark.parametrize("lost", sorted(GIVEN))
def test_scale_and_reduction_have_no_default(lost):
    section = {k: v for k, v in GIVEN.items() if k != lost}
    with pytest.raises(UsageError, match=f"{lost} is not given"):
        phase_off(TASK + "DualTask", {"dual_task": section})
    assert phase_off(TASK + "DualTask", {"dual_task": {"schedule": "slu"}}) == ""


def test_phases_that_have_nothing_to_do():
    def off(name, **section):
        return phase_off(TASK + name, {"dual_task": {**GIVEN, **section}})

    assert off("SpecialiseTask") and not off("SpecialiseTask", schedule="sequential")
    assert off("PretrainTask", pretrain="none") and off("PretrainTask", pretrain=None)
    assert not off("PretrainTask")
    assert "is pre-trained" in off("PretrainTask", speech_encoder="dump/speech_encoder")
    assert not off("PretrainTask", speech_encoder="dump/speech_encoder", pretrain="samu")


def test_combinations_that_do_nothing_are_refused():
    with pytest.raises(UsageError, match="retain: ewc is a baseline without it"):
        check(resolve({**GIVEN, "retain": "ewc"}), "finetune")
    check(resolve({"schedule": "slu", "retain": "ewc"}), "finetune")
    with pytest.raises(UsageError, match="weight 0"):
        check(resolve({"schedule": "slu", "retain": "ewc", "retain_weight": 0}), "finetune")
    with pytest.raises(UsageError, match="include the convolutions"):
        check(resolve({**GIVEN, "train_cnn": True, "freeze_layers": 2}), "finetune")
