# SPDX-License-Identifier: Apache-2.0
"""Hotel and travel requests that mean the same in four languages, spoken by espeak-ng.

usage: python local/data.py OUT [--minutes N] [--pool-minutes N] [--seed N] ...

Into folder OUT go:

- ``pool``, ``pool_dev``: French, Italian, Arabic and English with ``phones``, a label for each
  10 ms (``phones.txt``), from the synthesiser's exact times: what the small encoder learns first.
- ``train_L``, ``dev_L``, ``test_L`` for L = fr, it, ar and fr_it; ``train_L_25`` and ``_50`` (ar:
  ``_05`` and ``_10``, too) are shares of ``train_L``, a smaller one part of a larger one.
- ``parallel.tsv``: every sentence of the training meanings in all languages, ``candidates.tsv``:
  those of development and test meanings, which speech is to find.
- ``manifest.tsv``: every utterance, as egs2/manifest/dual_task1 takes it.
- ``sentence_encoder``: a small encoder trained on parallel.tsv (some 25 s of one core). With
  SENTENCE_ENCODER set it is not used, and ``--teacher-steps 0`` leaves it out.

The meanings of development and test sets, the same in all languages, and those of ``pool_dev``
occur in no training set, nor in the pool, nor in parallel.tsv; each of their templates and values
does. The speakers of these sets are heard in no other set.
"""

import argparse
import json
import sys
from dataclasses import asdict, fields
from pathlib import Path

from espnet_ext.data.synth.parallel import make_parallel
from espnet_ext.data.synth.parallel_sets import ParallelRequest, sets_of
from espnet_ext.errors import UsageError, exit_code
from espnet_ext.text import parallel


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def teach(out: Path, args: parallel.ParallelArgs) -> None:
    """Train the sentence encoder, unless it is there by the same settings."""
    folder = out / "sentence_encoder"
    record = folder / parallel.RECORD
    if record.is_file() and json.loads(record.read_text(encoding="utf-8"))["args"] == asdict(args):
        say(f"{folder} is up to date")
        return
    parallel.make(out / "parallel.tsv", folder, out / "candidates.tsv", args, say)


def main() -> None:
    """Make the corpus and the sentence encoder, and tell what is in them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    for field in fields(ParallelRequest):
        if isinstance(field.default, int | float):
            option = f"--{field.name.replace('_', '-')}"
            parser.add_argument(option, type=type(field.default), default=field.default)
    steps = parallel.ParallelArgs().steps
    parser.add_argument("--teacher-steps", type=int, default=steps, help="0: no encoder")
    args = vars(parser.parse_args())
    out, steps = args.pop("out"), args.pop("teacher_steps")
    if steps < 0:
        raise UsageError(f"teacher_steps is {steps}", "--teacher-steps", "give 0 or more")
    made = make_parallel(out, ParallelRequest(**args), say)
    for name in sets_of(ParallelRequest()):
        has = made[name]
        say(f"{name}: {has['utterances']} utterances, {60 * has['hours']:.1f} min, "
            f"{has['speakers']} speakers, {has['meanings']} meanings")  # fmt: skip
    if steps:
        teach(out, parallel.ParallelArgs(steps=steps, seed=args["seed"]))


if __name__ == "__main__":
    sys.exit(exit_code(main))
