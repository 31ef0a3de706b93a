# SPDX-License-Identifier: Apache-2.0
"""Commands that start a training in several processes; the settings that the project ships."""

import sys
from pathlib import Path

import pytest
import yaml

from espnet_ext.errors import EspnetExtError, SetupError, UsageError
from espnet_ext.recipe import node
from espnet_ext.recipe.executor import CLUSTERS
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.steps import launch, train

CONF = Path(__file__).resolve().parents[2] / "conf"
OWN = ["-m", "espnet_ext.espnet.train", "asr", "--seed", "1"]


def test_torchrun():
    gpus = launch.torchrun_command(Options(), 4, "asr", ["--seed", "1"])
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    assert gpus == [*run, "4", *OWN, "--ngpu", "1", "--multiprocessing_distributed", "false"]
    cpus = launch.torchrun_command(Options(num_procs=2), 0, "asr", ["--seed", "1"])
    assert cpus[:6] == [*run, "2"]
    assert cpus[11:15] == ["--ngpu", "0", "--dist_backend", "gloo"]
    with pytest.raises(UsageError, match="--num-procs is for CPUs"):
        launch.torchrun_command(Options(num_procs=2), 1, "asr", [])


def test_slurm(folder):
    folder.write("../../../conf/slurm.yaml", (CONF / "slurm.yaml").read_text())
    command = launch.slurm_command(Options(num_nodes=3), 2, "asr", ["--seed", "1"], pools=4)
    srun = command[: command.index(sys.executable)]
    assert srun[:4] == ["srun", "--nodes=3", "--ntasks-per-node=1", "--gpus-per-node=2"]
    assert "--time=24:00:00" in srun
    rest = command[command.index(sys.executable) + 1 :]
    assert rest[:7] == ["-m", "espnet_ext.recipe.node", "2", "4", "asr", "--seed", "1"]
    assert rest[7:] == ["--ngpu", "1", "--multiprocessing_distributed", "false"]
    cpus = launch.slurm_command(Options(num_nodes=2, num_procs=2), 0, "asr", [])
    assert not any(x.startswith("--gpus") for x in cpus) and "gloo" in cpus
    with pytest.raises(UsageError, match="--num-procs is for CPUs"):
        launch.slurm_command(Options(num_nodes=2, num_procs=2), 1, "asr", [])


STEP = {
    "SLURM_JOB_ID": "4711", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "gpu-a[03-04]", "SLURM_NODEID": "1",
}  # fmt: skip


def test_what_a_machine_starts(monkeypatch):
    monkeypatch.setattr(node.os, "sched_getaffinity", lambda _: set(range(32)))
    command = node.torchrun(["4", "3", "asr", "--seed", "1"], STEP)
    options = dict(zip(command[3:13:2], command[4:13:2], strict=True))
    assert options["--nnodes"] == "2" and options["--node_rank"] == "1"
    assert options["--nproc_per_node"] == "4" and options["--master_addr"] == "gpu-a03"
    place = options["--master_port"]
    assert command[-7:] == [*OWN, "--num_workers", "2"]
    assert node.torchrun(["4", "0", "asr"], STEP)[-1] == "asr"  # num_workers as configured
    other = node.torchrun(["4", "0", "asr"], STEP | {"SLURM_STEP_ID": "3"})
    assert place not in other
    with pytest.raises(SetupError, match="the variable SLURM_NODEID is missing"):
        node.torchrun(["4", "0", "asr"], {k: v for k, v in STEP.items() if k != "SLURM_NODEID"})
    with pytest.raises(SetupError, match="srun started 8 tasks on 2 machines"):
        node.torchrun(["4", "0", "asr"], STEP | {"SLURM_STEP_NUM_TASKS": "8"})


@pytest.mark.parametrize(
    ("listed", "first"),
    [
        ("node1", "node1"),
        ("gpu-a[03-05,9],b7", "gpu-a03"),
        ("gpu-a[3,9]", "gpu-a3"),
        ("a,b", "a"),
        ("rack1-n[01-02]-ib,x", "rack1-n01-ib"),
    ],
)
def test_where_the_machines_meet(listed, first):
    assert node.first_host(listed) == first


@pytest.mark.parametrize(
    ("cores", "processes", "pools", "workers"),
    [(16, 4, 1, 3), (16, 4, 3, 1), (64, 2, 1, 8), (64, 2, 4, 7), (2, 8, 4, 1), (16, 0, 0, 8)],
)
def test_loading_processes_of_all_pools_fit_the_cores(
    monkeypatch, cores, processes, pools, workers
):
    monkeypatch.setattr(node.os, "sched_getaffinity", lambda _: set(range(cores)))
    assert node.loader_workers(processes, pools) == workers


def test_slurm_settings_of_the_recipe_go_first(folder):
    folder.write("../../../conf/slurm.yaml", "partition: far\n")
    folder.write("conf/slurm.yaml", "partition: near\nexclusive: true\nmem: null\nreboot: false\n")
    command = launch.slurm_command(Options(num_nodes=2), 1, "asr", [])
    assert command[4:6] == ["--partition=near", "--exclusive"]
    assert command[6] == sys.executable


def test_which_command_starts_the_training(folder):
    folder.write("conf/slurm.yaml", "partition: near\n")
    assert launch.command(Options(ngpu=0), "asr", []) is None
    assert launch.command(Options(ngpu=1), "asr", []) is None
    assert "torch.distributed.run" in launch.command(Options(ngpu=2), "asr", [])
    assert "torch.distributed.run" in launch.command(Options(ngpu=0, num_procs=2), "asr", [])
    assert launch.command(Options(ngpu=1, num_nodes=2), "asr", [])[0] == "srun"


def test_several_machines_need_gpus_and_settings(folder):
    with pytest.raises(UsageError, match="--num-nodes needs GPUs"):
        launch.slurm_command(Options(num_nodes=2), 0, "asr", [])
    with pytest.raises(SetupError, match="no Slurm settings"):
        launch.slurm_command(Options(num_nodes=2), 1, "asr", [])
    folder.write("conf/slurm.yaml", "partition: near\n")
    with pytest.raises(SetupError, match="there is no command 'srun'"):
        launch.check(Options(ngpu=1, num_nodes=2))


def test_the_number_of_processes_does_not_train_anew(folder):
    folder.write("conf/train.yaml", "max_epoch: 1\n")
    folder.recipe(finetune={"config": "conf/train.yaml"})
    plans = [
        train.plan(folder.context("finetune", **more)).settings for more in ({}, {"num_procs": 3})
    ]
    assert plans[0] == plans[1]


def test_output_goes_to_the_log_and_progress_to_the_person(folder, capfd):
    ctx = folder.context()
    script = "print('noise'); print('espnet_ext.progress: epoch 1')"
    launch._follow([sys.executable, "-c", script], ctx)
    out = capfd.readouterr().out.splitlines()
    assert sorted(out) == ["  epoch 1", "espnet_ext.progress: epoch 1", "noise"]
    with pytest.raises(EspnetExtError, match=r"exit code 4:\n    last words"):
        launch._follow([sys.executable, "-c", "print('last words'); exit(4)"], ctx)
    script = "print('a.ChildFailedError: \\n[rank1]: torch.OutOfMemoryError: CUDA'); exit(1)"
    with pytest.raises(EspnetExtError, match=r"exit code 1:\n    torch.OutOfMemoryError: CUDA$"):
        launch._follow([sys.executable, "-c", script], ctx)
    with pytest.raises(SetupError, match="there is no command 'srun-none'"):
        launch._follow(["srun-none"], ctx)


@pytest.mark.parametrize("path", sorted(CONF.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_settings(path):
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(settings, dict)
    for key in ("time", "walltime"):  # unquoted, YAML makes 24:00:00 the number 86400
        assert isinstance(settings.get(key, ""), str)
    if path.name.startswith("dask_"):
        assert settings["cluster"] in {*CLUSTERS, "local"}


def test_one_gpu_is_used_where_there_is_one(monkeypatch):
    monkeypatch.setattr(launch.hardware, "gpus", lambda: ["a", "b"])
    assert launch.gpus(Options()) == 1
    assert launch.gpus(Options(ngpu=0)) == 0
