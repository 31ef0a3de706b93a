# SPDX-License-Identifier: Apache-2.0
"""Tiny text encoders with random weights, in folders as they are downloaded."""

import re
from pathlib import Path

WORDS = "je voudrais une chambre double à le mans vorrei camera doppia roma quanto costa combien"


def make_bert(
    folder: Path, kind: str = "bert", pooler: bool = True, seed: int = 0, width: int = 16
):
    """Write an encoder of two layers and its word tokenizer; return the folder.

    Args:
        folder: To write.
        kind: ``bert`` (like LaBSE) or ``roberta``.
        pooler: Whether it has one.
        seed: Of the weights.
        width: D.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {w: i for i, w in enumerate([*special, *dict.fromkeys(WORDS.split())])}
    words = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {f"{s[1:-1].lower()}_token": s for s in special}
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, **names)
    torch.manual_seed(seed)
    classes = {"bert": transformers.BertModel, "roberta": transformers.RobertaModel}
    config = classes[kind].config_class(
        vocab_size=len(vocab), hidden_size=width, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=24, pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    model = classes[kind](config, add_pooling_layer=pooler)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def drop_tensors(folder: Path, pattern: str) -> None:
    """Remove the tensors whose names match from the weights of a folder."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if not re.search(pattern, k)}
    save_file(kept, path, metadata={"format": "pt"})
