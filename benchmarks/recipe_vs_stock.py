# SPDX-License-Identifier: Apache-2.0
"""Time ./run.sh against the stock commands that its --dry-run prints, on the same prepared data.

Both train from scratch, in turn, in experiments bench_recipe and bench_stock of one folder. Who
begins changes from round to round, so that a change of the machine's load meets both alike.

    python benchmarks/recipe_vs_stock.py [--recipe egs2/an4/asr1] [--rounds 3] [OPTIONS OF run.sh]

Without --recipe, a copy of egs2/synth/asr1 in a temporary folder: 3 minutes of speech, 2 epochs.
A measurement, not a test: it ends with 0 whatever the times are, and with 1 if a command fails.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STAGES = {"4": "tokens", "7": "finetune", "8": "decode", "10": "pack"}
OURS, STOCK = "bench_recipe", "bench_stock"
SMALL = [
    "--prepare.args=[--train-minutes, '3', --dev-utts, '20', --test-utts, '20']",
    "--finetune.args.max_epoch=2",
]
BESIDE = "start and checks"  # of the one process that runs all stages


class Bench:
    """A recipe's folder and the options that every run of it gets."""

    def __init__(self, folder: Path, options: list[str]):
        self.folder, self.options = folder, options
        # Both with the same Python and the same number of threads.
        bin_dir = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self.env = {"OMP_NUM_THREADS": "1", **os.environ, "PATH": bin_dir}
        self.env |= {"ESPNET_EXT_PYTHON": sys.executable}

    def run(self, argv: list[str]) -> tuple[float, str]:
        """Run a command in the folder; return its wall-clock seconds and its output.

        Raises:
            subprocess.CalledProcessError: It fails.
        """
        start = time.perf_counter()
        done = subprocess.run(
            argv, cwd=self.folder, env=self.env, check=True, capture_output=True, text=True
        )
        return time.perf_counter() - start, done.stdout

    def recipe(self, *argv: str) -> tuple[float, str]:
        """Run ``run.sh``; see :meth:`run`."""
        return self.run(["bash", "run.sh", *self.options, *argv])

    def clean(self, name: str) -> None:
        """Remove an experiment of an earlier round, or of an earlier benchmark."""
        shutil.rmtree(self.folder / "exp" / name, ignore_errors=True)


def time_recipe(bench: Bench) -> dict[str, float]:
    """Return seconds by stage of one ``run.sh``, and of what it does beside the stages."""
    bench.clean(OURS)
    # Scoring has no stock counterpart and would leave a run record: it is switched off.
    total, _ = bench.recipe("--name", OURS, "--stage", "4", "--score", "null", "--force")
    times = {}
    for number, name in STAGES.items():
        folder = ".stages" if number == "4" else f"exp/{OURS}/.stages"
        record = bench.folder / folder / f"{name}.json"
        times[name] = json.loads(record.read_text(encoding="utf-8"))["wall_s"]
    return {**times, BESIDE: total - sum(times.values())}


def time_stock(bench: Bench) -> dict[str, float]:
    """Return seconds by stage of the printed commands, each a process of its own."""
    bench.clean(STOCK)
    times = {}
    for number, name in STAGES.items():
        plan = ["--name", STOCK, "--dry-run", "--stage", number, "--stop-stage", number]
        commands = re.findall(r"^  stock: (.*)$", bench.recipe(*plan)[1], re.M)
        if commands:  # BPE has none: then the tokens of the recipe are there already
            times[name] = sum(bench.run(shlex.split(c))[0] for c in commands)
    return times


def table(rounds: list[tuple[dict[str, float], dict[str, float]]]) -> list[str]:
    """Return the medians by stage and in all, and stock divided by recipe."""
    lines = [f"{'stage':<18}{'run.sh (s)':>12}{'stock (s)':>12}{'stock/run.sh':>14}"]
    for name in (*STAGES.values(), BESIDE, "total"):
        medians = []
        for side in zip(*rounds, strict=True):
            values = [sum(t.values()) if name == "total" else t.get(name) for t in side]
            medians.append(None if None in values else statistics.median(values))
        ratio = medians[1] / medians[0] if all(medians) else None
        cells = ["–" if m is None else f"{m:.2f}" for m in (*medians, ratio)]
        lines.append(f"{name:<18}{cells[0]:>12}{cells[1]:>12}{cells[2]:>14}")
    return lines


def measure(bench: Bench, rounds: int) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Prepare the data, then time both sides in turn."""
    bench.recipe("--stop-stage", "4")
    out = []
    for number in range(rounds):
        sides = (time_recipe, time_stock) if number % 2 == 0 else (time_stock, time_recipe)
        timed = {side: side(bench) for side in sides}
        out.append((timed[time_recipe], timed[time_stock]))
        totals = [sum(t.values()) for t in out[-1]]
        print(f"round {number + 1}: run.sh {totals[0]:.1f} s, stock {totals[1]:.1f} s", flush=True)
    return out


def copy_synth(root: Path) -> Path:
    """Copy what egs2/synth/asr1 needs into ``root``; return the recipe's folder there."""
    for name in ("utils", "local", "conf"):
        shutil.copytree(ROOT / name, root / name)
    made = shutil.ignore_patterns("data", "dump", "exp", ".stages", "results")
    folder = root / "egs2/synth/asr1"
    shutil.copytree(ROOT / "egs2/synth/asr1", folder, ignore=made)
    return folder


def main(argv: list[str] | None = None) -> int:
    """Print the times of each round and the table of medians."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--recipe", type=Path, help="default: a small copy of egs2/synth/asr1")
    parser.add_argument("--rounds", type=int, default=1, help="default: 1")
    args, options = parser.parse_known_args(argv)
    place = tempfile.TemporaryDirectory() if args.recipe is None else nullcontext()
    with place as root:
        folder = args.recipe.resolve() if root is None else copy_synth(Path(root))
        bench = Bench(folder, [*([] if root is None else SMALL), *options])
        try:
            rounds = measure(bench, max(1, args.rounds))
        except subprocess.CalledProcessError as error:
            print(f"failed: {shlex.join(error.cmd)}\n{(error.stdout + error.stderr)[-3000:]}")
            return 1
    print("\n".join(table(rounds)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
