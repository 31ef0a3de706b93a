# SPDX-License-Identifier: Apache-2.0
"""Processes that ESPnet itself spawns (one machine, several GPUs), here on the CPU with gloo."""

import json
import os
import subprocess
import sys
from argparse import Namespace

import pytest

from espnet_ext.espnet.task import is_first_process, world_size

# ESPnet spawns for --ngpu 2; each worker then says that it has no GPU, and what it has imported.
TASK = """
import sys
from espnet_ext.espnet.task import ASRTask

class OnCpu(ASRTask):
    @classmethod
    def main_worker(cls, args):
        args.ngpu = 0
        super().main_worker(args)
        fast = any(type(finder).__name__ == "LazyFinder" for finder in sys.meta_path)
        print("worker", args.dist_rank, "fast" if fast else "slow", flush=True)
"""


def test_spawned_workers_have_what_validation_and_the_runner_need(tiny_argv, tmp_path):
    (tmp_path / "on_cpu.py").write_text(TASK)
    argv = [*tiny_argv, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"]
    argv += ["--model_conf", "report_cer=true", "--model_conf", "report_wer=true"]
    argv += ["--ngpu", "2", "--dist_backend", "gloo", "--multiprocessing_distributed", "true"]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "espnet_ext.espnet.train", "on_cpu:OnCpu", *argv]
    env = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    # editdistance is there: the error rates are computed, not left out.
    assert "valid cer_ctc" in done.stdout
    assert done.stdout.count("espnet_ext.progress: epoch 1/1") == 1
    assert sorted(x for x in done.stdout.splitlines() if x.startswith("worker")) == [
        "worker 0 fast", "worker 1 fast",
    ]  # fmt: skip
    record = json.loads((tmp_path / "exp/phase.json").read_text())
    assert record["processes"] == 2
    # Of the process that trains; the one that waits for it has no torch model.
    assert record["peak_rss_mb"] > 100


@pytest.mark.parametrize(
    ("distributed", "env", "first", "size"),
    [
        (False, {"SLURM_NTASKS": "4", "SLURM_PROCID": "3", "WORLD_SIZE": "2"}, True, 1),
        (True, {"WORLD_SIZE": "2", "RANK": "1", "SLURM_NTASKS": "8"}, False, 2),
        (True, {"WORLD_SIZE": "2", "RANK": "0", "SLURM_PROCID": "5"}, True, 2),
    ],
)
def test_a_batch_job_around_a_training_is_not_its_number_of_processes(
    distributed, env, first, size, monkeypatch
):
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    args = Namespace(
        distributed=distributed, dist_rank=None, dist_world_size=None, dist_launcher=None
    )
    assert (is_first_process(args), world_size(args)) == (first, size)
