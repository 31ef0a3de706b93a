# SPDX-License-Identifier: Apache-2.0
"""One epoch of AN4 on a GPU, with the recipe's configuration for GPUs; AN4 names the corpus."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not os.environ.get("AN4"), reason="AN4 is not set: the folder of the corpus")
def test_one_epoch_of_an4(tmp_path):
    recipe = tmp_path / "tree/egs2/an4/asr1"
    shutil.copytree(ROOT / "egs2/an4/asr1", recipe)
    for name in ("utils", "local", "conf", "espnet_ext"):
        (tmp_path / "tree" / name).symlink_to(ROOT / name)
    env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable}
    env["AN4"] = os.path.abspath(env["AN4"])
    on_cpu = os.environ.get("GPU_TESTS_ON") == "cpu"
    config = "conf/train_cpu.yaml" if on_cpu else "conf/train.yaml"
    options = ["--finetune.config", config, "--finetune.args.max_epoch", "1"]
    options += ["--ngpu", "0" if on_cpu else "1", "--stop-stage", "finetune"]
    done = subprocess.run(
        ["bash", str(recipe / "run.sh"), *options], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    record = json.loads((recipe / "exp/cpu/finetune/phase.json").read_text())
    print({k: record[k] for k in ("train_wall_s", "updates", "peak_gpu_mb")})
    assert record["updates"] > 0 and (record["peak_gpu_mb"] > 0) is not on_cpu
