# SPDX-License-Identifier: Apache-2.0
"""Start a training: in this process, in several by torchrun, or on several machines by Slurm."""

import os
import re
import shutil
import sys
from collections import deque
from pathlib import Path

from espnet_ext import hardware
from espnet_ext.errors import EspnetExtError, SetupError, UsageError
from espnet_ext.installation import project_file
from espnet_ext.recipe import node, processes, tracking
from espnet_ext.recipe.console import say
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context
from espnet_ext.yamlfile import read_section

SLURM = Path("conf/slurm.yaml")
# The last line of a traceback, also as torchrun shows it.
ERROR = re.compile(
    r"(?:\[rank\d+\]: ?)?((?:\w+\.)*\w*(?:Error|Exception)(?<!ChildFailedError)(?:: .*)?)$"
)


def gpus(options: Options) -> int:
    """Return how many GPUs to use on a machine: as asked, else one if it has one."""
    return options.ngpu if options.ngpu is not None else min(1, len(hardware.gpus()))


def loader_workers(options: Options, pools: int = 1) -> int:
    """Return data loading processes per pool: enough to keep a GPU busy, no more than cores.

    Args:
        options: GPUs that share this machine's cores.
        pools: How many pools each training process has at a time, one for each stream of batches.
    """
    ngpu = gpus(options)
    return node.loader_workers(ngpu, pools) if ngpu else 1


def train(ctx: Context, task: str, argv: list[str], pools: int = 0) -> None:
    """Run the training to its end.

    Args:
        ctx: Where it belongs.
        task: Name of the task.
        argv: ESPnet's options.
        pools: See :func:`loader_workers`; 0 if the configuration has ``num_workers``.

    Raises:
        EspnetExtError: A training process failed; its last lines are shown.
    """
    tracker = ctx.options.track
    if tracker == "wandb" and (told := tracking.prepare_wandb()):
        say(f"  {told}")
    argv = [*argv, *tracking.options(tracker, ctx.exp, ctx.stage.name)]
    started = command(ctx.options, task, argv, pools)
    if started:
        _follow(started, ctx)
    else:
        from espnet_ext.espnet.train import run

        run(task, [*argv, "--ngpu", str(gpus(ctx.options))])


def check(options: Options) -> None:
    """Raise what would keep a training from being started.

    Raises:
        UsageError: Options that exclude one another.
        SetupError: There is no ``srun``, or no settings for it; or no package for ``--track``.
    """
    tracking.check(options.track)
    started = command(options, "asr", [])
    if started and shutil.which(started[0]) is None:
        how = "--num-nodes needs Slurm: start ./run.sh where its commands are installed"
        raise SetupError(f"there is no command '{started[0]}'", "PATH", how)


def command(options: Options, task: str, argv: list[str], pools: int = 0) -> list[str] | None:
    """Return the command that starts the training's processes; None if this process is enough."""
    ngpu = gpus(options)
    if options.num_nodes > 1:
        return slurm_command(options, ngpu, task, argv, pools)
    if ngpu > 1 or options.num_procs > 1:
        return torchrun_command(options, ngpu, task, argv)
    return None


def torchrun_command(options: Options, ngpu: int, task: str, argv: list[str]) -> list[str]:
    """Return the command for several processes on this machine: nccl on GPUs, gloo on CPUs."""
    if ngpu and options.num_procs > 1:
        raise UsageError("--num-procs is for CPUs", None, "add --ngpu 0, or give --ngpu N alone")
    n = ngpu if ngpu > 1 else options.num_procs
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(n)]
    start = ["-m", "espnet_ext.espnet.train", task, *argv]
    return [sys.executable, *torchrun, *start, *_back_end(ngpu)]


def _back_end(ngpu: int) -> list[str]:
    device = ["--ngpu", "1"] if ngpu else ["--ngpu", "0", "--dist_backend", "gloo"]
    return [*device, "--multiprocessing_distributed", "false"]


def slurm_command(
    options: Options, ngpu: int, task: str, argv: list[str], pools: int = 0
) -> list[str]:
    """Return the ``srun`` command for several machines, with the options of conf/slurm.yaml.

    One task a machine: :mod:`espnet_ext.recipe.node`, which becomes torchrun.
    """
    if ngpu == 0 and options.num_procs == 1:
        how = "add --ngpu N (GPUs per machine); for CPUs --num-procs N (processes per machine)"
        raise UsageError("--num-nodes needs GPUs", None, how)
    if ngpu and options.num_procs > 1:
        raise UsageError("--num-procs is for CPUs", None, "add --ngpu 0, or give --ngpu N alone")
    path = SLURM if SLURM.exists() else Path("../../..") / SLURM
    if not path.exists():
        how = f"mkdir -p conf && cp {project_file(str(SLURM))} conf, and edit the copy"
        raise SetupError("there are no Slurm settings", SLURM, how)
    settings = read_section(path, "conf/slurm.yaml")
    srun = ["srun", f"--nodes={options.num_nodes}", "--ntasks-per-node=1"]
    srun += [f"--gpus-per-node={ngpu}"] if ngpu else []
    given = {k: v for k, v in settings.items() if v is not None and v is not False}
    srun += [f"--{key}" if value is True else f"--{key}={value}" for key, value in given.items()]
    start = ["-m", "espnet_ext.recipe.node", str(ngpu or options.num_procs), str(pools)]
    return [*srun, sys.executable, *start, task, *argv, *_back_end(ngpu)]


def _follow(command: list[str], ctx: Context) -> None:
    """Run a command; its output goes to the log, its epoch lines to the terminal."""
    env = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    last: deque[str] = deque(maxlen=8)
    errors: list[str] = []

    def told(line: str) -> None:
        print(line, end="")
        last.append(line.rstrip())
        if (error := ERROR.match(line)) and len(errors) < 1:
            errors.append(error[1])
        if "espnet_ext.progress" in line:
            say("  " + line.rpartition("espnet_ext.progress: ")[2].rstrip())

    if code := processes.follow(command, told, env):
        # What a process said first; torchrun's and other processes' last words only follow from it.
        what = f"{Path(command[0]).name} ended with {processes.how_ended(code)}:\n    "
        raise EspnetExtError(what + "\n    ".join(errors or last))
