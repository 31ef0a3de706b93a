# SPDX-License-Identifier: Apache-2.0
"""Run one ESPnet training with any task of this package, in this process.

``python -m espnet_ext.espnet.train TASK [ESPnet's training options]`` is the same for one of
several processes that torchrun, Slurm or espnet2.bin.launch start.
"""

import argparse
import contextlib
import gc
import io
import json
import logging
import os
import resource
import sys
import time
from pathlib import Path

from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import provide_editdistance
from espnet_ext.files import write_json
from espnet_ext.progress import progress_log


def run(task_name: str, argv: list[str]) -> None:
    """Train, and write ``phase.json`` with times, memory and sizes into the output folder.

    Args:
        task_name: Short name or ``module:Class``.
        argv: Options of the task's parser; ``--collect_stats true`` collects statistics instead.
    """
    fastimport.enable()
    provide_editdistance()
    import torch

    from espnet_ext.espnet.task import find_task, is_first_process
    from espnet_ext.espnet.trainer import PHASE_RECORD

    task = find_task(task_name)
    args = parse(task, argv)
    if not args.use_matplotlib:
        args.num_att_plot = 0
    start = time.monotonic()
    _reset_peak_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    task.main(args=args)
    gc.collect()  # models hold themselves in circles; several trainings of a process would add up
    if torch.distributed.is_initialized():
        # ESPnet leaves gloo's threads to the end of the interpreter, which may abort on them.
        torch.distributed.destroy_process_group()
    if args.collect_stats or not is_first_process(args):
        return
    path = Path(args.output_dir) / PHASE_RECORD  # written by the trainer, maybe in another process
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record |= {
        "task": task_name,
        "processes": int(os.environ.get("WORLD_SIZE") or args.dist_world_size or 1),
        "last_run_wall_s": round(time.monotonic() - start, 2),
        "peak_rss_mb": round(_peak_memory_mb()),
        "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20)
        if torch.cuda.is_available()
        else 0,
    }
    write_json(path, record)


def parse(task: type, argv: list[str]) -> argparse.Namespace:
    """Parse training options.

    Raises:
        UsageError: ESPnet's parser refuses them; its last line is the message.
    """
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return task.get_parser().parse_args(argv)
    except SystemExit:
        last = said.getvalue().strip().splitlines()[-1:] or ["no reason given"]
        what = last[0].partition("error: ")[2] or last[0]
        raise UsageError(f"ESPnet's training refuses an option: {what}") from None


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):  # Linux: forget the peak of the stages before
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _peak_memory_mb() -> float:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _main() -> None:
    # The process that started this one shows these lines to the person.
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("espnet_ext.progress: %(message)s"))
    progress_log.addHandler(handler)
    progress_log.setLevel(logging.INFO)
    try:
        run(sys.argv[1], sys.argv[2:])
    except EspnetExtError as e:
        for line in str(e).splitlines():
            progress_log.error(line)
        sys.exit(e.exit_code)


if __name__ == "__main__":
    _main()
