# SPDX-License-Identifier: Apache-2.0
"""CPU processes by torchrun (gloo), on one machine and on two, as the runner starts them."""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from espnet_ext.espnet import checkpoint, train
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.steps import launch
from espnet_ext.recipe.steps.launch import torchrun_command


def test_two_processes_train_one_model(tiny_argv, tmp_path):
    argv = [*tiny_argv, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"]
    command = torchrun_command(Options(num_procs=2), 0, "asr", argv)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("espnet_ext.progress: epoch 1/1") == 1  # one process speaks
    assert checkpoint.load(tmp_path / "exp/valid.acc.ave.pth")
    assert json.loads((tmp_path / "exp/phase.json").read_text())["processes"] == 2


# Starts the tasks of a job step on "machines" that are all this one, as Slurm does.
SRUN = """#!{python}
import os, subprocess, sys
flags = [x for x in sys.argv[1:] if x.startswith("--")]
command = sys.argv[sys.argv.index({python!r}):]
nodes = int(next(x for x in flags if x.startswith("--nodes=")).partition("=")[2])
step = dict(SLURM_JOB_ID="{job}", SLURM_STEP_ID="0", SLURM_STEP_NUM_NODES=str(nodes),
            SLURM_STEP_NUM_TASKS=str(nodes), SLURM_STEP_NODELIST="localhost,b2",
            SLURM_NTASKS="64", SLURM_NNODES="64")  # those of the allocation
run = [subprocess.Popen(command, env=os.environ | step | dict(
    SLURM_NODEID=str(i), SLURM_PROCID=str(i), SLURM_LOCALID="0")) for i in range(nodes)]
sys.exit(max(p.wait() for p in run))
"""


def test_four_processes_on_two_machines_train_one_model(
    tiny_argv, tiny_data, tmp_path, monkeypatch, capfd
):
    """Ten utterances for four processes: no part is even."""
    srun = tmp_path / "bin/srun"
    srun.parent.mkdir()
    srun.write_text(SRUN.format(python=sys.executable, job=os.getpid()))
    srun.chmod(0o755)
    monkeypatch.setenv("PATH", f"{srun.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/slurm.yaml").write_text("partition: near\n")
    argv = list(tiny_argv)
    for name in ("speech_shape", "text_shape"):
        whole = tiny_data / "train" / name
        (tmp_path / name).write_text("".join(whole.read_text().splitlines(True)[:10]))
        argv[argv.index(str(whole))] = name
    options = Options(ngpu=0, num_nodes=2, num_procs=2)
    launch.check(options)
    ctx = SimpleNamespace(options=options, exp=tmp_path, stage=SimpleNamespace(name="finetune"))
    launch.train(ctx, "asr", [*argv, "--output_dir", "exp", "--max_epoch", "1"])
    out = capfd.readouterr().out
    assert out.count("  epoch 1/1") == 1  # one process speaks
    assert checkpoint.load(tmp_path / "exp/valid.acc.ave.pth")
    assert json.loads((tmp_path / "exp/phase.json").read_text())["processes"] == 4


@pytest.mark.parametrize(("ngpu", "procs", "n"), [(4, 1, 4), (0, 3, 3)])
def test_the_number_of_processes_is_that_asked_for(ngpu, procs, n):
    command = torchrun_command(Options(num_procs=procs), ngpu, "asr", [])
    assert command[command.index("--nproc_per_node") + 1] == str(n)
    assert ("gloo" in command) == (ngpu == 0)


def test_a_process_that_fails_says_why_in_lines_that_the_runner_shows(
    tiny_argv, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("sys.argv", ["train", "asr", *tiny_argv, "--no_such_option", "1"])
    monkeypatch.setattr(train.progress_log, "handlers", [])
    monkeypatch.setattr(train.progress_log, "level", 0)
    with pytest.raises(SystemExit) as e:
        train._main()
    assert e.value.code == 2
    assert "espnet_ext.progress: ESPnet's training refuses" in capsys.readouterr().out
