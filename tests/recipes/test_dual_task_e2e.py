# SPDX-License-Identifier: Apache-2.0
"""The synthetic dual-task recipe, tiny: killed on its way; on an encoder that the user names."""

import importlib.util
import json
import shutil
import zipfile
from pathlib import Path

import pytest
import yaml
from recipe_tree import RecipeCopy

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
PREPARE = ["--minutes", "0.4", "--pool-minutes", "0.8", "--dev-utts", "6", "--test-utts", "6"]
PREPARE += ["--teacher-steps", "30", "--pool-dev-utts", "2"]
BOTH = [f"--prepare.args={json.dumps(PREPARE)}", "--ngpu=0"]
TINY = [
    *BOTH,
    f"--args.encoder_conf={json.dumps(SMALL)}",
    "--args.dual_task.schedule=sequential",
    "--finetune.args.dual_task.blstm_cells=8",
    *(f"--{phase}.args.max_epoch=1" for phase in ("pretrain", "midtrain", "finetune")),
]
GIVEN_CONFIG = {
    "dual_task": {"speech_encoder": "dump/speech_encoder", "samu_scale": 1, "samu_reduce": "mean",
                  "blstm_layers": 0, "linear_blocks": 0, "train_cnn": True},
    "encoder_conf": {"mask_prob": 0.0},
    "batch_type": "sorted", "batch_size": 4, "max_epoch": 1, "num_att_plot": 0, "num_workers": 0,
    "best_model_criterion": [["valid", "char_error", "min"]], "keep_nbest_models": 1,
    "use_tensorboard": False, "use_matplotlib": False,
}  # fmt: skip
GIVEN = [
    *BOTH,
    "--args.dual_task.pretrain=none",
    "--finetune.config=conf/speech_encoder.yaml",
    "--format.ctc_stride=2",
]


@pytest.fixture(scope="module")
def prepared(recipe_copy, tmp_path_factory):
    """A recipe with its data; both systems begin with a copy."""
    recipe = recipe_copy("synth/dual_task1", tmp_path_factory.mktemp("prepared"))
    recipe.run(*BOTH, "--stop-stage", "prepare")
    return recipe.path.parents[2]


@pytest.fixture
def recipe(prepared, tmp_path):
    shutil.copytree(prepared, tmp_path / "tree", symlinks=True)
    return RecipeCopy(tmp_path / "tree/egs2/synth/dual_task1")


def test_from_speech_to_concepts_in_the_sequential_schedule(recipe):
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


def write_encoder(folder, **changes):
    path = Path(__file__).parents[1] / "dual_task/tiny_speech_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_speech_encoder_of_e2e", path)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    tiny.write(folder, **changes)


def test_from_a_folder_of_transformers_to_a_packed_model(recipe_copy, recipe, tmp_path):
    bare = recipe_copy("synth/dual_task1", tmp_path / "bare")
    for path in (bare.path, recipe.path):
        (path / "conf/speech_encoder.yaml").write_text(yaml.safe_dump(GIVEN_CONFIG))
    out = bare.run(*GIVEN, code=2)
    assert not (bare.path / "data").exists()  # told before anything runs
    assert "no speech encoder is given" in out and "SPEECH_ENCODER=" in out
    write_encoder(tmp_path / "xlsr")
    env = {"SPEECH_ENCODER": str(tmp_path / "xlsr")}
    out = recipe.run(*GIVEN, "--stage=format", "--force", env=env)
    assert "finetune: its model can only be built after earlier stages made " in out
    assert "speech encoder: " in out and "2 blocks of width 32" in out
    assert "encoder frames (of 20 ms)" in out or "infeasible" not in out
    assert "stock ESPnet loads it" in out
    config = yaml.safe_load((recipe.path / "exp/dual/finetune/config.yaml").read_text())
    assert config["encoder"] == "torchaudiohubert" and config["model"] == "espnet"
    # Unset after a first run means the same as then; another encoder there, another training.
    write_encoder(tmp_path / "xlsr", num_hidden_layers=3)
    out = recipe.run(*GIVEN, "--stage=format", "--stop-stage=finetune")
    assert "3 blocks of width 32" in out and "another training than before" in out
