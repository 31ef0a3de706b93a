# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext data --from-cuts CUTS DIR
       espnet-ext data --to-cuts DIR CUTS [--alignment ALIGNMENT]

lhotse's manifests of cuts, from and to Kaldi-style data folders. lhotse itself is not needed, and
memory does not grow with the corpus.

--from-cuts CUTS DIR  write the data folder DIR. CUTS is cuts.jsonl or cuts.jsonl.gz, or a folder of
                      Shar shards (cuts.000000.jsonl.gz, recording.000000.tar, ...), whose audio is
                      used where it is: 'type: shar' for speech in recipe.yaml trains from it.
                      A supervision is an utterance; alignments are written to DIR/alignment
--to-cuts DIR CUTS    write the manifest CUTS (.jsonl or .jsonl.gz) of the data folder DIR
--alignment PATH      with --to-cuts: words and phones of this alignment, in any form that
                      'espnet-ext align export' reads
--allow-pipes         with --to-cuts: run the commands of wav.scp to know how long their audio is
"""

import argparse
import sys
from pathlib import Path

from espnet_ext.commandline import Parser, asks_for_help, parse
from espnet_ext.errors import UsageError

PROG = "espnet-ext data"


def main(argv: list[str]) -> int:
    """Run ``espnet-ext data``; return the exit code."""
    if asks_for_help(argv):
        print(__doc__.rstrip())
        return 0
    a = parse(_parser(), argv)
    if (a.from_cuts is None) == (a.to_cuts is None):
        how = f"{PROG} --from-cuts CUTS DIR, or {PROG} --to-cuts DIR CUTS"
        raise UsageError("give one of --from-cuts and --to-cuts", None, how)
    if a.from_cuts:
        if a.alignment or a.allow_pipes:
            raise UsageError("--alignment and --allow-pipes go with --to-cuts", PROG)
        return _from_cuts(*a.from_cuts)
    return _to_cuts(*a.to_cuts, a.alignment, a.allow_pipes)


def _parser() -> argparse.ArgumentParser:
    p = Parser(PROG)
    p.add_argument("--from-cuts", nargs=2, type=Path)
    p.add_argument("--to-cuts", nargs=2, type=Path)
    p.add_argument("--alignment", type=Path)
    p.add_argument("--allow-pipes", action="store_true")
    return p


def _from_cuts(cuts: Path, out: Path) -> int:
    from espnet_ext.data.lhotse.from_cuts import from_cuts

    done = from_cuts(cuts, out, _tell)
    print("\n".join([*done.lines(out), str(out)]))
    return 0


def _to_cuts(data: Path, out: Path, alignment: Path | None, allow_pipes: bool) -> int:
    from espnet_ext.data.lhotse.to_cuts import to_cuts

    cuts, aligned = to_cuts(data, out, alignment, allow_pipes, _tell)
    print(f"{cuts:,} cuts written" + (f", {aligned:,} with an alignment" if alignment else ""))
    print(out)
    return 0


def _tell(cuts: int) -> None:
    print(f"{cuts:,} cuts", file=sys.stderr, flush=True)
