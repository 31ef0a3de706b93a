# SPDX-License-Identifier: Apache-2.0
"""Time ``import espnet2.tasks.asr`` plain and after the fast import, in fresh processes.

Plain and fast runs alternate, so that a change of the machine's load meets both alike. A
measurement, not a test: it ends with 0 whatever it finds.

    python benchmarks/import_time.py [--pairs 3]
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

_TASK = "import espnet2.tasks.asr"
PROGRAMS = {
    "plain": _TASK,
    "fast": f"from espnet_ext.espnet import fastimport; fastimport.enable(); {_TASK}",
    "torch": "import torch",
}


def seconds(program: str) -> float:
    """Return the wall-clock seconds that a new Python process takes for ``program``.

    Raises:
        subprocess.CalledProcessError: The program fails.
    """
    root = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))
    switches = ("ESPNET_EXT_FAST_IMPORT", "ESPNET_EXT_TYPECHECK")
    env = {k: v for k, v in os.environ.items() if k not in switches} | {"PYTHONPATH": path}
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], env=env, check=True, capture_output=True)
    return time.perf_counter() - start


def measure(pairs: int) -> dict[str, list[float]]:
    """Time every program ``pairs`` times in turn, after one run of each to warm up, in seconds."""
    for program in PROGRAMS.values():
        seconds(program)
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for number in range(1, pairs + 1):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(program))
        print(f"{number:4d}  " + "  ".join(f"{n} {t[-1]:6.2f} s" for n, t in times.items()))
    return times


def main(argv: list[str] | None = None) -> int:
    """Print each time, the medians and the ratio; return 0."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=3, help="plain and fast runs (default: 3)")
    pairs = max(1, parser.parse_args(argv).pairs)
    try:
        times = measure(pairs)
    except subprocess.CalledProcessError as error:
        print(f"not measured: {error}\n{error.stderr.decode(errors='replace')[-2000:]}")
        return 0
    medians = {name: statistics.median(t) for name, t in times.items()}
    print("median  " + "  ".join(f"{n} {m:.2f} s" for n, m in medians.items()))
    print(f"fast / plain = {medians['fast'] / medians['plain']:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
