# SPDX-License-Identifier: Apache-2.0
"""Start a training: in this process, in several by torchrun, or on several machines by Slurm."""

import os
import sys
from collections import deque
from pathlib import Path

from espnet_ext import hardware
from espnet_ext.errors import EspnetExtError, SetupError, UsageError
from espnet_ext.recipe import processes
from espnet_ext.recipe.console import say
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context
from espnet_ext.yamlfile import read_section

SLURM = Path("conf/slurm.yaml")


def gpus(options: Options) -> int:
    """Return the number of GPUs a machine shall use: as asked, else one if there is one."""
    return options.ngpu if options.ngpu is not None else min(1, len(hardware.gpus()))


def loader_workers(options: Options) -> int:
    """Return data loading processes per training process: enough to keep a GPU busy."""
    cores = len(os.sched_getaffinity(0))
    ngpu = gpus(options)
    return max(1, min(8, cores // max(ngpu, 1) - 1)) if ngpu else 1


def train(ctx: Context, task: str, argv: list[str]) -> None:
    """Run the training to its end.

    Raises:
        EspnetExtError: A training process failed; its last lines are shown.
    """
    started = command(ctx.options, task, argv)
    if started:
        _follow(started, ctx)
    else:
        from espnet_ext.espnet.train import run

        run(task, [*argv, "--ngpu", str(gpus(ctx.options))])


def command(options: Options, task: str, argv: list[str]) -> list[str] | None:
    """Return the command that starts the training's processes; None if this process is enough."""
    ngpu = gpus(options)
    if options.num_nodes > 1:
        return slurm_command(options, ngpu, task, argv)
    if ngpu > 1 or options.num_procs > 1:
        return torchrun_command(options, ngpu, task, argv)
    return None


def torchrun_command(options: Options, ngpu: int, task: str, argv: list[str]) -> list[str]:
    """Return the command for several processes on this machine: nccl on GPUs, gloo on CPUs."""
    if ngpu and options.num_procs > 1:
        raise UsageError("--num-procs is for CPUs", None, "add --ngpu 0, or give --ngpu N alone")
    n = ngpu if ngpu > 1 else options.num_procs
    back_end = ["--ngpu", "1"] if ngpu else ["--ngpu", "0", "--dist_backend", "gloo"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    return [
        sys.executable, *torchrun, "-m", "espnet_ext.espnet.train", task, *argv, *back_end,
        "--multiprocessing_distributed", "false",
    ]  # fmt: skip


def slurm_command(options: Options, ngpu: int, task: str, argv: list[str]) -> list[str]:
    """Return the ``srun`` command for several machines, with the options of conf/slurm.yaml.

    ESPnet's own Slurm launcher finds rank and master in Slurm's environment.
    """
    if ngpu == 0:
        raise UsageError("--num-nodes needs GPUs", None, "add --ngpu N (GPUs per machine)")
    path = SLURM if SLURM.exists() else Path("../../..") / SLURM
    if not path.exists():
        raise SetupError("there are no Slurm settings", SLURM, "copy the project's conf/slurm.yaml")
    settings = read_section(path, "conf/slurm.yaml")
    srun = ["srun", f"--nodes={options.num_nodes}", "--ntasks-per-node=1"]
    srun += [f"--gpus-per-node={ngpu}"]
    given = {k: v for k, v in settings.items() if v is not None and v is not False}
    srun += [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]
    return [
        *srun, sys.executable, "-m", "espnet_ext.espnet.train", task, *argv, "--ngpu", str(ngpu),
        "--dist_launcher", "slurm", "--multiprocessing_distributed", "true",
        "--dist_init_method", f"file://{Path('.stages').resolve()}/dist_init_{os.getpid()}",
    ]  # fmt: skip


def _follow(command: list[str], ctx: Context) -> None:
    """Run a command; its output goes to the log, its epoch lines to the terminal."""
    env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    last: deque[str] = deque(maxlen=8)

    def told(line: str) -> None:
        print(line, end="")
        last.append(line.rstrip())
        if "espnet_ext.progress" in line:
            say("  " + line.rpartition("espnet_ext.progress: ")[2].rstrip())

    if code := processes.follow(command, told, env):
        what = f"{command[0]} ended with {processes.how_ended(code)}:\n    "
        raise EspnetExtError(what + "\n    ".join(last))
