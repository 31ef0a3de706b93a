# SPDX-License-Identifier: Apache-2.0
"""Stage 4 of a text recipe: the text encoder, ``dump/text_encoder``.

It is a copy of $TEXT_ENCODER (a folder with config.json, a tokenizer and model.safetensors, or a
name on the hub where there is a network), maybe with its lowest layers only; or, without one, a
small RoBERTa with random weights and a byte-level BPE learnt from the training text.
"""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import iter_table
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.settings import build
from espnet_ext.text.source import VARIABLE, encoder_source
from espnet_ext.text.tokenizer import ABOUT, EMPTY, About

FOLDER = DUMP / "text_encoder"
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
NAMES = ("bos", "pad", "eos", "unk", "mask")


@dataclass(frozen=True)
class EncoderArgs:
    """``tokens.args`` of recipe.yaml.

    Attributes:
        keep_layers: Use only so many of the lowest layers of a pre-trained encoder.
        vocab_size, hidden_size, layers, heads, max_tokens, dropout: Of an encoder made here.
        seed: Of its random weights.
    """

    keep_layers: int | None = None
    vocab_size: int = 2000
    hidden_size: int = 128
    layers: int = 2
    heads: int = 2
    max_tokens: int = 64
    dropout: float = 0.1
    seed: int = 1


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


def run(ctx: Context, plan: Plan) -> None:
    """Write the folder; say which encoder it is and how large."""
    args = encoder_args(ctx)
    from espnet_ext.text.encoder import quiet

    source = plan.settings["source"]
    if source and not Path(source).is_absolute():
        os.environ.setdefault("HF_HUB_OFFLINE", "0")  # is read once, by the import in quiet()
    quiet()
    if source:
        model, tokenizer = _pretrained(source, args)
    else:
        texts = [t for path in plan.needs for _, t in iter_table(path) if t != EMPTY]
        model, tokenizer = random_encoder(args, texts)
    name = "/".join(Path(source).parts[-2:])
    about = write_encoder(FOLDER, model, tokenizer, name)
    kind = f"pre-trained {name}" if source else (
        f"a small encoder of our own, to be trained on this corpus' text (no {VARIABLE} is set)"
    )  # fmt: skip
    params = sum(p.numel() for p in model.base_model.parameters())
    layers = getattr(model.config, "num_hidden_layers", "?")
    say(f"  text encoder: {kind}; {layers} layers, {params:,} parameters, "
        f"{about.vocab_size:,} sub-words")  # fmt: skip


def write_encoder(folder: Path, model: Any, tokenizer: Any, source: str) -> About:
    """Write model, tokenizer and ``about.json``; return the latter."""
    about = About(
        source=source,
        vocab_size=model.config.vocab_size,
        pad_id=tokenizer.pad_token_id,
        mask_id=tokenizer.mask_token_id,
        special_ids=tuple(sorted(tokenizer.all_special_ids)),
        # RoBERTa numbers positions from 2.
        max_tokens=min(512, model.config.max_position_embeddings - 2),
    )
    with atomic_dir(folder) as tmp:
        model.save_pretrained(tmp)
        tokenizer.save_pretrained(tmp)
        write_json(tmp / ABOUT, asdict(about))
    return about


def _pretrained(source: str, args: EncoderArgs) -> tuple[Any, Any]:
    """Load model and tokenizer, from a folder without the network.

    Raises:
        SetupError: The name is not available and cannot be downloaded.
        DataError: The folder is not of the form that is needed.
    """
    import torch

    local = Path(source).is_absolute()
    if local:
        _check_folder(Path(source))
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    from espnet_ext.text.encoder import masked_lm_head

    torch.manual_seed(args.seed)  # a masked-LM head that the folder lacks starts at random
    options = {"local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        if args.keep_layers:
            config.num_hidden_layers = min(args.keep_layers, config.num_hidden_layers)
        model = AutoModelForMaskedLM.from_pretrained(
            source, config=config, use_safetensors=True, **options
        )
        tokenizer = AutoTokenizer.from_pretrained(source, use_fast=True, **options)
    except Exception as e:  # of the hub, the network, a file: each has classes of its own
        if local:
            raise DataError(f"transformers cannot load it: {e}", source) from None
        raise SetupError(
            f"the encoder '{source}' is not available and cannot be downloaded "
            f"({type(e).__name__})",
            VARIABLE,
            f"give a local folder: {VARIABLE}=/path/to/folder (config.json, tokenizer.json, "
            f"model.safetensors), or {VARIABLE}=none for a small one of our own",
        ) from None
    masked_lm_head(model)
    if None in (tokenizer.pad_token_id, tokenizer.mask_token_id):
        how = "use an encoder of the BERT or RoBERTa family"
        raise DataError("the tokenizer has no padding or no mask sub-word", source, how)
    return model, tokenizer


def _check_folder(folder: Path) -> None:
    for name in ("config.json", "tokenizer.json|vocab.json|vocab.txt", "model.safetensors"):
        if not any((folder / n).exists() for n in name.split("|")):
            how = f"{VARIABLE} names a folder with config.json, a tokenizer and model.safetensors"
            if (folder / "pytorch_model.bin").exists():
                how += "; weights in a pickle are not read: save them as safetensors first"
            raise DataError(f"there is no {name.replace('|', ' or ')}", folder, how)


def random_encoder(args: EncoderArgs, texts: list[str]) -> tuple[Any, Any]:
    """Return a RoBERTa with random weights and a byte-level BPE learnt from texts."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import RobertaConfig, RobertaForMaskedLM, RobertaTokenizerFast

    bpe = ByteLevelBPETokenizer(add_prefix_space=True)
    bpe.train_from_iterator(
        texts, vocab_size=args.vocab_size, min_frequency=2, special_tokens=list(SPECIAL),
        show_progress=False,
    )  # fmt: skip
    ends = [(token, bpe.token_to_id(token)) for token in ("</s>", "<s>")]
    bpe._tokenizer.post_processor = RobertaProcessing(*ends, add_prefix_space=True)
    pairs = [*zip(NAMES, SPECIAL, strict=True), ("cls", "<s>"), ("sep", "</s>")]
    special = {f"{name}_token": token for name, token in pairs}
    tokenizer = RobertaTokenizerFast(tokenizer_object=bpe._tokenizer, **special)
    torch.manual_seed(args.seed)
    config = RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=args.hidden_size, num_hidden_layers=args.layers,
        num_attention_heads=args.heads, intermediate_size=4 * args.hidden_size,
        max_position_embeddings=args.max_tokens + 2, type_vocab_size=1,
        hidden_dropout_prob=args.dropout, attention_probs_dropout_prob=args.dropout,
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return RobertaForMaskedLM(config), tokenizer
