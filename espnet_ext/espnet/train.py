# SPDX-License-Identifier: Apache-2.0
"""Run one ESPnet training with any task of this package, in this process.

``python -m espnet_ext.espnet.train TASK [ESPnet's training options]`` is the same for one of
several processes that torchrun, Slurm or espnet2.bin.launch start. Where ESPnet spawns the
processes itself, each imports this module as ``__mp_main__`` before it imports the task.
"""

import argparse
import contextlib
import gc
import importlib.util
import io
import json
import logging
import sys
import time
from pathlib import Path

from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.espnet.compat import prepare_espnet
from espnet_ext.files import write_json
from espnet_ext.installation import install
from espnet_ext.progress import progress_log

CURVES = ("matplotlib", "tensorboard")  # ESPnet draws with them unless use_<name> is false


def run(task_name: str, argv: list[str]) -> None:
    """Train, and write ``phase.json`` with times, memory and sizes into the output folder.

    Args:
        task_name: Short name or ``module:Class``.
        argv: Options of the task's parser; ``--collect_stats true`` collects statistics instead.
    """
    prepare_espnet()
    from espnet_ext.espnet import memory
    from espnet_ext.espnet.init import check_files, tokens_of
    from espnet_ext.espnet.task import find_task, is_first_process, world_size
    from espnet_ext.espnet.trainer import PHASE_RECORD
    from espnet_ext.espnet.unreadable import READ_ERRORS, name_culprit

    task = find_task(task_name)
    args = parse(task, argv)
    if args.init_param and not args.collect_stats:
        check_files(args.init_param, tokens_of(getattr(args, "token_list", None)))
    _switch_off_missing(args)
    if not args.use_matplotlib:
        args.num_att_plot = 0
    start = time.monotonic()
    memory.reset_peaks()
    try:
        task.main(args=args)
    except READ_ERRORS as e:
        if args.collect_stats:
            name_culprit(args, e)
        raise
    gc.collect()  # models hold themselves in circles; several trainings of a process would add up
    if args.collect_stats or not is_first_process(args):
        return
    path = Path(args.output_dir) / PHASE_RECORD  # written by the trainer, maybe in another process
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record |= {
        "task": task_name,
        "processes": world_size(args),
        "last_run_wall_s": round(time.monotonic() - start, 2),
    }
    write_json(path, record)


def _switch_off_missing(args: argparse.Namespace) -> None:
    """Train without curves whose package is missing: it is an extra, and the log has the figures.

    ESPnet would stop only after the statistics, with an ImportError.
    """
    for package in CURVES:
        option = f"use_{package}"
        if getattr(args, option, False) and importlib.util.find_spec(package) is None:
            setattr(args, option, False)
            if not args.collect_stats:
                how = f"to get them: {install(package)}; to be silent: {option}: false"
                progress_log.info(f"{package} is not installed: no curves of it ({how})")


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


def _speak() -> None:
    """Print progress so that the process that started this one shows it to the person."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("espnet_ext.progress: %(message)s"))
    progress_log.addHandler(handler)
    progress_log.setLevel(logging.INFO)


def _main() -> None:
    _speak()
    try:
        run(sys.argv[1], sys.argv[2:])
    except EspnetExtError as e:
        for line in str(e).splitlines():
            progress_log.error(line)
        sys.exit(e.exit_code)


if __name__ == "__mp_main__":  # a worker: its task is not imported yet
    prepare_espnet()
    _speak()
if __name__ == "__main__":
    _main()
