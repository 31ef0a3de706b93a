# SPDX-License-Identifier: Apache-2.0
"""The synthetic dual-task recipe from speech to a packed model, tiny, killed on its way."""

import json
import zipfile

import pytest
import yaml

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
PREPARE = ["--minutes", "0.4", "--pool-minutes", "0.8", "--dev-utts", "6", "--test-utts", "6"]
PREPARE += ["--teacher-steps", "30"]
TINY = [
    f"--prepare.args={json.dumps([*PREPARE, '--pool-dev-utts', '2'])}",
    f"--args.encoder_conf={json.dumps(SMALL)}",
    "--args.dual_task.schedule=sequential",
    "--finetune.args.dual_task.blstm_cells=8",
    *(f"--{phase}.args.max_epoch=1" for phase in ("pretrain", "midtrain", "finetune")),
    "--ngpu=0",
]


def test_from_speech_to_concepts_in_the_sequential_schedule(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/dual_task1", tmp_path)
    recipe.kill_at("  epoch 1/1", *TINY)  # in the pretraining, after its only epoch
    out = recipe.finish(*TINY, fresh=True)
    assert "stage 1/10 prepare: up to date" in out and "stage 2/10 format: up to date" in out
    tokens = (recipe.path / "dump/tokens_char/tokens.txt").read_text().splitlines()
    assert {"<book_room>", "<city>", ">", "<space>"} <= set(tokens) and "<" not in tokens
    for phase, model in (("midtrain", "espnet"), ("finetune", "dual_task")):
        config = yaml.safe_load((recipe.path / f"exp/dual/{phase}/config.yaml").read_text())
        assert config["model"] == model and config["dual_task"]["resolved"]["role"] == phase
    record = json.loads((recipe.path / "results/dual.json").read_text())
    assert set(record["sets"]) == {"dev_fr", "test_fr"}
    assert set(record["phases"]) == {"pretrain", "midtrain", "finetune"}
    decoded = next((recipe.path / "exp/dual/decode").rglob("test_fr/text"))
    test = read_table(recipe.path / "data/test_fr/text")
    assert read_table(decoded).keys() == test.keys() and len(test) == 6
    page = (recipe.path / "RESULTS.md").read_text()
    assert "CER (concepts)" in page and "Retrieval" in page
    archive = next((recipe.path / "exp/dual").glob("*.zip"))
    assert "stock ESPnet refuses it" in out and zipfile.ZipFile(archive).testzip() is None
    assert "up to date" in recipe.run(*TINY, "--stage", "decode", "--stop-stage", "decode")
