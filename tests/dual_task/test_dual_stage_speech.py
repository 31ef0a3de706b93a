# SPDX-License-Identifier: Apache-2.0
"""The speech encoder's part of stage 2: converted once, named by recipe or variable, told early."""

import shutil
from pathlib import Path

import pytest
import tiny_speech_encoder as tiny
import yaml

from espnet_ext.dual_task.stages import speech
from espnet_ext.dual_task.stages.args import format_args
from espnet_ext.errors import DataError, UsageError
from espnet_ext.recipe import config, options
from espnet_ext.recipe.stages import Context, find
from espnet_ext.text import source

TASK = "espnet_ext.dual_task.task:"
NEEDS = {"dual_task": {"speech_encoder": "dump/speech_encoder", "samu_scale": 1,
                       "samu_reduce": "mean", "pretrain": "samu"}}  # fmt: skip


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("given") / "encoder"
    tiny.write(folder)
    return folder


@pytest.fixture
def context(tmp_path, monkeypatch):
    """In a recipe's folder, return ``context(fs, **args)`` of the stage."""
    monkeypatch.chdir(tmp_path)
    for name in ("SPEECH_ENCODER", "SENTENCE_ENCODER", "ESPNET_EXT_CALLED_FROM"):
        monkeypatch.delenv(name, raising=False)
    told = []
    monkeypatch.setattr(speech, "say", told.append)

    def make(fs=16000, train=None, **args):
        Path("c.yaml").write_text(yaml.safe_dump(NEEDS if train is None else train))
        phases = {name: {"task": TASK + task, "config": "c.yaml"} for name, task in
                  (("midtrain", "SpecialiseTask"), ("finetune", "DualTask"))}  # fmt: skip
        form = {"code": "espnet_ext.dual_task.stages.format", "fs": fs, "args": args}
        sections = {"data": {"train": "train", "valid": "dev"}, "format": form, **phases}
        Path("recipe.yaml").write_text(yaml.safe_dump(sections))
        ctx = Context(config.load(Path("recipe.yaml")), options.parse(["--ngpu", "0"], set()))
        ctx.stage = find("format")
        return ctx

    make.told = told
    return make


def plan(ctx):
    return speech.plan(ctx, format_args(ctx))


def test_an_encoder_is_converted_and_its_files_are_inputs(context, encoder):
    ctx = context(speech_encoder=str(encoder))
    made = plan(ctx)
    assert {p.name for p in made.inputs} == {
        "config.json", "model.safetensors", "preprocessor_config.json",
    }  # fmt: skip
    speech.run(ctx, format_args(ctx))
    assert all(p.exists() for p in made.makes)
    (line,) = context.told
    assert "25,216 parameters, 2 blocks of width 32" in line


def test_the_variable_goes_before_the_recipe_and_is_remembered(context, encoder, monkeypatch):
    monkeypatch.setenv("SPEECH_ENCODER", str(encoder))
    ctx = context(speech_encoder="someone/another")
    made = plan(ctx)
    assert made.settings == {"speech_encoder": str(encoder), "speech": str(encoder)}
    source.remember({ctx.stage.name: made.settings})  # as the runner does before the first stage
    monkeypatch.delenv("SPEECH_ENCODER")
    assert plan(context()).settings == made.settings  # unset after a first run: the same as then
    monkeypatch.setenv("SPEECH_ENCODER", "none")
    assert plan(context(train={})).settings == {"speech_encoder": ""}


def test_a_training_without_its_encoder_is_told_before_anything_runs(context):
    with pytest.raises(
        UsageError, match=r"finetune: dual_task.speech_encoder(.|\n)*SPEECH_ENCODER"
    ):
        plan(context())
    assert plan(context(train={"dual_task": {}})).makes == []


def test_what_cannot_be_used_is_told_in_the_plan(context, encoder, tmp_path):
    with pytest.raises(UsageError, match=r"16000 Hz, and format\.fs is 8000"):
        plan(context(fs=8000, speech_encoder=str(encoder)))
    with pytest.raises(DataError, match="no such folder"):
        plan(context(speech_encoder=str(tmp_path / "gone")))
    shutil.copytree(encoder, tmp_path / "bare")
    (tmp_path / "bare/model.safetensors").unlink()
    with pytest.raises(DataError, match="there are no weights"):
        plan(context(speech_encoder="./bare"))
