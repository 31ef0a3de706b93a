# SPDX-License-Identifier: Apache-2.0
"""The synthetic dual-task recipe on a wav2vec2-type encoder that the user names."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.e2e
PREPARE = ["--minutes", "0.4", "--pool-minutes", "0.1", "--dev-utts", "4", "--test-utts", "4",
           "--pool-dev-utts", "2", "--teacher-steps", "30"]  # fmt: skip
CONFIG = {
    "dual_task": {"speech_encoder": "dump/speech_encoder", "samu_scale": 1, "samu_reduce": "mean",
                  "blstm_layers": 0, "linear_blocks": 0, "train_cnn": True},
    "encoder_conf": {"mask_prob": 0.0},
    "batch_type": "sorted", "batch_size": 4, "max_epoch": 1, "num_att_plot": 0, "num_workers": 0,
    "best_model_criterion": [["valid", "char_error", "min"]], "keep_nbest_models": 1,
    "use_tensorboard": False, "use_matplotlib": False,
}  # fmt: skip
TINY = [
    f"--prepare.args={json.dumps(PREPARE)}",
    "--args.dual_task.pretrain=none",
    "--finetune.config=conf/speech_encoder.yaml",
    "--format.ctc_stride=2",
    "--ngpu=0",
]


def write_encoder(folder, **changes):
    path = Path(__file__).parents[1] / "dual_task/tiny_speech_encoder.py"
    spec = importlib.util.spec_from_file_location("tiny_speech_encoder_of_e2e", path)
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    tiny.write(folder, **changes)


def test_from_a_folder_of_transformers_to_a_packed_model(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/dual_task1", tmp_path)
    (recipe.path / "conf/speech_encoder.yaml").write_text(yaml.safe_dump(CONFIG))
    out = recipe.run(*TINY, code=2)
    assert not (recipe.path / "data").exists()  # told before anything runs
    assert "no speech encoder is given" in out and "SPEECH_ENCODER=" in out
    write_encoder(tmp_path / "xlsr")
    env = {"SPEECH_ENCODER": str(tmp_path / "xlsr")}
    out = recipe.run(*TINY, "--force", env=env)
    assert "finetune: its model can only be built after earlier stages" in out
    assert "speech encoder: " in out and "2 blocks of width 32" in out
    assert "encoder frames (of 20 ms)" in out or "infeasible" not in out
    assert "stock ESPnet loads it" in out
    config = yaml.safe_load((recipe.path / "exp/dual/finetune/config.yaml").read_text())
    assert config["encoder"] == "torchaudiohubert" and config["model"] == "espnet"
    # Unset after a first run means the same as then; another encoder there, another training.
    write_encoder(tmp_path / "xlsr", num_hidden_layers=3)
    out = recipe.run(*TINY, "--stage=format", "--stop-stage=finetune")
    assert "3 blocks of width 32" in out and "another training than before" in out
