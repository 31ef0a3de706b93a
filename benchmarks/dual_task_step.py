# SPDX-License-Identifier: Apache-2.0
"""Time a step of the dual task against an SLU step alone; batches; gradient checkpointing.

Encoders with random weights on noise with random targets; ratios within one run, work in turn:

step      forward, both losses, backward, clipping and both optimisers, against the same with L_slu
          alone: two models with the same weights, the same batches. Sentence vectors come from a
          store, which is looked up beside it. The ratio is the median over pairs (goal: 1.03).
batches   an epoch of dual steps in batches of ESPnet's: 4 utterances by ascending length (the
          paper's), 4 at random, and as many of similar length as go into a batch of about the same
          audio (``by length``). Durations are made up: log-normal, median 2.2 s, up to 20 s.
memory    peak memory and time of dual steps with and without gradient checkpointing, the batch's
          part apart from that of weights, gradients and optimisers; a new process for each case.
          The steps are slower than those of ``step``: freed memory goes back at once. An encoder
          with few small blocks has its peak in its convolutions, where nothing is saved.

    OMP_NUM_THREADS=1 python benchmarks/dual_task_step.py [--encoders small wav2vec2] [--quick]

``small`` is the encoder of egs2/synth/dual_task1, ``wav2vec2`` a small one of the kind of XLS-R;
``xlsr`` has the size of XLS-R-300M and needs 8 GB. Times are those of the process; other processes
disturb them by some per cent. A measurement, not a test: it ends with 0 whatever the figures are.
Linux only.
"""

import argparse
import contextlib
import io
import json
import logging
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

TABLES = ("step", "batches", "memory")
FS_HZ, SYMBOLS_PER_S, SYMBOLS, CLIP = 16000, 8, 75, 5.0
MEDIAN_S, SPREAD, SHORTEST_S, LONGEST_S = 2.2, 0.8, 0.6, 20.0
FRAMES = {"fs": 16000, "n_fft": 512, "win_length": 400, "hop_length": 120, "n_mels": 40}
FBANK = {"frontend_conf": FRAMES, "encoder": "conformer"}
CONFORMER = {"input_layer": "conv2d", "macaron_style": True, "cnn_module_kernel": 15}
SAMPLES = {"frontend": None, "input_size": 1, "encoder": "torchaudiohubert"}
HUBERT = {
    "extractor_mode": "layer_norm", "extractor_conv_bias": True, "finetuning": True,
    "encoder_layer_norm_first": True, "mask_prob": 0.0, "encoder_layer_drop": 0.0,
}  # fmt: skip


def hubert(width: int, layers: int, heads: int) -> dict[str, Any]:
    """Return the options of an encoder of the kind of XLS-R."""
    sizes = {"embed_dim": width, "num_layers": layers, "num_heads": heads,
             "ff_interm_features": 4 * width}  # fmt: skip
    conf = HUBERT | {f"encoder_{name}": n for name, n in sizes.items()}
    return SAMPLES | {"encoder_conf": conf}


def conformer(width: int, layers: int) -> dict[str, Any]:
    """Return the options of a small Conformer on filterbanks."""
    sizes = {"output_size": width, "num_blocks": layers, "attention_heads": 4}
    return FBANK | {"encoder_conf": CONFORMER | sizes | {"linear_units": 2 * width}}


# Encoder, width of the sentence vectors, options of the SLU head.
SIZES: dict[str, tuple[dict[str, Any], int, dict[str, Any]]] = {
    "tiny": (conformer(16, 1), 8, {"blstm_layers": 1}),
    "small": (conformer(96, 3), 64, {"blstm_layers": 1, "blstm_cells": 64}),
    "wav2vec2": (hubert(512, 12, 8), 512, {"blstm_layers": 3}),
    "xlsr": (hubert(1024, 24, 16), 768, {"blstm_layers": 3}),
}
Row = dict[str, Any]
Batch = dict[str, torch.Tensor]


@dataclass
class Training:
    """A model and its two optimisers."""

    model: torch.nn.Module
    optimisers: list[torch.optim.Optimizer]

    def step(self, batch: Batch) -> None:
        """Do one update, as ESPnet's trainer does it."""
        for optimiser in self.optimisers:
            optimiser.zero_grad()
        self.model(**batch)[0].backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        for optimiser in self.optimisers:
            optimiser.step()


def set_up(folder: Path, size: str, schedule: str) -> Training:
    """Return a training of a schedule, with the same weights each time.

    Args:
        folder: For the list of symbols and the configuration.
        size: Of :data:`SIZES`.
        schedule: ``dual`` or ``slu``.
    """
    from espnet_ext.dual_task.task import DualTask
    from espnet_ext.espnet.train import parse

    encoder, width, head = SIZES[size]
    tokens = ["<blank>", "<unk>", *(f"s{i}" for i in range(SYMBOLS - 3)), "<sos/eos>"]
    section = {"schedule": schedule, "samu_scale": 1, "samu_reduce": "mean", "embedding_dim": width}
    conf = encoder | {
        "dual_task": section | head,
        "specaug": None, "normalize": None, "decoder": None, "model_conf": {"ctc_weight": 1.0},
        "token_list": tokens, "token_type": "word", "seed": 1,
    }  # fmt: skip
    (folder / "train.yaml").write_text(json.dumps(conf), encoding="utf-8")
    args = parse(DualTask, ["--config", str(folder / "train.yaml"), "--output_dir", str(folder)])
    torch.manual_seed(1)
    with contextlib.redirect_stdout(io.StringIO()):
        model = DualTask.build_model(args).train()
        optimisers = DualTask.build_optimizers(args, model)
    return Training(model, optimisers)


def make_store(folder: Path, texts: int, width: int) -> Any:
    """Return a store of random vectors of so many texts, ``text 0``, ``text 1``, ..."""
    from espnet_ext.text.sentence_store import SentenceStore

    folder.mkdir(exist_ok=True)
    np.save(folder / "vectors.npy", np.random.default_rng(1).random((texts, width), np.float32))
    lines = "".join(json.dumps(f"text {i}") + "\n" for i in range(texts))
    (folder / "texts.jsonl").write_text(lines, encoding="utf-8")
    about = {"fingerprint": "random", "pooling": "mean", "width": width, "texts": texts,
             "source": "random"}  # fmt: skip
    (folder / "about.json").write_text(json.dumps(about), encoding="utf-8")
    return SentenceStore(folder)


def make_batch(seconds: list[float], width: int) -> Batch:
    """Return noise of these durations with random targets and sentence vectors."""
    samples = torch.tensor([round(FS_HZ * s) for s in seconds])
    symbols = torch.tensor([max(1, round(SYMBOLS_PER_S * s)) for s in seconds])
    return {
        "speech": 0.1 * torch.randn(len(seconds), int(samples.max())),
        "speech_lengths": samples,
        "text": torch.randint(2, SYMBOLS - 1, (len(seconds), int(symbols.max()))),
        "text_lengths": symbols,
        "sentence": torch.randn(len(seconds), width),
    }


def durations(number: int) -> list[float]:
    """Return made-up durations of utterances in seconds."""
    drawn = np.random.default_rng(1).lognormal(math.log(MEDIAN_S), SPREAD, number)
    return np.clip(drawn, SHORTEST_S, LONGEST_S).tolist()


def process_seconds(work: Callable[[], Any]) -> float:
    """Return the processor's time that the work took in this process, all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def in_turn(works: dict[str, Callable], rounds: int, warm_up: int = 1) -> dict[str, list[float]]:
    """Return the seconds of each work in each round but the first ones; every other is reversed."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + warm_up):
        for name in list(works) if number % 2 else reversed(works):
            seconds = process_seconds(works[name])
            if number >= warm_up:
                times[name].append(seconds)
    return times


def ms(seconds: list[float]) -> float:
    """Return the median in milliseconds."""
    return round(1000 * statistics.median(seconds), 2)


def ratio(above: list[float], below: list[float]) -> Row:
    """Return the median of the ratios within rounds, and their quartiles."""
    found = [a / b for a, b in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(found, n=4, method="inclusive")
    return {"ratio": round(middle, 3), "quartiles": f"{low:.3f}-{high:.3f}"}


def step_rows(folder: Path, size: str, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``step``: batches of short, usual and long utterances."""
    width = SIZES[size][1]
    store = make_store(folder / "sentences", 20 if args.quick else 20000, width)
    dual, slu = (set_up(folder, size, s) for s in ("dual", "slu"))
    for seconds in args.seconds:
        batch = make_batch([seconds, *[0.9 * seconds] * (args.batch_size - 1)], width)
        without = {k: x for k, x in batch.items() if k != "sentence"}
        texts = [f"text {i * 7 % len(store)}" for i in range(args.batch_size)]
        found = in_turn(
            {
                "dual": lambda b=batch: dual.step(b),
                "slu": lambda b=without: slu.step(b),
                "lookup": lambda t=texts: [store[x] for x in t],
            },
            args.repeat,
        )
        yield {"encoder": size, "batch": args.batch_size, "seconds": seconds,
               "slu ms": ms(found["slu"]), "dual ms": ms(found["dual"]),
               **ratio(found["dual"], found["slu"]), "lookup ms": ms(found["lookup"])}  # fmt: skip


def arrangements(folder: Path, seconds: list[float], size: int) -> dict[str, list[list[int]]]:
    """Return the batches of an epoch by name: numbers of utterances."""
    from espnet2.samplers.num_elements_batch_sampler import NumElementsBatchSampler
    from espnet2.samplers.sorted_batch_sampler import SortedBatchSampler
    from espnet2.samplers.unsorted_batch_sampler import UnsortedBatchSampler

    path = folder / "speech_shape"
    lines = (f"{i} {round(FS_HZ * s)}\n" for i, s in enumerate(seconds))
    path.write_text("".join(lines), encoding="utf-8")
    mean = round(FS_HZ * size * sum(seconds) / len(seconds))
    samplers = {
        f"{size}, ascending": SortedBatchSampler(size, str(path), sort_batch="ascending"),
        f"{size}, at random": UnsortedBatchSampler(size, str(path)),
        "by length": NumElementsBatchSampler(mean, [str(path)]),
    }
    return {name: [[int(i) for i in b] for b in s] for name, s in samplers.items()}


def batches_rows(folder: Path, size: str, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``batches``."""
    width, training = SIZES[size][1], set_up(folder, size, "dual")
    seconds = durations(24 if args.quick else args.utterances)
    np.random.default_rng(2).shuffle(seconds)
    arranged = arrangements(folder, seconds, args.batch_size)
    made = {n: [make_batch([seconds[i] for i in b], width) for b in x] for n, x in arranged.items()}

    def epoch(batches: list[Batch]) -> None:
        for batch in batches:
            training.step(batch)

    works = {name: lambda b=batches: epoch(b) for name, batches in made.items()}
    found = in_turn(works, max(2, args.repeat // 5), warm_up=0)
    first = next(iter(found))
    for name, batches in made.items():
        computed = [b["speech"].numel() / FS_HZ for b in batches]
        yield {"encoder": size, "batches": name, "updates": len(batches),
               "audio: computed / real": round(sum(computed) / sum(seconds), 3),
               "largest batch s": round(max(computed), 1), "epoch ms": ms(found[name]),
               **ratio(found[name], found[first])}  # fmt: skip


def memory_mb(field: str) -> float:
    """Return ``VmRSS`` (now) or ``VmHWM`` (peak) of this process; Linux."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(x.split()[1]) for x in lines if x.startswith(field)) / 1024


def memory_case(size: str, checkpointing: bool, seconds: float, batch: int, repeat: int) -> tuple:
    """Return MB of the training without a batch, MB more in a step, seconds of each step."""
    torch.set_num_threads(1)
    prepare_espnet()
    from espnet_ext.dual_task.tuning import tune

    with tempfile.TemporaryDirectory() as name:
        before = memory_mb("VmRSS")
        training = set_up(Path(name), size, "dual")
    tune(training.model.encoder, gradient_checkpointing=checkpointing)
    width = SIZES[size][1]
    training.step(make_batch([0.5], width))  # gradients and the optimisers' states
    resting = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts again
    long = make_batch([seconds] * batch, width)
    times = [process_seconds(lambda: training.step(long)) for _ in range(repeat)]
    return resting - before, memory_mb("VmHWM") - resting, times


def memory_rows(folder: Path, size: str, args: argparse.Namespace) -> Iterator[Row]:
    """Yield the table ``memory``."""
    seconds = 2.0 if args.quick else max(args.seconds)
    found = {}
    # Freed memory goes back at once, else the peak is that of the C library's stock.
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    for checkpointing in (False, True):
        # What one case has freed would hide what the next one needs.
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            case = (size, checkpointing, seconds, args.batch_size, max(2, args.repeat // 5))
            found[checkpointing] = pool.submit(memory_case, *case).result()
    del os.environ["MALLOC_MMAP_THRESHOLD_"]
    for checkpointing, (resting, peak, times) in found.items():
        yield {"encoder": size, "batch": args.batch_size, "seconds": seconds,
               "checkpointing": "on" if checkpointing else "off", "training MB": round(resting),
               "batch MB": round(peak), "of off": round(peak / found[False][1], 2),
               "step ms": ms(times), **ratio(times, found[False][2])}  # fmt: skip


def show(table: str, rows: Iterator[Row]) -> list[Row]:
    """Print rows in Markdown as they come; return them."""
    out: list[Row] = []
    for row in rows:
        if not out:
            print(f"\n{table}\n\n| " + " | ".join(row) + " |\n|" + "---|" * len(row))
        out.append(row)
        print("| " + " | ".join(str(x) for x in row.values()) + " |", flush=True)
    return out


def prepare_espnet() -> None:
    """Import ESPnet the fast way, and let it say nothing of each step."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import provide_editdistance

    logging.disable(logging.WARNING)
    fastimport.enable()
    provide_editdistance()


def main(argv: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoders", nargs="+", default=["small", "wav2vec2"], choices=SIZES)
    parser.add_argument("--batch-size", type=int, default=4, help="utterances (default: 4)")
    parser.add_argument("--seconds", type=float, nargs="+", default=[1.0, 3.0, 8.0], metavar="S",
                        help="longest utterance of a batch (default: 1 3 8)")  # fmt: skip
    parser.add_argument("--utterances", type=int, default=80, help="of an epoch (default: 80)")
    parser.add_argument("--repeat", type=int, default=20, help="pairs of steps (default: 20)")
    parser.add_argument("--only", nargs="+", default=TABLES, metavar="TABLE", choices=TABLES)
    parser.add_argument("--quick", action="store_true", help="a tiny encoder, a few short steps")
    parser.add_argument("--json", action="store_true", help="print all rows as a line of JSON, too")
    args = parser.parse_args(argv)
    args.repeat = max(args.repeat, 2)
    if args.quick:
        args.encoders, args.repeat, args.seconds = ["tiny"], 2, [1.0]
    print(f"{torch.get_num_threads()} threads; ms are process time, medians of {args.repeat}")
    kinds = {"step": step_rows, "batches": batches_rows, "memory": memory_rows}
    tables: dict[str, list[Row]] = {table: [] for table in args.only}
    prepare_espnet()
    for size in args.encoders:
        for table in args.only:
            with tempfile.TemporaryDirectory() as name:
                tables[table] += show(table, kinds[table](Path(name), size, args))
    if args.json:
        print(json.dumps(tables))
    return 0


if __name__ == "__main__":
    sys.exit(main())
