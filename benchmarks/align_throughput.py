# SPDX-License-Identifier: Apache-2.0
"""Measure every pass of the aligner in frames per second, and extrapolate to 200 and 1000 hours.

Each pass runs on 1, 2 and 4 times the data with the same model, in turn and several times; medians
give frames per CPU second of one core and a line ``time = a + b * frames``. kaldi-hmm-gmm aligns
and accumulates beside it where it is installed (align_khg.py), all cores make whole iterations, and
a GPU does what it can where torch finds one. Repeated data has no new triphones: the tree of as
much real speech takes longer than the line says.

    python benchmarks/align_throughput.py [--data FOLDER --lexicon FILE] [--json FILE]

Without --data: 3.4 minutes of synthetic speech and their repetitions; about four minutes on one
core. A measurement, not a test: it ends with 0 whatever it finds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import align_passes as work
import numpy as np
import torch
from align_passes import FIXED, KHG, REALIGNED, Case, Watch

from espnet_ext.align.options import AlignOptions, from_dict
from espnet_ext.recipe.executor import make_executor
from espnet_ext.recipe.options import Options

HOURS = (200, 1000)
FRAMES_PER_HOUR = 360_000
MINUTES = 3.4  # of the synthetic corpus: 4 times that is enough for two processes
RATIOS = (  # what is divided by what
    ("align, best Gaussian", "align, beam 10" + KHG),
    ("align, best Gaussian", "align, beam 1000" + KHG),
    ("align, all Gaussians", "align, beam 10" + KHG),
    ("align, all Gaussians", "align, beam 1000" + KHG),
    ("accumulate", "accumulate" + KHG),
)
GPU = " (GPU)"


class Times:
    """CPU and wall seconds of each pass, by scale, one value for each repetition."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)

    @contextmanager
    def repetition(self, scale: int, gpu: bool = False) -> Iterator[Watch]:
        """Yield a stopwatch; what it adds up under a name is one value of that pass."""
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])

        @contextmanager
        def watch(name: str) -> Iterator[None]:
            cpu, wall = time.process_time(), time.perf_counter()
            yield
            if gpu:
                torch.cuda.synchronize()
            own = sums[name + GPU * gpu]
            own[0] += time.process_time() - cpu
            own[1] += time.perf_counter() - wall

        yield watch
        for name, (cpu, wall) in sums.items():
            self.values[name, scale].append((cpu, wall))

    def names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.values))

    def median(self, name: str, scale: int) -> tuple[float, float]:
        """Return median CPU and wall seconds."""
        cpu, wall = zip(*self.values[name, scale], strict=True)
        return statistics.median(cpu), statistics.median(wall)


def measure(cases: list[Case], repeat: int, nj: int) -> Times:
    """Run every pass on every scale ``repeat`` times, in an order that changes."""
    times, gpu = Times(), torch.cuda.is_available()
    with make_executor(Options(nj=nj, executor="local")) as pool:
        with Times().repetition(0) as watch:  # imports, compiled code, processes
            work.time_hybrid(cases[0], watch)
            work.time_iterations(cases[-1], watch, pool.map)
        for number in range(repeat):
            start = time.perf_counter()
            for case in cases if number % 2 == 0 else cases[::-1]:
                with times.repetition(case.scale) as watch:
                    work.time_statistics(case, watch)
                    work.time_parts(case, watch)
                    work.time_iterations(case, watch)
                    work.time_hybrid(case, watch)
                    if case is cases[-1] and nj > 1:
                        work.time_iterations(case, _named(watch, f", {nj} processes"), pool.map)
                if gpu:
                    with times.repetition(case.scale, gpu=True) as watch:
                        work.time_parts(case, watch, "cuda")
                        work.time_iterations(case, watch, device="cuda")
                        work.time_hybrid(case, watch, "cuda")
            print(f"repetition {number + 1}/{repeat}: {time.perf_counter() - start:.0f} s, "
                  f"load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip
    return times


def _named(watch: Watch, tail: str) -> Watch:
    return lambda name: watch(name + tail)


def fit(frames: list[int], seconds: list[float]) -> tuple[float, float]:
    """Return a and b of ``seconds = a + b * frames`` by least squares, a at least 0."""
    x, y = np.array(frames, float), np.array(seconds)
    if len(x) > 1:
        b, a = np.polyfit(x, y, 1)
        if a >= 0 and b > 0:
            return float(a), float(b)
    return 0.0, float(x @ y / (x @ x))


def summarise(times: Times, frames: dict[int, int]) -> dict[str, dict[str, Any]]:
    """Return by pass: seconds by scale, frames per second of the largest, a, b.

    Seconds are those of one core's CPU; of a pass by processes or on the GPU, by the clock.
    """
    rows = {}
    for name in times.names():
        clock = GPU in name or name.endswith(" processes")
        own = [s for s in frames if (name, s) in times.values]
        seconds = [times.median(name, s)[1 if clock else 0] for s in own]
        a, b = fit([frames[s] for s in own], seconds)
        rows[name] = {
            "clock": "wall" if clock else "cpu",
            "seconds": dict(zip(own, seconds, strict=True)),
            "wall_s": {s: times.median(name, s)[1] for s in own},
            "frames_per_s": {
                s: frames[s] / max(t, 1e-9) for s, t in zip(own, seconds, strict=True)
            },
            "a_s": a,
            "b_us_per_frame": 1e6 * b,
        }
    return rows


def predict(row: dict[str, Any], frames: float) -> float:
    """Return the seconds of a pass over so many frames."""
    return row["a_s"] + 1e-6 * row["b_us_per_frame"] * frames


def training_seconds(rows: dict[str, Any], frames: float, per_utt: float) -> dict[str, float]:
    """Return CPU seconds of the passes of a default training over ``frames``.

    Args:
        rows: Of :func:`summarise`.
        frames: All the data.
        per_utt: Frames of an average utterance, for the limit of the monophone pass.
    """
    o = AlignOptions()
    few = min(frames, o.mono.max_utterances * per_utt)

    def em(name: str, schedule: Any, own: float) -> float:
        searches = len([i for i in schedule.realign if i <= schedule.iterations])
        plain, both = (predict(rows[f"{name} {kind}"], own) for kind in (FIXED, REALIGNED))
        final = rows[f"{name} {REALIGNED}"], rows[f"{name} {FIXED}"]
        last = predict(final[0], frames) - predict(final[1], frames)
        return (schedule.iterations - searches) * plain + searches * both + last

    network, epochs = o.hybrid.network, o.hybrid.rounds * o.hybrid.filled().epochs
    learnt = min(frames, o.hybrid.epoch_frames or frames)
    search = predict(rows["labels of the networks"], frames)
    search += predict(rows[f"{network} realignment"], frames)
    return {
        "features (MFCC; again for the network)": 2 * predict(rows["features (MFCC)"], frames),
        "mono": em("mono", o.mono, few),
        "tri, with its tree": em("tri", o.tri, frames) + predict(rows["tree"], frames),
        f"{network}, {epochs} epochs": epochs * predict(rows[f"{network} epoch"], learnt),
        f"alignment by the {network}": o.hybrid.rounds * search,
    }


def table(rows: dict[str, Any], scales: list[int]) -> list[str]:
    """Return frames per second by scale, the line, and the hours it extrapolates to."""
    head = "".join(f"{f'{s}x':>11}" for s in scales)
    hours = "".join(f"{f'{h} h':>9}" for h in HOURS)
    lines = [f"{'frames per CPU second of one core':<46}{head}{'a (s)':>8}{'b (us)':>8}{hours}"]
    for name, row in rows.items():
        rates = "".join(
            f"{row['frames_per_s'][s]:>11,.0f}" if s in row["seconds"] else f"{'-':>11}"
            for s in scales
        )
        more = "".join(f"{predict(row, h * FRAMES_PER_HOUR) / 3600:>9.2f}" for h in HOURS)
        mark = " *" if row["clock"] == "wall" else ""
        lines.append(
            f"{name + mark:<46}{rates}{row['a_s']:>8.2f}{row['b_us_per_frame']:>8.2f}{more}"
        )
    columns = "  ".join(f"'{h} h'" for h in HOURS)
    return [*lines, "* frames per second by the clock",
            f"{columns}: core hours of one pass, EXTRAPOLATED by a + b * frames"]  # fmt: skip


def ratios(rows: dict[str, Any], scale: int) -> dict[str, float]:
    """Return frames per second of the aligner divided by those of kaldi-hmm-gmm."""
    rate = {name: row["frames_per_s"].get(scale) for name, row in rows.items()}
    return {f"{a} / {b}": rate[a] / rate[b] for a, b in RATIOS if b in rate}


def report(rows: dict[str, Any], cases: list[Case], cores: int) -> dict[str, Any]:
    """Print all that was found; return it as plain data."""
    last = cases[-1]
    per_utt = last.corpus.frames / last.corpus.utterances
    print("\n".join(table(rows, [c.scale for c in cases])))
    found: dict[str, Any] = {"passes": rows, "ratios": ratios(rows, last.scale), "training": {}}
    for name, ratio in found["ratios"].items():
        print(f"{ratio:.2f} = {name}")
    for name in [n for n in rows if n.endswith(" processes")]:
        alone = rows[name.rpartition(", ")[0]]["wall_s"][last.scale]
        print(f"{alone / rows[name]['wall_s'][last.scale]:.2f} times as fast: {name}")
    print(f"whole default training on {cores} cores, EXTRAPOLATED (hours; {per_utt:.0f} frames an "
          f"utterance, {work.COMPONENTS} Gaussians a state)")  # fmt: skip
    for hours in HOURS:
        parts = training_seconds(rows, hours * FRAMES_PER_HOUR, per_utt)
        # The network is trained by one process.
        share = {k: v / 3600 / (1 if k.endswith(" epochs") else cores) for k, v in parts.items()}
        found["training"][hours] = share
        total = ", ".join(f"{k} {v:.2f}" for k, v in share.items())
        print(f"  {hours} h of speech: {sum(share.values()):.2f} ({total})")
    if not torch.cuda.is_available():
        print("GPU: torch finds none; not measured")
    return found


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    return {
        "processor": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def parse(argv: list[str] | None) -> argparse.Namespace:
    """Return the options of the command line."""
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--data", type=Path, help="Kaldi-style folder (default: synthetic speech)")
    p.add_argument("--lexicon", default="", help="dictionary for --data (default: letters)")
    p.add_argument("--repeat", type=int, default=3, help="repetitions of each pass (default: 3)")
    p.add_argument("--scales", default="1,2,4", help="times the data (default: 1,2,4)")
    p.add_argument("--cores", type=int, default=0, help="cores to extrapolate to (default: all)")
    p.add_argument("--json", type=Path, help="file for all figures")
    args = p.parse_args(argv)
    args.scales = sorted({int(s) for s in args.scales.split(",")})
    args.repeat = max(1, args.repeat)
    return args


def main(argv: list[str] | None = None) -> int:
    """Measure and print; return 0."""
    args = parse(argv)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data, lexicon = args.data, args.lexicon
        if data is None:
            from espnet_ext.data.synth.corpus import make_corpus

            made = Path(folder) / "synthetic"
            make_corpus(made, train_minutes=MINUTES, dev_utts=1, test_utts=1)
            data, lexicon = made / "train", str(made / "lexicon.txt")
        o = from_dict({**work.TRAINING, "lexicon": lexicon})
        cases = work.make_cases(data, Path(folder), o, args.scales)
        frames = {c.scale: c.corpus.frames for c in cases}
        cores = len(os.sched_getaffinity(0))
        nj = max(1, min(cores, cases[-1].corpus.shards // 2))  # a process gets two shards or more
        print("frames: " + ", ".join(f"{s}x {n:,}" for s, n in frames.items()), flush=True)
        print(f"processes: {nj} of {cores} cores; more data (--scales) lets more of them work")
        rows = summarise(measure(cases, args.repeat, nj), frames)
        found = {"machine": machine(), "frames": frames, **report(rows, cases, args.cores or cores)}
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
