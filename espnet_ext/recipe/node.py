# SPDX-License-Identifier: Apache-2.0
"""The part of one machine in a training on several: ``srun`` starts it once on each.

``python -m espnet_ext.recipe.node PROCESSES POOLS TASK [ESPnet's training options]`` becomes
torchrun with ``PROCESSES`` training processes. The machines meet by TCP at the first of them, so
no disk that all of them see is needed for it. ``POOLS`` is how many pools of data loading processes
each training process has at a time; how many processes a pool gets is counted here, because the
machine that submits may have other cores. 0 leaves the number to the configuration.
"""

import os
import re
import sys

from espnet_ext.errors import SetupError, exit_code

PORTS = range(15000, 30000)  # below those that the kernel gives to others
MOST_WORKERS = 8


def loader_workers(processes: int, pools: int) -> int:
    """Return data loading processes per pool, for training processes that share this machine."""
    cores = len(os.sched_getaffinity(0)) // max(processes, 1)
    return max(1, min(MOST_WORKERS, (cores - 1) // max(pools, 1)))


def first_host(nodelist: str) -> str:
    """Return the first of Slurm's list of machines, such as ``gpu-a[03-05,9]-ib,b7``."""
    match = re.match(r"([^,\[]*)(?:\[(\w+)[^\]]*\]([^,\[]*))?", nodelist)
    return "".join(part or "" for part in match.groups())


def port(job: str, step: str) -> int:
    """Return a port that all machines of a job step agree on and other steps hardly have."""
    numbers = [int(x) if x.isdecimal() else 0 for x in (job, step)]
    return PORTS[(31 * numbers[0] + numbers[1]) % len(PORTS)]


def torchrun(argv: list[str], env: dict[str, str]) -> list[str]:
    """Return the command of this machine.

    Args:
        argv: As the module's.
        env: Slurm's variables of a job step.

    Raises:
        SetupError: The process was not started by ``srun``.
    """
    processes, pools, task, *options = argv
    try:
        nodes, rank = env["SLURM_STEP_NUM_NODES"], env["SLURM_NODEID"]
        hosts, tasks = env["SLURM_STEP_NODELIST"], env["SLURM_STEP_NUM_TASKS"]
    except KeyError as e:
        raise SetupError(
            f"the variable {e.args[0]} is missing", "srun", "start it as ./run.sh --num-nodes N"
        ) from None
    if nodes != tasks:
        raise SetupError(
            f"srun started {tasks} tasks on {nodes} machines",
            "conf/slurm.yaml",
            "remove ntasks and ntasks-per-node: torchrun starts the processes of a machine",
        )
    if int(pools):
        workers = loader_workers(int(processes), int(pools))
        options += ["--num_workers", str(workers)]
    place = port(env.get("SLURM_JOB_ID", ""), env.get("SLURM_STEP_ID", ""))
    return [
        sys.executable, "-m", "torch.distributed.run",
        "--nnodes", nodes, "--node_rank", rank, "--nproc_per_node", processes,
        "--master_addr", first_host(hosts), "--master_port", str(place),
        "-m", "espnet_ext.espnet.train", task, *options,
    ]  # fmt: skip


def _main() -> None:
    command = torchrun(sys.argv[1:], dict(os.environ))
    sys.stdout.flush()
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    sys.exit(exit_code(_main))
