# SPDX-License-Identifier: Apache-2.0
"""Stage 4 of a text recipe: the text encoder, ``dump/text_encoder``.

It is a copy of $TEXT_ENCODER (a folder with config.json, a tokenizer and model.safetensors, or a
name on the hub where there is a network), maybe with its lowest layers only; or, without one, a
small RoBERTa with random weights and a byte-level BPE learnt from the training text.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.options import check_frozen, resolve
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import train
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.settings import build
from espnet_ext.text.folder import EncoderArgs, pretrained, random_encoder, write_encoder
from espnet_ext.text.source import VARIABLE, encoder_source
from espnet_ext.text.tokenizer import ABOUT, EMPTY

FOLDER = DUMP / "text_encoder"


def encoder_args(ctx: Context) -> EncoderArgs:
    """Return the checked settings.

    Raises:
        UsageError: A key or value is not possible.
    """
    args = build(EncoderArgs, ctx.recipe.tokens.args, "recipe.yaml", "tokens.args")
    for key in ("keep_layers", "vocab_size", "hidden_size", "layers", "heads", "max_tokens"):
        if (value := getattr(args, key)) is not None and value < 1:
            raise UsageError(f"{key} is {value}", f"tokens.args.{key}", "give 1 or more")
    if args.hidden_size % args.heads:
        what = f"hidden_size {args.hidden_size} is no multiple of heads {args.heads}"
        raise UsageError(what, "tokens.args.hidden_size", f"{args.heads * 64}, for example")
    return args


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args = encoder_args(ctx)
    source = encoder_source()
    _check_frozen(ctx, _layers(source, args))
    texts = [DUMP / ctx.recipe.data.train / f"text_{kind}" for kind in ("manual", "asr")]
    inputs = [] if source else texts
    if Path(source).is_absolute():
        inputs = [Path(source) / name for name in ("config.json", "model.safetensors")]
    return Plan(
        needs=texts,
        inputs=inputs,
        makes=[FOLDER / ABOUT],
        settings={"source": source, **asdict(args)},
        disk_mb=500 if source else 10,
    )


def _layers(source: str, args: EncoderArgs) -> int | None:
    """Return how many layers the encoder will have; None where only its download tells."""
    if not source:
        return args.layers
    try:
        text = (Path(source) / "config.json").read_text(encoding="utf-8")
        layers = json.loads(text)["num_hidden_layers"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # told when it is loaded
    return min(layers, args.keep_layers or layers) if isinstance(layers, int) else None


def _check_frozen(ctx: Context, layers: int | None) -> None:
    """Tell of more frozen layers than the encoder will have before any stage has run."""
    for name, phase in ctx.recipe.phases.items() if layers is not None else ():
        try:
            conf = resolve(train.config_of(ctx, name).get("ml_lmcl"))
        except UsageError:
            continue  # told by the phase's own plan
        stage1 = phase.task.endswith(":ContrastiveTask") and conf.stage1 != "none"
        check_frozen(conf.freeze_layers, layers, stage1)


def run(ctx: Context, plan: Plan) -> None:
    """Write the folder; say which encoder it is and how large."""
    args = encoder_args(ctx)
    from espnet_ext.text.encoder import quiet

    source = plan.settings["source"]
    if source and not Path(source).is_absolute():
        os.environ.setdefault("HF_HUB_OFFLINE", "0")  # is read once, by the import in quiet()
    quiet()
    if source:
        model, tokenizer = pretrained(source, args)
    else:
        texts = [t for path in plan.needs for _, t in iter_table(path) if t != EMPTY]
        model, tokenizer = random_encoder(args, texts)
    about = write_encoder(FOLDER, model, tokenizer, source)
    kind = f"pre-trained {about.name} ({about.source})" if source else (
        f"a small encoder of our own, to be trained on this corpus' text (no {VARIABLE} is set)"
    )  # fmt: skip
    params = sum(p.numel() for p in model.base_model.parameters())
    of = f" of {about.layers_of}" if about.layers < about.layers_of else ""
    say(f"  text encoder: {kind}; {about.layers}{of} layers, {params:,} parameters, "
        f"{about.vocab_size:,} sub-words")  # fmt: skip
    if about.random_head:
        say("  it has no masked-LM head: one with random weights stands in, which L_mlm of stage 1 "
            "trains first (ml_lmcl.lambda_pt: 1 leaves L_mlm out)")  # fmt: skip
