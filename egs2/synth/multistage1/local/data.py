# SPDX-License-Identifier: Apache-2.0
"""English requests spoken by espeak-ng: with pictures, with translations, with transcripts.

usage: python local/data.py OUT [--seed N] [--minutes N] [--av-minutes N] [--test-utts N] ...

The sets in folder OUT: see :mod:`espnet_ext.data.synth.multistage`.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path

from espnet_ext.data.synth.multistage import MultistageRequest, make_multistage
from espnet_ext.errors import exit_code


def main() -> None:
    """Make the corpus and tell what is in it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    for field in fields(MultistageRequest):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
    args = vars(parser.parse_args())
    out = args.pop("out")
    made = make_multistage(out, MultistageRequest(**args), lambda line: print(line, flush=True))
    for name, has in made.items():
        print(f"{name}: {has['utterances']} utterances, {has['minutes']:.1f} min, "
              f"{has['speakers']} speakers, {has['meanings']} meanings", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(exit_code(main))
