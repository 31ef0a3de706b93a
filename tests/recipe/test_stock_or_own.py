# SPDX-License-Identifier: Apache-2.0
"""Commands of models that stock ESPnet refuses are those of this package, and dry runs say why."""

import shlex
from pathlib import Path

import pytest
import yaml

from espnet_ext.dual_task.stages import pack as dual_pack
from espnet_ext.ml_lmcl.stages import pack as intent_pack
from espnet_ext.recipe import runner, stages
from espnet_ext.recipe.steps import pack

OWN = {"encoder": "conformer", "encoder_conf": {"input_layer": "conv1d4"}}
STOCK = {"encoder": "conformer", "encoder_conf": {"input_layer": "conv2d"}}
AT = Path("my work/model.zip")
TRANSLATION = {"config": "conf/train.yaml", "task": "espnet_ext.multistage.translation.task:T"}
ALL = {
    "data": {"test": ["test"], "also": ["st"]},
    "format": {},
    "tokens": {"type": "char"},
    "finetune": {"config": "conf/train.yaml"},
    "decode": {"method": "beam", "args": {"beam_size": 4}},
    "pack": {},
}


@pytest.fixture
def planned(folder):
    """Return ``planned(stage, config, **sections) -> (context, plan)``; nothing is trained."""

    def make(stage, config, **sections):
        folder.write("conf/train.yaml", yaml.safe_dump(config))
        folder.recipe(**{**ALL, **sections})
        ctx = folder.context(stage)
        return ctx, stages.plan(ctx, ctx.stage)

    return make


def programs(plan):
    return [shlex.split(command)[2:4] for command in plan.stock]


def test_the_recogniser_is_trained_and_decoded_by_what_builds_it(planned):
    assert {p[0] for p in programs(planned("finetune", STOCK)[1])} == {"espnet2.bin.asr_train"}
    _, plan = planned("finetune", OWN)
    assert {tuple(p) for p in programs(plan)} == {("espnet_ext.espnet.train", "asr")}
    _, plan = planned("decode", STOCK)
    assert {p[0] for p in programs(plan)} == {"espnet2.bin.asr_inference"} and not plan.notes
    stock = [command.partition(" --ngpu")[2] for command in plan.stock]
    _, plan = planned("decode", OWN)
    assert {tuple(p) for p in programs(plan)} == {("espnet_ext.espnet.inference", "asr")}
    assert [command.partition(" --ngpu")[2] for command in plan.stock] == stock
    assert plan.notes == ["the model of finetune: stock ESPnet refuses it, as it has no input "
                          "layer conv1d4: it loads by espnet_ext"]  # fmt: skip


def test_a_model_that_is_there_counts_whatever_is_configured_now(planned, folder):
    folder.write("exp/base/finetune/config.yaml", yaml.safe_dump(OWN))
    ctx, plan = planned("decode", STOCK)
    assert {p[0] for p in programs(plan)} == {"espnet_ext.espnet.inference"}
    lines = "\n".join(pack.usage(ctx))
    assert "from espnet_ext.espnet.speech2text import Speech2Text" in lines
    assert "espnet-ext transcribe DATA_FOLDER OUT --asr" in lines and "stock" not in lines
    folder.write("exp/base/finetune/config.yaml", yaml.safe_dump(STOCK))
    lines = "\n".join(pack.usage(ctx))
    assert "with stock ESPnet" in lines and "espnet_ext" not in lines
    folder.write("exp/base/finetune/config.yaml", yaml.safe_dump({**STOCK, "model": "dual_task"}))
    assert "it has no model dual_task" in stages.plan(ctx, ctx.stage).notes[0]


@pytest.mark.parametrize("of", [pack, dual_pack, intent_pack])
def test_lines_for_the_shell_quote_a_path_with_spaces(planned, folder, monkeypatch, of):
    folder.write("exp/base/finetune/config.yaml", yaml.safe_dump(OWN))
    monkeypatch.setattr(intent_pack if of is intent_pack else pack, "archive", lambda ctx: AT)
    lines = [x for x in of.usage(planned("decode", OWN)[0]) if "espnet-ext " in x]
    assert lines and all(str(AT.resolve()) in shlex.split(x) for x in lines)


def test_the_translator_is_asked_for_by_itself(planned, folder):
    args = {"beam_size": 4, "translate": ["st"], "translation": {}}
    code = "espnet_ext.multistage.stages.decode"
    sections = {"decode": {"method": "beam", "args": args, "code": code}, "midtrain": TRANSLATION}
    folder.write("exp/base/midtrain/config.yaml", yaml.safe_dump(OWN))
    _, plan = planned("decode", STOCK, **sections)
    assert programs(plan)[-1] == ["espnet_ext.espnet.inference", "st"]
    assert {p[0] for p in programs(plan)[:-1]} == {"espnet2.bin.asr_inference"}
    assert [note.partition(":")[0] for note in plan.notes] == ["the model of midtrain"]


def test_a_dry_run_tells(planned, capfd):
    planned("decode", OWN)
    assert runner.main(["--dry-run", "--stage", "8", "--ngpu", "0"]) == 0
    out = capfd.readouterr().out
    assert out.count("  note:  the model of finetune: stock ESPnet refuses it") == 2
    assert "  own:   python -m espnet_ext.espnet.inference asr" in out
    assert "espnet2.bin.asr_inference" not in out
