# SPDX-License-Identifier: Apache-2.0
"""Two CPU processes by torchrun (gloo), started as the runner starts them."""

import json
import subprocess

import pytest

from espnet_ext.espnet import checkpoint, train
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.steps.launch import torchrun_command


def test_two_processes_train_one_model(tiny_argv, tmp_path):
    argv = [*tiny_argv, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"]
    command = torchrun_command(Options(num_procs=2), 0, "asr", argv)
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("espnet_ext.progress: epoch 1/1") == 1  # one process speaks
    assert checkpoint.load(tmp_path / "exp/valid.acc.ave.pth")
    assert json.loads((tmp_path / "exp/phase.json").read_text())["processes"] == 2


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
