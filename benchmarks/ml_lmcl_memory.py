# SPDX-License-Identifier: Apache-2.0
"""Weigh the presets of ML-LMCL: parameters and memory of a training step.

Each preset and stage has a process of its own: parameters, and its peak above what its imports
hold, after three steps with AdamW. A preset without stage 1 has nothing there.

    OMP_NUM_THREADS=1 python benchmarks/ml_lmcl_memory.py [--phoneme-bert DIR] [--quick] [--json]

The encoders and options are those of ml_lmcl_step.py. A measurement, not a test: it ends with 0
whatever the figures are. Linux only.
"""

import argparse
import multiprocessing as mp
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from ml_lmcl_step import Corpus, Report, Row, Stage2, options, run, stage1_stepper

from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.options import PRESETS, resolve
from espnet_ext.text.tokenizer import read_about

TABLES = ("memory",)
PRELOAD = ["ml_lmcl_step", "transformers.models.roberta.modeling_roberta"]


def memory_mb(field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field)) / 1024


def memory_case(corpus: Corpus, section: Row, batch_size: int, stage: int) -> tuple[float, float]:
    """Return millions of parameters, and peak MB of three steps; in a process of its own."""
    torch.set_num_threads(1)
    before = memory_mb("VmRSS")
    chosen = corpus.batches(batch_size)[0]
    texts = corpus.batch(chosen)
    if stage == 2:
        stage2 = Stage2(corpus, section)
        network, step = stage2.network, lambda t: stage2.step(chosen, t)
    else:
        network = ContrastiveNetwork(resolve(section), corpus.folder, read_about(corpus.folder))
        step = stage1_stepper(network)
    for _ in range(3):
        step(texts)
    return sum(p.numel() for p in network.parameters()) / 1e6, memory_mb("VmHWM") - before


def memory_rows(
    size: str, corpus: Corpus, batch_size: int, args: argparse.Namespace
) -> Iterator[Row]:
    """Yield the table ``memory``."""
    context = mp.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)  # imports are slow, and no part of what is weighed
    # The peak of a process cannot be lowered, so each case has a new one.
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for preset in list(PRESETS)[: 1 if args.quick else None]:
            section = {"preset": preset, "precision": args.precision}
            row: Row = {"encoder": size, "batch": batch_size, "preset": preset}
            for stage in (1, 2):
                row |= {f"stage {stage}: M parameters": "", f"stage {stage}: peak MB": ""}
                if stage == 2 or resolve(section).stage1 != "none":
                    case = pool.submit(memory_case, corpus, section, batch_size, stage).result()
                    row |= zip(list(row)[-2:], (round(case[0], 2), round(case[1])), strict=True)
            yield row


def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    args = options(argv, __doc__ or "", TABLES)

    def tables_of(size: str, corpus: Corpus, report: Report) -> None:
        for batch_size in args.batch_sizes:
            report.add("memory", memory_rows(size, corpus, batch_size, args))

    return run(args, tables_of)


if __name__ == "__main__":
    sys.exit(main())
