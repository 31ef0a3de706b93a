# SPDX-License-Identifier: Apache-2.0
"""Utterances too short for the encoder, or for CTC with their text: named and left out."""

import contextlib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from espnet_ext.data.streams import SOUNDS
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError
from espnet_ext.files import atomic_path
from espnet_ext.frames import Encoder, encoder_of_config, usual_encoder
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Phase
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.tokens import folder, splitter, token_options, tokens_of

LIST = "infeasible.tsv"  # utterance, encoder frames, frames needed
SHOWN = 3  # utterances named in a message
MOST = 0.5  # share of a set, above which the configuration is wrong and not the utterances


def encoder_of(ctx: Context, config: Mapping[str, Any]) -> Encoder | None:
    """Return what a training makes of audio, the usual encoder where its own is not known.

    None where CTC plays no part: no audio, no tokens, or ``model_conf.ctc_weight: 0``.
    """
    phase: Phase = getattr(ctx.recipe, ctx.stage.name)
    types = {s.name: s.type for s in phase.streams}
    ctc_weight = (config.get("model_conf") or {}).get("ctc_weight", 0.5)
    if types.get("speech") not in SOUNDS or types.get("text") != "text" or not token_options(ctx):
        return None
    if not ctc_weight:
        return None
    return encoder_of_config(config) or _usual(ctx)


def _usual(ctx: Context) -> Encoder | None:
    f = ctx.recipe.format
    return None if f is None else usual_encoder(f.fs, f.ctc_stride)


def leave_out_short(
    ctx: Context, config: Mapping[str, Any], sets: Mapping[str, str], stats: Path
) -> list[str]:
    """Say which utterances the encoder refuses, and keep them from statistics and batches.

    ESPnet ends with an error at the first of them, in the development set too. Their audio stays in
    ``dump/`` and is decoded (to an empty text).

    Args:
        ctx: The training stage.
        config: ESPnet's training options.
        sets: ``{"train": set, "valid": set}``.
        stats: Folder for the lists of ids that stay.

    Returns:
        Options for the collection of statistics, which name these lists.
    """
    argv = []
    for part, name in sets.items():
        table, keys = DUMP / name / "utt2num_samples", stats / f"{part}_keys"
        encoder = encoder_of_config(config) or _usual(ctx)
        if encoder is None or not table.exists():
            continue
        centre = int((config.get("frontend_conf") or {}).get("n_fft", 512)) // 2
        lost, total = [], 0
        with atomic_path(keys) as tmp, open(tmp, "w", encoding="utf-8") as f:
            for utt, samples in iter_table(table):
                total += 1
                if encoder.frames(int(samples)) < 1 or int(samples) <= centre:
                    lost.append(f"{utt} ({int(samples) / encoder.features.rate:.3f} s)")
                else:
                    f.write(f"{utt}\n")
        if len(lost) == total:
            what = f"all {total} utterances of {name} are too short for the encoder"
            raise DataError(what, table, f"they need {1000 * encoder.shift_s:g} ms and more")
        if lost:
            more = ", ..." if len(lost) > SHOWN else ""
            shown = ", ".join(lost[:SHOWN])
            say(f"  {len(lost)} of {total} utterances of {name} are too short for the encoder and "
                f"are left out of training and validation: {shown}{more}")  # fmt: skip
            argv += [f"--{part}_shape_file", str(keys)]
    return argv


def leave_out(ctx: Context, stats: Path, text: Path, encoder: Encoder) -> int:
    """Take utterances that CTC has no path for out of the shape files of ``stats``.

    Args:
        ctx: The training stage.
        stats: Folder with ``speech_shape`` (samples) and ``text_shape`` (tokens).
        text: The transcripts.
        encoder: Of the training.

    Returns:
        How many were left out; they are listed in ``stats/infeasible.tsv``.

    Raises:
        DataError: More than half of the set would be left out.
    """
    few = {utt: frames for utt, frames, tokens in _shapes(stats, encoder)
           if 2 * tokens - 1 > frames}  # fmt: skip
    split, lost = splitter(tokens_of(ctx), folder(ctx)), {}
    for utt, sentence in iter_table(text) if few else ():
        if utt in few:
            tokens = split(sentence)
            needed = len(tokens) + sum(a == b for a, b in pairwise(tokens))
            if needed > few[utt]:
                lost[utt] = (few[utt], needed)
    rows = [f"{utt}\t{frames}\t{needed}\n" for utt, (frames, needed) in lost.items()]
    with atomic_path(stats / LIST) as tmp:
        tmp.write_text("".join(rows), encoding="utf-8")
    if lost:
        total = sum(1 for _ in iter_table(stats / "speech_shape"))
        _refuse_most(lost, total, text, encoder)
        say(f"  {len(lost)} of {total} utterances have more tokens than encoder frames (of "
            f"{1000 * encoder.shift_s:g} ms) and are left out: {stats / LIST}")  # fmt: skip
        for path in stats.glob("*_shape"):
            _without(path, lost)
    return len(lost)


def _shapes(stats: Path, encoder: Encoder) -> Iterator[tuple[str, int, int]]:
    """Yield ``(utterance, encoder frames, tokens)``; ESPnet writes both files in one order."""
    tables = (iter_table(stats / f"{name}_shape") for name in ("speech", "text"))
    for (utt, samples), (same, tokens) in zip(*tables, strict=True):
        if utt != same:
            raise DataError("the statistics are of different sets", stats, f"remove {stats}")
        yield utt, encoder.frames(int(samples.split(",")[0])), int(tokens.split(",")[0])


def _refuse_most(lost: dict, total: int, text: Path, encoder: Encoder) -> None:
    if len(lost) <= MOST * total:
        return
    utt, (frames, needed) = next(iter(lost.items()))
    raise DataError(
        f"{len(lost)} of {total} training utterances have fewer encoder frames than CTC needs: "
        f"{utt} has {frames} of {1000 * encoder.shift_s:g} ms, and needs {needed}",
        text,
        "an encoder with a smaller stride (encoder_conf.input_layer), or larger units (tokens)",
    )


def _without(path: Path, lost: dict) -> None:
    with contextlib.ExitStack() as stack:
        tmp = stack.enter_context(atomic_path(path))
        rows = stack.enter_context(open(path, encoding="utf-8"))
        out = stack.enter_context(open(tmp, "w", encoding="utf-8"))
        out.writelines(line for line in rows if line.split(maxsplit=1)[0] not in lost)
