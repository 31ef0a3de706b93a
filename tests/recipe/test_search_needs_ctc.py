# SPDX-License-Identifier: Apache-2.0
"""A search that weighs CTC, of a model that has none, is told before anything is trained."""

import subprocess
import sys

import pytest
import yaml

from espnet_ext.errors import UsageError
from espnet_ext.multistage.stages import decode
from espnet_ext.recipe.decoding import check_decoding

ATTENTION = {"model_conf": {"ctc_weight": 0.0, "st_mtlalpha": 0.0}}
TASK = "espnet_ext.multistage.translation.task:TranslationTask"


@pytest.fixture
def decoding(folder):
    """Return ``decoding(**args)``: the context of stage 8, with models of attention alone."""

    def make(**args):
        folder.write("conf/train.yaml", yaml.safe_dump(ATTENTION))
        phase = {"config": "conf/train.yaml"}
        folder.recipe(
            data={"also": ["st"]}, midtrain={**phase, "task": TASK}, finetune=phase,
            decode={"method": "beam", "args": args},
        )  # fmt: skip
        return folder.context("decode")

    return make


def test_the_options_are_checked_without_what_espnet_prints_on_import():
    code = "from espnet_ext.espnet import search_options as s; s.check_beam({}, 'x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


@pytest.mark.parametrize("args", [{}, {"ctc_weight": 0.3}, {"beam_size": 2, "ctc_weight": 1.0}])
def test_of_a_recogniser(decoding, args):
    with pytest.raises(UsageError, match="needs CTC, and the model has none") as e:
        check_decoding(decoding(**args))
    assert e.value.where == "decode.args.ctc_weight"


def test_of_a_translator(decoding, monkeypatch):
    monkeypatch.setattr(decode, "check_decoding", lambda ctx: None)
    args = {"translate": ["st"], "translation": {"ctc_weight": 0.3}}
    with pytest.raises(UsageError, match="model of translation has none") as e:
        decode.check_args(decoding(**args))
    assert e.value.where == "decode.args.translation.ctc_weight"
    decode._check_ctc(decoding(**args), {"beam_size": 5})  # ESPnet's default is without CTC
