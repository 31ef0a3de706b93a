# SPDX-License-Identifier: Apache-2.0
"""A part of stage 2: ``dump/speech_encoder``, a wav2vec2-type encoder as ESPnet's own."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.dual_task import hf_encoder
from espnet_ext.dual_task.options import SECTION, resolve
from espnet_ext.dual_task.stages.args import FormatArgs
from espnet_ext.dual_task.stages.sentences import is_folder
from espnet_ext.errors import EspnetExtError, UsageError
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan, find
from espnet_ext.recipe.steps import train
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.text.source import SPEECH, encoder_source

FOLDER = DUMP / "speech_encoder"


def source(args: FormatArgs) -> str:
    """Return the folder (absolute) or hub name of the speech encoder; empty for none."""
    name = encoder_source(SPEECH) or args.speech_encoder
    return os.path.abspath(os.path.expanduser(name)) if name and is_folder(name) else name


def plan(ctx: Context, args: FormatArgs) -> Plan:
    """See :class:`Plan`.

    Raises:
        UsageError: A phase needs a speech encoder and none is given, or the audio is not of 16 kHz.
        DataError: The folder lacks a file, or the encoder is of an unknown type.
    """
    name = source(args)
    if not name:
        for key in _users(ctx):
            how = f"{SPEECH.variable}=/path/to/XLS-R ./run.sh, or a name of the hub"
            raise UsageError("no speech encoder is given, and a training starts from one", key, how)
        return Plan(settings={SPEECH.key: encoder_source(SPEECH)})
    rate = ctx.recipe.format.fs
    if rate != hf_encoder.RATE_HZ:
        what = f"speech encoders are for audio of {hf_encoder.RATE_HZ} Hz, and format.fs is {rate}"
        raise UsageError(what, "format.fs", f"format: {{fs: {hf_encoder.RATE_HZ}}}")
    inputs: list[Path] = []
    if Path(name).is_absolute():
        hf_encoder.check_folder(Path(name))
        inputs = hf_encoder.files(Path(name))
    return Plan(
        inputs=inputs,
        makes=[FOLDER / hf_encoder.ABOUT, FOLDER / hf_encoder.WEIGHTS],
        settings={SPEECH.key: encoder_source(SPEECH), "speech": name},
        disk_mb=sum(p.stat().st_size for p in inputs) / 1e6,
    )


def run(ctx: Context, args: FormatArgs) -> None:
    """Convert the encoder, unless that was done before."""
    if not (name := source(args)):
        return
    about = hf_encoder.prepare(name, FOLDER)
    say(
        f"  speech encoder: {'/'.join(Path(name).parts[-2:])}, {about['parameters']:,} parameters, "
        f"{about['blocks']} blocks of width {about['width']}"
    )
    if about["padding_matters"]:
        say("  note: its group normalisation sees the padding of a batch: frames of an utterance "
            "differ slightly with what it is batched with")  # fmt: skip


def _users(ctx: Context) -> Iterator[str]:
    """Yield the phases whose configuration starts from ``dump/speech_encoder``."""
    for name in ctx.recipe.phases:
        own = dataclasses.replace(ctx, stage=find(name))
        with contextlib.suppress(EspnetExtError):  # the phase itself tells what is wrong with it
            conf = resolve(train.training_config(own).get(SECTION))
            if conf.speech_encoder == str(FOLDER) and not train.why_off(own):
                yield f"{name}: {SECTION}.speech_encoder"
