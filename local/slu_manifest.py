# SPDX-License-Identifier: Apache-2.0
"""Tagged speech of a manifest into Kaldi-style folders, one for each set.

usage: python local/slu_manifest.py OUT [--env VARIABLE] [--more PATH...] [--languages LANG...]
                                    [--set NAME=SET[:LANG,LANG]...] [--symbols FILE]
                                    [--values words|other] [--train-encoder SET]
                                    [--from SET=DIR... [--language LANG]]

The manifest is a file, or a folder with manifest.tsv or with train.tsv, dev.tsv and test.tsv; the
variable MANIFEST (--env: another one) names it. Its columns: espnet_ext/data/slu_manifest.py.
--more names further ones, for example of another language's corpus: each recipe of a corpus leaves
its own in data/manifest.tsv.
--from takes data folders that exist in place of a manifest, with tagged text in their file text,
and leaves OUT/manifest.tsv; --language is that of utterances which utt2lang does not name.
--train-encoder trains a small sentence encoder, OUT/sentence_encoder, on the texts of a set.

Without --set each set of the manifests is written under its own name. With it, only those that are
named: train_fr_it=train:fr,it has the French and Italian rows of train.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from slu_teacher import teach

from espnet_ext.data import slu_manifest, slu_sets
from espnet_ext.data.sets_from import NO_LANGUAGE, parse_folders, slu_rows
from espnet_ext.errors import DataError, UsageError, exit_code
from espnet_ext.paths import absolute
from espnet_ext.text.parallel import ParallelArgs

VALUES = ("words", "other")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose sets; readers of corpora have them too."""
    parser.add_argument(
        "--set", action="extend", nargs="+", default=[], dest="sets", metavar="NAME=SET:LANG"
    )
    parser.add_argument("--train-encoder", metavar="SET",
                        help="train a small sentence encoder on the texts of this set")  # fmt: skip
    parser.add_argument("--encoder-steps", type=int, default=ParallelArgs().steps)
    parser.add_argument("--more", nargs="+", default=[], metavar="PATH", help="further manifests")
    parser.add_argument("--languages", nargs="+", default=[], metavar="LANG")
    parser.add_argument("--symbols", type=Path, metavar="FILE", help="tags that exist, one a line")


def make_sets(
    manifest: Path,
    out: Path,
    args: argparse.Namespace,
    skipped: Iterable[slu_sets.Skip] = (),
    same_words: bool = True,
) -> slu_sets.SetsReport:
    """Write the sets and skipped.tsv, and tell the numbers.

    Args:
        manifest: File or folder.
        out: Folder of the sets.
        args: Options of :func:`add_arguments`.
        skipped: What the reader of the corpus has left out before.
        same_words: Whether tagged must hold the words of text.
    """
    if args.sets and args.languages:
        how = "name the languages in --set, e.g. --set train=train:fr,it"
        raise UsageError("--set and --languages exclude each other", "--languages", how)
    known = read_symbols(args.symbols) if args.symbols else None
    manifests = [manifest, *(absolute(path) for path in args.more)]
    rows = slu_manifest.read(manifests, known, same_words=same_words)
    if args.sets:
        sets = dict(map(slu_sets.parse_choice, args.sets))
    else:
        rows = list(rows)
        sets = slu_sets.default_sets((row.set for row in rows), tuple(args.languages))
    if args.train_encoder:
        rows = list(rows)
    report = slu_sets.write_sets(rows, out, sets, manifest)
    slu_sets.write_skipped(out, [*skipped, *report.skipped])
    if not any(figures["concepts"] for figures in report.sets.values()):
        how = "mark them: je pars <date> le deux mai >; speech without any is for another method"
        raise DataError("no utterance has a concept", manifest, how)
    print(slu_sets.tell(report))
    if args.train_encoder:
        teach(rows, args.train_encoder, out, ParallelArgs(steps=args.encoder_steps))
    return report


def read_symbols(path: Path) -> set[str]:
    """Return the tags of a list, with or without brackets.

    Raises:
        DataError: The file is missing or empty.
    """
    if not path.is_file():
        raise DataError("the list of symbols is missing", path, "correct --symbols")
    names = path.read_text(encoding="utf-8-sig").split()
    if not names:
        raise DataError("the list of symbols is empty", path, "write a tag a line, e.g. <city>")
    return {name if name.startswith("<") else f"<{name}>" for name in names}


def corpus_folder(variable: str, what: str) -> Path:
    """Return the path that a variable of the environment names, from where run.sh was called.

    Raises:
        DataError: It is not set, or there is nothing.
    """
    given = os.environ.get(variable)
    if not given:
        what = f"The environment variable {variable} is not set. It must point to {what}"
        raise DataError(what, None, f"{variable}=/path ./run.sh")
    path = absolute(given)
    if not path.exists():
        raise DataError(f"{variable} names nothing that exists", path, f"give the path of {what}")
    return path


def main() -> None:
    """Read options and environment."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("out", type=Path)
    parser.add_argument("--env", default="MANIFEST", metavar="VARIABLE")
    parser.add_argument("--values", choices=VALUES, default=VALUES[0],
                        help="other: a unit may hold something else than the words")  # fmt: skip
    parser.add_argument("--from", nargs="+", metavar="SET=DIR", dest="folders")
    parser.add_argument("--language", default=NO_LANGUAGE, metavar="LANG")
    add_arguments(parser)
    args = parser.parse_args()
    if args.folders:
        manifest = args.out / slu_manifest.NAME
        slu_manifest.write(manifest, slu_rows(parse_folders(args.folders), args.language))
    else:
        manifest = corpus_folder(args.env, "a manifest of tagged speech, or its folder")
    make_sets(manifest, args.out, args, same_words=args.values == VALUES[0])


if __name__ == "__main__":
    sys.exit(exit_code(main))
