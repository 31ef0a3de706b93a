# SPDX-License-Identifier: Apache-2.0
"""``espnet-ext score --slu REF HYP``: scores of two tables of tagged text, whatever made them."""

import argparse
import sys
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.data.transcripts import tidy
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import write_json
from espnet_ext.scoring.slu.files import write_files
from espnet_ext.scoring.slu.table import as_text, score_tagged
from espnet_ext.text.tagged import check

_EPILOG = """
REF and HYP have a line 'utterance tagged text' for each utterance, in any order; of a folder, its
file 'text' is read. Text is tagged as in 'i want <room> a double room > in <city> le mans >': a tag
opens a concept, '>' closes it. Tags of REF must be well-formed; HYP may be any text.

The table has the concept error rate (CER) and the concept and value error rate (CVER) by what an
utterance without a reference concept counts for: 'keep', its insertions are errors; 'speechbrain',
one empty unit, as in SpeechBrain's MEDIA recipe; 'skip', nothing, as in ESPnet's. Costs 1/1/1 are
those of SpeechBrain and jiwer, 4/3/3 those of sclite.
"""


def main(argv: list[str]) -> int:
    """Run the command; return the exit code.

    Raises:
        DataError: A table is not usable, a reference is not well-formed (file and line), or an
            utterance is in one table only.
        UsageError: ``--out`` is a file.
    """
    args = _parser().parse_args(argv)
    args.slu = [path / "text" if path.is_dir() else path for path in args.slu]
    if args.out and args.out.exists() and not args.out.is_dir():
        raise UsageError("--out is a file", args.out, "name a folder")
    refs, hyps = (_read(path, args.space) for path in args.slu)
    for utt, (line, text) in refs.items():
        check(text, f"{args.slu[0]}:{line} ({utt})", reserved=())
    tables = [{utt: text for utt, (_, text) in table.items()} for table in (refs, hyps)]
    try:
        scores = score_tagged(*tables)
    except DataError as e:
        raise DataError(e.what, f"{args.slu[1]}: {e.where}", e.how) from None
    print(as_text(scores))
    if not scores.concepts:
        print("warning: there is no tag in either file", file=sys.stderr)
    if args.out:
        _write(args.out, tables, scores.as_json())
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="espnet-ext score",
        usage="espnet-ext score --slu REF HYP [--out DIR] [--space CHARACTER]",
        description="Score tagged text: concepts, their values, words and characters.",
        epilog=_EPILOG,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slu", nargs=2, metavar=("REF", "HYP"), type=Path, required=True)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="write scores.json, .trn files for sclite, tables by concept, errors and a picture "
        "of confused concepts there",
    )
    parser.add_argument(
        "--space",
        default="",
        metavar="CHARACTER",
        help="the files have symbols between spaces, and this one for the space between words, "
        "as SpeechBrain writes: '<city> _ l e _ m a n s _ >'",
    )
    return parser


def _read(path: Path, space: str) -> dict[str, tuple[int, str]]:
    """Return the line and the tagged text of each utterance."""
    return {
        utt: (number, tidy("".join(text.split()).replace(space, " ") if space else text))
        for number, (utt, text) in enumerate(iter_table(path), 1)
    }


def _write(out: Path, tables: list[dict[str, str]], scores: dict) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "scores.json", scores)
    try:
        write_files(*tables, out)
    except SetupError as e:
        print(f"no picture: {e.what} ({e.how})", file=sys.stderr)
    print(f"\nfiles: {out}")
