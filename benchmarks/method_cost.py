# SPDX-License-Identifier: Apache-2.0
"""What each method costs beside its baseline: the same model and data without the method.

Each row is a kind of update, with the embedded recipes' configurations (egs2/synth) on generated
inputs; those of a method work in turn, in one run:

CPU s     process time of an update: forward, backward, clipping, optimiser; the median.
ratio     to the baseline's update of the same round, median and quartiles.
labelled  how many such updates the recipe makes for each labelled update. Their sum, weighted by
          it, is the row "in all": CPU seconds for each labelled update of the whole training.
          Encoders that both sides start from count on neither.
peak MB   of a process of its own that makes three updates, its imports included, and what is added
          after the model is built.
M         millions of parameters: trained; in the checkpoint; read by inference, which leaves out
          heads and second models that training alone needs.

    OMP_NUM_THREADS=1 python benchmarks/method_cost.py [--only weak_align bl_just ...] [--quick]

A few minutes on one core. Other processes disturb the times by some per cent. The table that was
measured is in method_cost.md. A measurement, not a test: it ends with 0 whatever the figures are.
Linux only.
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from bl_just_step import memory_mb, prepare_espnet
from dual_task_step import in_turn, ratio
from method_cost_systems import METHODS, Update

Row = dict[str, Any]
MEMORY_STEPS = 3


def memory_case(method: str, number: int) -> tuple[float, float]:
    """Return the peak in MB of some updates, and what of it came after the model was built.

    In a process of its own, as the peak of a process cannot be told apart later.
    """
    torch.set_num_threads(1)
    prepare_espnet()
    with tempfile.TemporaryDirectory() as folder:
        update = METHODS[method](Path(folder))[number]
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # what building took at its height
        before = memory_mb("VmRSS")
        for _ in range(MEMORY_STEPS):
            update.step()
    peak = memory_mb("VmHWM")
    return peak, peak - before


def weighed(method: str, count: int) -> list[tuple[float, float]]:
    """Return :func:`memory_case` of each update of a method."""
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        return [pool.submit(memory_case, method, i).result() for i in range(count)]


def rows_of(method: str, repeat: int) -> Iterator[Row]:
    """Yield the rows of a method, the baseline first, and the sum last."""
    with tempfile.TemporaryDirectory() as folder:
        updates: list[Update] = METHODS[method](Path(folder))
        times = in_turn({u.name: u.step for u in updates}, repeat, warm_up=2)
    base = times[updates[0].name]
    peaks = weighed(method, len(updates))
    for update, (peak, added) in zip(updates, peaks, strict=True):
        trained, stored, used = update.millions()
        yield {
            "method": method, "update": update.name,
            "CPU s": round(statistics.median(times[update.name]), 4),
            **ratio(times[update.name], base), "labelled": round(update.per_labelled, 2) or "–",
            "peak MB": round(peak), "ratio of peaks": round(peak / peaks[0][0], 2),
            "of it added": round(added), "M trained": round(trained, 3),
            "M stored": round(stored, 3), "M used": round(used, 3),
        }  # fmt: skip
    yield _sum(method, updates, times)


def _sum(method: str, updates: list[Update], times: dict[str, list[float]]) -> Row:
    """Return the row "in all"."""
    rounds = zip(*(times[u.name] for u in updates), strict=True)
    shares = [u.per_labelled for u in updates]
    total = [sum(s * t for s, t in zip(shares, one, strict=True)) for one in rounds]
    cpu = {"CPU s": round(statistics.median(total), 4), **ratio(total, times[updates[0].name])}
    return {"method": method, "update": "in all", **cpu}


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--repeat", type=int, default=15, help="rounds (default: 15)")
    parser.add_argument("--quick", action="store_true", help="two rounds")
    parser.add_argument("--json", action="store_true", help="print all rows as a line of JSON, too")
    args = parser.parse_args(argv)
    repeat = 2 if args.quick else max(args.repeat, 2)
    prepare_espnet()
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}; medians of {repeat}\n")
    rows: list[Row] = []
    for method in args.only:
        for row in rows_of(method, repeat):
            if not rows:
                print("| " + " | ".join(row) + " |\n|" + "---|" * len(row))
            rows.append(row)
            print("| " + " | ".join(str(row.get(k, "")) for k in rows[0]) + " |", flush=True)
    if args.json:
        print(json.dumps(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
