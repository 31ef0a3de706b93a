# SPDX-License-Identifier: Apache-2.0
"""A part of stage 2: ``dump/sentences``, the sentence embeddings of all plain texts of a recipe."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.dual_task.stages.args import FormatArgs
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.hub import FOLDERS
from espnet_ext.installation import install
from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import sets
from espnet_ext.text import sentence_layout
from espnet_ext.text.source import SENTENCE, encoder_source

FOLDER = DUMP / "sentences"


def source(args: FormatArgs) -> str:
    """Return the folder or hub name of the sentence encoder.

    Raises:
        UsageError: There is none.
    """
    if given := encoder_source(SENTENCE):
        return given
    if not args.sentence_encoder:
        what = f"the recipe names no sentence encoder, and {SENTENCE.variable} is not set"
        how = f"{SENTENCE.variable}=/path/to/LaBSE ./run.sh, or a name such as setu4993/LaBSE"
        raise UsageError(what, "format.args.sentence_encoder", how)
    return args.sentence_encoder


def is_folder(name: str) -> bool:
    """Whether a source is meant as a folder, be it there or not."""
    return name.startswith((".", "/", "~")) or Path(name).parts[0] in FOLDERS or Path(name).is_dir()


def plan(ctx: Context, args: FormatArgs) -> Plan:
    """See :class:`Plan`.

    Raises:
        DataError: The encoder that the user gives lacks a file.
        SetupError: The package that reads encoders is not installed.
    """
    if find_spec("transformers") is None:
        what = "sentence embeddings need the package transformers"
        raise SetupError(what, None, install(extra="text"))
    name, folder = source(args), None
    if is_folder(name):
        folder = Path(os.path.expanduser(name))
        if encoder_source(SENTENCE):
            from espnet_ext.text.folder import check_folder

            check_folder(folder, SENTENCE.variable)
    inputs = [] if folder is None else sentence_layout.files(folder) or [folder / "config.json"]
    if args.candidates and Path(args.candidates).exists():
        inputs.append(Path(args.candidates))
    sentences = {"source": name, "pooling": args.pooling, "candidates": args.candidates}
    return Plan(
        inputs=inputs,
        makes=[FOLDER / "about.json"],
        settings={SENTENCE.key: encoder_source(SENTENCE), "sentences": sentences},
        disk_mb=50,
    )


def run(ctx: Context, args: FormatArgs) -> None:
    """Embed what was not yet embedded; tell how good the encoder is."""
    from espnet_ext.text.parallel import read_parallel
    from espnet_ext.text.sentence import SentenceEncoder
    from espnet_ext.text.sentence_store import build_store

    name = source(args)
    if is_folder(name):
        name = os.path.abspath(os.path.expanduser(name))
        if not Path(name).is_dir():
            again = "./run.sh --force --stage prepare --stop-stage prepare"
            how = f"{again}, or {SENTENCE.variable}=/path/to/LaBSE ./run.sh"
            raise DataError("there is no sentence encoder", args.sentence_encoder, how)
    encoder = SentenceEncoder(name, args.pooling, _device(ctx))
    there = args.candidates and Path(args.candidates).exists()
    pairs = read_parallel(args.candidates) if there else []
    progress = Progress("sentence embeddings", "texts")
    report = build_store(FOLDER, _texts(ctx), encoder, pairs, progress)
    say(f"  sentence encoder: {'/'.join(Path(name).parts[-2:])}, {encoder.layout.name}")
    for line in report.lines():
        say(f"  {line}")


def _texts(ctx: Context) -> Iterator[str]:
    return (text for name in sets(ctx) for _, text in iter_table(DUMP / name / "plain"))


def _device(ctx: Context) -> str:
    import torch

    return "cuda" if torch.cuda.is_available() and ctx.options.ngpu != 0 else "cpu"
