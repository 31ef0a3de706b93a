# SPDX-License-Identifier: Apache-2.0
"""``python -m espnet_ext.data.synth OUT_DIR``: make the embedded synthetic corpus."""

import argparse
import sys
import time

from espnet_ext.errors import EspnetExtError


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    p = argparse.ArgumentParser(
        prog="python -m espnet_ext.data.synth",
        description="Make a small synthetic speech corpus with exact phone times.",
        allow_abbrev=False,
    )
    p.add_argument("out_dir", help="folder to make; wav.scp will name audio by this path")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--language", default="en", help="en, fr, it or ar (default: en)")
    p.add_argument("--train-minutes", type=float, default=20.0)
    p.add_argument("--dev-utts", type=int, default=72)
    p.add_argument("--test-utts", type=int, default=72)
    p.add_argument("--train-speakers", type=int, help="use only the first so many")
    return p


def main(argv: list[str] | None = None) -> int:
    """Run the command; return its exit code (0 done, 2 wrong usage, 3 not usable)."""
    args = vars(parser().parse_args(argv))
    started = time.monotonic()
    try:
        from espnet_ext.data.synth.corpus import make_corpus

        done = make_corpus(
            args.pop("out_dir"), **args, progress=lambda line: print(line, flush=True)
        )
    except EspnetExtError as e:
        print(e, file=sys.stderr)
        return e.exit_code
    for split, utts in done.utts.items():
        print(
            f"{split}: {utts} utterances, {done.minutes[split]:.1f} min, "
            f"{done.speakers[split]} speakers"
        )
    print(f"{done.out_dir}: {done.words} words, {done.phones} phones")
    if done.made:
        print(f"made in {time.monotonic() - started:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
