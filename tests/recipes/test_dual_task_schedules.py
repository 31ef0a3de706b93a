# SPDX-License-Identifier: Apache-2.0
"""Which phases a schedule of the dual task switches on, and what the last one starts from."""

from pathlib import Path

import pytest

from espnet_ext.recipe import config, stages
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.train import init_params

ROOT = Path(__file__).resolve().parents[2]
RECIPES = sorted(p.parent for p in ROOT.glob("egs2/*/dual_task1/recipe.yaml"))
SEQUENTIAL = [("args.dual_task.schedule", "sequential")]


@pytest.mark.parametrize("folder", RECIPES, ids=lambda p: p.parent.name)
def test_only_the_sequential_schedule_specialises_first(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for variable in ("SPEECH_ENCODER", "SENTENCE_ENCODER"):
        monkeypatch.delenv(variable, raising=False)
    for overrides, specialises in (([], False), (SEQUENTIAL, True)):
        ctx = Context(config.load(Path("recipe.yaml"), overrides), Options(ngpu=0))
        off = {p: stages.plan(ctx, stages.find(p)).off for p in stages.PHASES}
        assert not off["finetune"] and bool(off["midtrain"]) != specialises
        ctx.stage = stages.find("finetune")
        assert ("midtrain" in " ".join(init_params(ctx))) == specialises


def test_parts_of_one_file_are_taken_once(monkeypatch):
    monkeypatch.chdir(ROOT / "egs2/synth/dual_task1")
    ctx = Context(config.load(Path("recipe.yaml"), []), Options(ngpu=0))
    ctx.stage = stages.find("finetune")
    file = "exp/dual/pretrain/valid.loss.best.pth"
    assert init_params(ctx) == [f"{file}:encoder:encoder", f"{file}:pooling:pooling"]
