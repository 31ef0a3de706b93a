# SPDX-License-Identifier: Apache-2.0
"""Folders of text encoders: reading pre-trained ones, making small ones, writing both.

A folder has a model, a tokenizer and about.json (see tokenizer.py). transformers and tokenizers are
imported where a model is read or made, and nowhere else.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import atomic_dir, write_json
from espnet_ext.text.source import VARIABLE, model_name
from espnet_ext.text.tokenizer import ABOUT, About

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
NAMES = ("bos", "pad", "eos", "unk", "mask")
# Of which one file must be there; the second of weights lists several files of a large model.
CONFIG = ("config.json",)
TOKENIZERS = ("tokenizer.json", "vocab.json", "vocab.txt")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
# Attributes of a loaded model: its layers before upper ones were left out; whether it had no
# masked-LM head, which then starts at random.
LAYERS_OF, RANDOM_HEAD = "espnet_ext_layers_of", "espnet_ext_random_head"


@dataclass(frozen=True)
class EncoderArgs:
    """How to make the folder of a text encoder: ``tokens.args`` of recipe.yaml.

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


def write_encoder(folder: Path, model: Any, tokenizer: Any, source: str) -> About:
    """Write model, tokenizer and ``about.json``; return the latter.

    Args:
        folder: To be written.
        model, tokenizer: As :func:`pretrained` and :func:`random_encoder` return them.
        source: Folder or name of a pre-trained encoder; empty for one made here.
    """
    layers = getattr(model.config, "num_hidden_layers", 0)
    about = About(
        source="/".join(Path(source).parts[-2:]),  # no path of this machine
        name=model_name(source),
        layers=layers,
        layers_of=getattr(model, LAYERS_OF, layers),
        random_head=getattr(model, RANDOM_HEAD, False),
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


def pretrained(source: str, args: EncoderArgs) -> tuple[Any, Any]:
    """Load model and tokenizer; from a folder (an absolute path) without the network.

    Raises:
        SetupError: The name is not available and cannot be downloaded.
        DataError: The folder is not of the form that is needed.
    """
    import torch

    local = Path(source).is_absolute()
    if local:
        check_folder(Path(source))
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer

    from espnet_ext.text.encoder import masked_lm_head

    torch.manual_seed(args.seed)  # a masked-LM head that the folder lacks starts at random
    options = {"local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        layers = getattr(config, "num_hidden_layers", 0)
        if args.keep_layers:
            config.num_hidden_layers = min(args.keep_layers, config.num_hidden_layers)
        model, report = AutoModelForMaskedLM.from_pretrained(
            source, config=config, use_safetensors=True, output_loading_info=True, **options
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
    setattr(model, LAYERS_OF, layers)
    body = model.base_model_prefix + "."
    lost = [name for name in report["missing_keys"] if not name.startswith(body)]
    setattr(model, RANDOM_HEAD, any(".weight" in name for name in lost))
    if None in (tokenizer.pad_token_id, tokenizer.mask_token_id):
        how = "use an encoder of the BERT or RoBERTa family"
        raise DataError("the tokenizer has no padding or no mask sub-word", source, how)
    return model, tokenizer


def check_folder(folder: Path, variable: str = VARIABLE) -> None:
    """Check that a folder has what a pre-trained encoder needs.

    Args:
        folder: To be looked at.
        variable: That names it, for messages.

    Raises:
        DataError: A file is missing, or the weights are a pickle.
    """
    for names in (CONFIG, TOKENIZERS, WEIGHTS):
        if not any((folder / n).exists() for n in names):
            how = f"{variable} names a folder with config.json, a tokenizer and model.safetensors"
            if (folder / "pytorch_model.bin").exists():
                how += "; weights in a pickle are not read: save them as safetensors first"
            raise DataError(f"there is no {' or '.join(names)}", folder, how)


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
    special: dict[str, Any] = {f"{name}_token": token for name, token in pairs}
    # Is written down as well: else AutoTokenizer would split the first word of a text otherwise.
    special["add_prefix_space"] = True
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
