# SPDX-License-Identifier: Apache-2.0
"""The model that is decoded is chosen by what is decoded, or the user is told before training."""

from pathlib import Path

import pytest
import yaml

from espnet_ext.recipe import config, stages
from espnet_ext.recipe.decoding import check_decoding
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.train import training_config

ROOT = Path(__file__).resolve().parents[2]
RECIPES = [p for p in sorted(ROOT.glob("egs2/*/*/recipe.yaml"))
           if "method: greedy_ctc" in p.read_text()]  # fmt: skip
ACC, CER = "valid.acc.ave.pth", "valid.cer_ctc.best.pth"
BEAM = {"method": "beam"}


@pytest.mark.parametrize(
    ("model", "decode", "told"),
    [
        (ACC, {"method": "greedy_ctc"}, "finetune.model: valid.cer_ctc.ave.pth"),
        (ACC, {**BEAM, "args": {"ctc_weight": 1.0}}, "decoding takes CTC alone"),
        (CER, {**BEAM, "args": {"ctc_weight": 0.0}}, "finetune.model: valid.acc.ave.pth"),
        (CER, {"method": "greedy_ctc"}, ""),
        ("valid.loss.ave.pth", {"method": "greedy_ctc"}, ""),
        (ACC, {**BEAM, "args": {"ctc_weight": 0.3}}, ""),
        (CER, BEAM, ""),
    ],
)
def test_another_part_of_the_model_chooses_than_decodes(folder, capfd, model, decode, told):
    folder.write("conf/t.yaml", yaml.safe_dump({"model_conf": {"ctc_weight": 0.5}}))
    folder.recipe(finetune={"config": "conf/t.yaml", "model": model}, decode=decode)
    check_decoding(folder.context("decode"))
    out = capfd.readouterr().out
    assert told in out and ("WARNING" in out) == bool(told)


def test_there_are_recipes():
    assert len(RECIPES) >= 9


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: str(p.parent.relative_to(ROOT / "egs2")))
def test_recipes_choose_by_what_they_decode(path, monkeypatch, capfd):
    monkeypatch.chdir(path.parent)
    recipe = config.load(path)
    ctx = Context(recipe, Options(ngpu=0))
    check_decoding(ctx)
    assert "WARNING" not in capfd.readouterr().out
    ctx.stage = stages.find("finetune")
    settings = training_config(ctx)
    assert settings["best_model_criterion"] == [["valid", "cer_ctc", "min"]]
    assert settings["model_conf"]["report_cer"]
    assert recipe.finetune.model.startswith("valid.cer_ctc.")
