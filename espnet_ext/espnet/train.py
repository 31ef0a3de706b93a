# SPDX-License-Identifier: Apache-2.0
"""Run one ESPnet training with any task of this package, in this process.

``python -m espnet_ext.espnet.train TASK [ESPnet's training options]`` is the same for one of
several processes that torchrun, Slurm or espnet2.bin.launch start.
"""

import os
import resource
import sys
import time
from pathlib import Path

from espnet_ext.espnet import fastimport
from espnet_ext.files import write_json

PHASE_RECORD = "phase.json"


def run(task_name: str, argv: list[str]) -> None:
    """Train, and write ``phase.json`` with times, memory and sizes into the output folder.

    Args:
        task_name: Short name or ``module:Class``.
        argv: Options of the task's parser; ``--collect_stats true`` collects statistics instead.
    """
    fastimport.enable()
    import torch

    from espnet_ext.espnet.task import find_task

    task = find_task(task_name)
    args = task.get_parser().parse_args(argv)
    if not args.use_matplotlib:
        args.num_att_plot = 0
    start = time.monotonic()
    _reset_peak_memory()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    sizes = _watch_model(task)
    task.main(args=args)
    if args.collect_stats or int(os.environ.get("RANK", 0)) != 0:
        return
    state = getattr(task.trainer, "state", None)
    record = {
        "task": task_name,
        "wall_s": round(time.monotonic() - start, 2),
        "peak_rss_mb": round(_peak_memory_mb()),
        "peak_gpu_mb": round(torch.cuda.max_memory_allocated() / 2**20)
        if torch.cuda.is_available()
        else 0,
        "batches": state.batches if state else None,
        "updates": state.updates if state else None,
        **sizes,
    }
    _merge(Path(args.output_dir) / PHASE_RECORD, record, args.max_epoch)


def _watch_model(task: type) -> dict:
    """Return a dictionary that gets the parameter counts when the optimisers are built."""
    sizes: dict[str, int] = {}
    build = task.build_optimizers.__func__

    def build_optimizers(cls, args, model):
        sizes["params"] = sum(p.numel() for p in model.parameters())
        sizes["params_trained"] = sum(p.numel() for p in model.parameters() if p.requires_grad)
        return build(cls, args, model)

    task.build_optimizers = classmethod(build_optimizers)
    return sizes


def _merge(path: Path, record: dict, max_epoch: int) -> None:
    """Add the figures of a resumed run to those of the run before."""
    import json

    if path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        for key in ("wall_s", "batches", "updates"):
            record[key] = round((before.get(key) or 0) + (record[key] or 0), 2)
        for key in ("peak_rss_mb", "peak_gpu_mb"):
            record[key] = max(before.get(key, 0), record[key])
    write_json(path, {**record, "max_epoch": max_epoch})


def _reset_peak_memory() -> None:
    try:  # Linux: forget the peak of the stages before
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        pass


def _peak_memory_mb() -> float:
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2:])
