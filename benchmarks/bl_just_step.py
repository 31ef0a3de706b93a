# SPDX-License-Identifier: Apache-2.0
"""Time a joint step of BL-JUST against its two losses apart, data waiting, and CPC by queries.

Three tables, on noise with the lengths of AN4 and the model of egs2/an4/bl_just1:

step     f + gamma g on a labelled and an unlabelled batch, forward, backward, clipping and Adam;
         beside it f alone and g alone, each forward and backward, and one update. Both sides get
         the same pairs of batches in turn; the ratio is the median over pairs (goal: 1.05). Times
         are those of the process; other processes still disturb them by some per cent, so the
         operations of torch that either side calls are counted as well.
waiting  how long the training waits for its loader with 0 and 1 workers, per step of an epoch
         (exploration and joint phase). Waiting is wall time, so on a busy machine an upper bound;
         the processor's time in the loader is beside it.
cpc      forward and backward of the CPC loss alone, an encoder of one layer below it, by
         max_queries: process time, and peak memory above what the process held before.

    OMP_NUM_THREADS=1 python benchmarks/bl_just_step.py [--repeat 20] [--quick] [--only step cpc]

A measurement, not a test: it ends with 0 whatever the figures are.
"""

import argparse
import contextlib
import io
import logging
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode

ROOT = Path(__file__).resolve().parents[1]
AN4 = ROOT / "egs2/an4/bl_just1/conf/train_cpu.yaml"
LOSSES = ("cpc", "wav2vec2", "best_rq", "kmeans")
FS_HZ = 16000
AN4_QUANTILES = (0, 0.1, 0.25, 0.5, 0.75, 0.9, 1)
AN4_LENGTHS_S = (0.8, 1.1, 1.8, 2.5, 3.4, 4.3, 6.3)
TOKENS, TOKENS_PER_S = 30, 6
GAMMA, CLIP = 0.2, 5.0
MAX_QUERIES = (None, 4096, 1024, 256)
CPC_SECONDS, CPC_FEATURES, CPC_WIDTH, CPC_STRIDE = 15, 32, 256, 4


@dataclass
class Setup:
    """A training that could begin: model, optimiser of the joint phase, the two streams."""

    model: torch.nn.Module
    optimiser: torch.optim.Optimizer
    streams: Any  # ScheduledIterFactory
    measure_every: int


def write_corpus(folder: Path, labelled: int, unlabelled: int) -> None:
    """Write two sets of noise with the lengths of AN4, the first one with random words."""
    rng = np.random.default_rng(1)
    words = [f"t{i}" for i in range(TOKENS - 3)]
    (folder / "tokens.txt").write_text("\n".join(["<blank>", "<unk>", *words, "<sos/eos>"]) + "\n")
    for name, count in (("labelled", labelled), ("unlabelled", unlabelled)):
        audio = folder / name
        audio.mkdir()
        rows: dict[str, list[str]] = {"wav.scp": [], "speech_shape": [], "text": []}
        for number in range(count):
            seconds = np.interp(rng.random(), AN4_QUANTILES, AN4_LENGTHS_S)
            samples, utt = int(FS_HZ * seconds), f"{name}{number:04d}"
            soundfile.write(audio / f"{utt}.flac", 0.1 * rng.standard_normal(samples), FS_HZ)
            text = " ".join(rng.choice(words, max(1, round(TOKENS_PER_S * seconds))))
            rows["wav.scp"].append(f"{utt} {audio / utt}.flac\n")
            rows["speech_shape"].append(f"{utt} {samples}\n")
            rows["text"].append(f"{utt} {text}\n")
        if name == "unlabelled":
            del rows["text"]
        for file, lines in rows.items():
            (audio / file).write_text("".join(lines), encoding="utf-8")


def parsed(folder: Path, loss: str, workers: int, config: Path = AN4) -> argparse.Namespace:
    """Return the training options of a recipe, with this corpus and gamma constant."""
    from espnet_ext.bl_just.task import BLJustTask
    from espnet_ext.espnet.train import parse

    conf = yaml.safe_load(config.read_text(encoding="utf-8"))
    conf["bl_just"] |= {"unsup_loss": loss, "epochs": 1, "gamma_ramp": "constant"}
    conf["bl_just"]["gamma_max"] = GAMMA
    (folder / "train.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    labelled, unlabelled = folder / "labelled", folder / "unlabelled"
    options = {
        "config": folder / "train.yaml",
        "token_list": folder / "tokens.txt",
        "token_type": "word",
        "output_dir": folder / "exp",
        "num_workers": workers,
        "train_shape_file": labelled / "speech_shape",
        "stream_data_path_and_name_and_type": f"u,{unlabelled / 'wav.scp'},speech,sound",
        "stream_shape_file": f"u,{unlabelled / 'speech_shape'}",
    }
    argv = [str(x) for name, value in options.items() for x in (f"--{name}", value)]
    for file, name, kind in (("wav.scp", "speech", "sound"), ("text", "text", "text")):
        argv += ["--train_data_path_and_name_and_type", f"{labelled / file},{name},{kind}"]
    return parse(BLJustTask, argv)


def set_up(folder: Path, loss: str, workers: int, config: Path = AN4) -> Setup:
    """Return what ``BLJustTask.main_worker`` makes before training."""
    from espnet2.train.distributed_utils import DistributedOption

    from espnet_ext.bl_just import checks
    from espnet_ext.bl_just.task import BLJustTask, lay_out, prepare
    from espnet_ext.bl_just.unsup_conf import unsup_conf

    args = parsed(folder, loss, workers, config)
    torch.manual_seed(1)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        conf = prepare(args)
        checks.drop_short(args, round(FS_HZ * unsup_conf(loss, conf.unsup_options).min_s))
        facts = {"schedule": lay_out(args, conf), "conf": conf}
        trainer = type("Trainer", (BLJustTask.trainer,), facts)
        task = type("Task", (BLJustTask,), {"trainer": trainer})
        model = task.build_model(args).train()
        optimiser = task.build_optimizers(args, model)[0]
        streams = task.build_iter_factory(args, DistributedOption(), "train")
    return Setup(model, optimiser, streams, conf.measure_every)


def process_seconds(work: Callable[[], Any]) -> float:
    """Return the processor's time that the work took in this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


class CountOperations(TorchDispatchMode):
    """Count the operations of torch, forward and backward, while it is entered."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(work: Callable[[], Any]) -> int:
    """Return how many operations of torch the work calls."""
    with CountOperations() as mode:
        work()
    return mode.count


def update(setup: Setup, *passes: dict[str, Any]) -> None:
    """Do one update from the sum of the gradients of all passes."""
    from espnet_ext.bl_just.bilevel import clip_groups

    setup.optimiser.zero_grad()
    for batch in passes:
        setup.model(**batch)["loss"].backward()
    clip_groups(setup.optimiser, CLIP)
    setup.optimiser.step()


def works_of(setup: Setup, batch: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """Return what is timed on a pair of batches."""
    sup = {k: v for k, v in batch.items() if not k.startswith("u_") and k != "step"}
    unsup = {k: v for k, v in batch.items() if k.startswith("u_")}

    def step(kind: str, measure: bool = False) -> dict[str, Any]:
        return {"step": {"kind": kind, "gamma": GAMMA, "measure": measure}}

    f, g, joint = sup | step("label"), unsup | step("explore"), sup | unsup | step("joint")
    return {
        "joint": lambda: update(setup, joint),
        "apart": lambda: update(setup, f, g),
        "measured": lambda: update(setup, sup | unsup | step("joint", True)),
        "f": lambda: update(setup, f),
        "g": lambda: update(setup, g),
    }


def joint_batches(setup: Setup) -> Iterator[dict[str, Any]]:
    """Yield batches of the joint phase, on and on."""
    while True:
        for _, batch in setup.streams.build_iter(1):
            if batch["step"]["kind"] == "joint":
                yield batch


def step_line(folder: Path, loss: str, repeat: int) -> str:
    """Return a line of the table ``step``."""
    setup = set_up(folder, loss, workers=0)
    times: dict[str, list[float]] = {}
    batches = joint_batches(setup)
    for number in range(repeat + 2):
        works = works_of(setup, next(batches))
        for name in list(works) if number % 2 else reversed(works):
            seconds = process_seconds(works[name])
            if number > 1:  # two rounds to warm up
                times.setdefault(name, []).append(seconds)
    calls = {name: operations(works[name]) for name in ("joint", "apart")}
    ms = {name: 1000 * statistics.median(t) for name, t in times.items()}
    ratios = [a / b for a, b in zip(times["joint"], times["apart"], strict=True)]
    more = [a / b - 1 for a, b in zip(times["measured"], times["joint"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    share = 100 * statistics.median(more) / setup.measure_every
    return (f"{ms['f']:8.0f} {ms['g']:8.0f} {ms['apart']:8.0f} {ms['joint']:8.0f} "
            f"{middle:7.3f} {low:6.3f}-{high:.3f} {share:9.2f} "
            f"{calls['apart']:>7} {calls['joint']:>7}")  # fmt: skip


def wait_line(folder: Path, loss: str, workers: int) -> str:
    """Return a line of the table ``waiting``: one epoch of training."""
    setup = set_up(folder, loss, workers)
    waits, loads, works = [], [], []
    start, cpu = time.perf_counter(), time.process_time()
    for _, batch in setup.streams.build_iter(1):
        waits.append(time.perf_counter() - start)
        loads.append(time.process_time() - cpu)
        begin = time.perf_counter()
        update(setup, batch)
        start, cpu = time.perf_counter(), time.process_time()
        works.append(start - begin)
    # The first batch waits for the workers to start, once in a training.
    waited, worked = sum(waits[1:]), sum(works[1:])
    count = len(works) - 1
    return (f"{workers:>7} {count:>6} {1000 * waits[0]:9.1f} {1000 * waited / count:9.2f} "
            f"{1000 * sum(loads[1:]) / count:9.2f} {1000 * worked / count:9.1f} "
            f"{100 * waited / (waited + worked):9.2f}")  # fmt: skip


def memory_mb(field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field)) / 1024


def cpc_case(utterances: int, max_queries: int | None, repeat: int) -> tuple[int, float, float]:
    """Return rows of the contrastive matrix, process seconds, peak MB; in a process of its own."""
    from espnet_ext.bl_just.unsup import build_unsup

    torch.manual_seed(1)
    layer = torch.nn.Linear(CPC_FEATURES, CPC_WIDTH)
    loss = build_unsup("cpc", {"max_queries": max_queries}, CPC_FEATURES, CPC_WIDTH)

    def encode(x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return layer(x[:, ::CPC_STRIDE]).tanh(), (lengths - 1) // CPC_STRIDE + 1

    def run(count: int) -> float:
        x = torch.randn(count, 100 * CPC_SECONDS, CPC_FEATURES)
        g, stats = loss(encode, x, torch.full((count,), x.shape[1]))
        g.backward()
        return float(stats["queries"])

    run(1)  # what the libraries allocate once is not the batch's
    before = memory_mb("VmRSS")
    seconds = [process_seconds(lambda: run(utterances)) for _ in range(repeat)]
    peak = memory_mb("VmHWM") - before
    return round(run(utterances)), statistics.median(seconds), peak


def cpc_lines(sizes: tuple[int, ...], repeat: int) -> Iterator[str]:
    """Yield the table ``cpc``."""
    context = multiprocessing.get_context("spawn")
    # The peak of a process cannot be lowered, so each case has a new one.
    with ProcessPoolExecutor(1, context, max_tasks_per_child=1) as pool:
        for utterances in sizes:
            for limit in MAX_QUERIES:
                rows, seconds, peak = pool.submit(cpc_case, utterances, limit, repeat).result()
                matrix = 4 * rows**2 / 2**20
                yield (f"{utterances:>10} {limit or 'all':>11} {rows:>7} {matrix:10.1f} "
                       f"{peak:10.1f} {1000 * seconds:9.0f}")  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=20, help="pairs of batches (default: 20)")
    parser.add_argument("--quick", action="store_true", help="a small corpus, 4 pairs, small CPC")
    parser.add_argument("--only", nargs="+", default=("step", "waiting", "cpc"), metavar="TABLE",
                        choices=("step", "waiting", "cpc"))  # fmt: skip
    args = parser.parse_args(argv)
    repeat = min(args.repeat, 4) if args.quick else max(args.repeat, 2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"step", "waiting"} & set(args.only):
            prepare_espnet()
            write_corpus(folder, *((16, 32) if args.quick else (60, 120)))
        print(f"{torch.get_num_threads()} threads; ms are process time, medians of {repeat}")
        if "step" in args.only:
            print(f"{'step':<10}{'f':>8} {'g':>8} {'apart':>8} {'joint':>8} {'ratio':>7} "
                  f"{'quartiles':>12} {'measure %':>9} {'ops':>7} {'joint':>7}")  # fmt: skip
            for loss in LOSSES:
                print(f"{loss:<10}{step_line(folder, loss, repeat)}", flush=True)
        if "waiting" in args.only:
            print(f"{'waiting':<10}{'workers':>7} {'steps':>6} {'first ms':>9} {'wait ms':>9} "
                  f"{'(cpu ms)':>9} {'work ms':>9} {'wait %':>9}   wall time")  # fmt: skip
            for workers in (0, 1):
                print(f"{'best_rq':<10}{wait_line(folder, 'best_rq', workers)}", flush=True)
    if "cpc" in args.only:
        print(f"{'utterances':>10} {'max_queries':>11} {'rows':>7} {'matrix MB':>10} "
              f"{'peak MB':>10} {'ms':>9}   {CPC_SECONDS} s each")  # fmt: skip
        for line in cpc_lines((4, 8) if args.quick else (16, 32), 1 if args.quick else 3):
            print(line, flush=True)
    return 0


def prepare_espnet() -> None:
    """Import ESPnet the fast way, and let it say nothing of each step."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import provide_editdistance

    logging.disable(logging.WARNING)
    fastimport.enable()
    provide_editdistance()


if __name__ == "__main__":
    sys.exit(main())
