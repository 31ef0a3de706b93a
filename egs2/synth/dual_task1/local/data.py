# SPDX-License-Identifier: Apache-2.0
"""Hotel and travel requests that mean the same in four languages, spoken by espeak-ng.

usage: python local/data.py OUT [--minutes N] [--pool-minutes N] [--seed N] ...

Into folder OUT go:

- ``pool``, ``pool_dev``: French, Italian, Arabic and English with ``phones``, a label for each
  10 ms (``phones.txt``), from the synthesiser's exact times: what the small encoder learns first.
- ``train_L``, ``dev_L``, ``test_L`` for L = fr, it, ar and fr_it; ``train_ar_05``, ``_10``, ``_25``
  and ``_50`` are shares of ``train_ar``, a smaller one part of a larger one.
- ``parallel.tsv``: every sentence of the training meanings in all languages, which the sentence
  encoder learns from; ``candidates.tsv``: those of the held-out meanings, which speech is to find.

Development and test meanings are the same in all languages and occur in no training set, nor in the
pool, nor in parallel.tsv; each of their templates and values does. Development and test speakers
are heard in no training set either.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from espnet_ext.data.synth.parallel import make_parallel
from espnet_ext.data.synth.parallel_sets import ParallelRequest, sets_of
from espnet_ext.errors import exit_code


def say(line: str) -> None:
    """Print a line at once."""
    print(line, flush=True)


def main() -> None:
    """Make the corpus and tell what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    for field in fields(ParallelRequest):
        if isinstance(field.default, int | float):
            option = f"--{field.name.replace('_', '-')}"
            parser.add_argument(option, type=type(field.default), default=field.default)
    args = vars(parser.parse_args())
    out = args.pop("out")
    made = make_parallel(out, ParallelRequest(**args), say)
    for name in sets_of(ParallelRequest()):
        what = "{utterances} utterances, {minutes} min, {speakers} speakers, {meanings} meanings"
        say(f"{name}: {what.format(**made[name])}")


if __name__ == "__main__":
    sys.exit(exit_code(main))
