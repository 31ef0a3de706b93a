# SPDX-License-Identifier: Apache-2.0
"""A tiny intent model with random weights, laid out as a recipe's folder leaves it."""

import json
from pathlib import Path

import yaml

TEXTS = (
    "show me the flights from boston to denver",
    "what is the fare to dallas",
    "wake me up at seven",
    "play some jazz",
)
LABELS = {"scenario": ["alarm", "flight", "music"], "action": ["ask", "play", "set", "show"]}


def write_recipe(root: Path, both: bool = True, seed: int = 3, normalize: str = "words") -> Path:
    """Write ``dump/`` and ``exp/x/finetune`` below ``root``; return ``root/exp/x``.

    Args:
        root: Folder of the recipe.
        both: Two classifiers, clean and asr; else one.
        seed: Of the random weights; with 3, texts differ in their labels.
        normalize: What stage 2 did to the texts.
    """
    import torch

    from espnet_ext.ml_lmcl.network import ClassifyNetwork
    from espnet_ext.ml_lmcl.options import resolve

    _write_encoder(root / "dump/text_encoder")
    labels, finetune = root / "dump/labels", root / "exp/x/finetune"
    for folder in (labels, finetune, root / ".stages"):
        folder.mkdir(parents=True)
    for head, names in LABELS.items():
        (labels / f"{head}.txt").write_text("".join(f"{x}\n" for x in names))
    (labels / "heads.txt").write_text("scenario\naction\n")  # not in alphabetical order
    (root / ".stages/format.json").write_text(json.dumps({"settings": {"normalize": normalize}}))
    section = {"preset": "ml_lmcl" if both else "ce_asr", "max_tokens": 12}
    config = {"text_encoder": "dump/text_encoder", "labels": "dump/labels", "ml_lmcl": section}
    config["output_dir"] = str(finetune)
    (finetune / "config.yaml").write_text(yaml.safe_dump(config))
    torch.manual_seed(seed)
    classes = {head: len(names) for head, names in LABELS.items()}
    encoder = str(root / "dump/text_encoder")
    net = ClassifyNetwork(resolve(section), encoder, classes, pad_id=1, weights=False)
    for name, p in net.named_parameters():  # else untrained posteriors are all alike
        if p.dim() > 1:
            torch.nn.init.normal_(p, std=0.05 if "position" in name else 0.4)
    torch.save(net.state_dict(), finetune / "valid.acc.best.pth")
    return root / "exp/x"


def _write_encoder(folder: Path) -> None:
    """Write a RoBERTa of one layer, without weights, and the tokenizer of TEXTS."""
    from tokenizers import ByteLevelBPETokenizer
    from tokenizers.processors import RobertaProcessing
    from transformers import RobertaConfig

    bpe = ByteLevelBPETokenizer(add_prefix_space=True)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(TEXTS, vocab_size=300, special_tokens=special, show_progress=False)
    bpe._tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    folder.mkdir(parents=True)
    bpe._tokenizer.save(str(folder / "tokenizer.json"))
    size = bpe._tokenizer.get_vocab_size()
    RobertaConfig(
        vocab_size=size, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=34, type_vocab_size=1,
        bos_token_id=0, pad_token_id=1, eos_token_id=2,
    ).save_pretrained(folder)  # fmt: skip
    about = {"source": "", "vocab_size": size, "pad_id": 1, "mask_id": 4, "max_tokens": 32}
    about["special_ids"] = [0, 1, 2, 3, 4]
    (folder / "about.json").write_text(json.dumps(about))
    (folder / "model.safetensors").write_bytes(b"weights of a large encoder")


def pack(exp: Path, out: Path, **more: object) -> Path:
    """Pack the model of :func:`write_recipe` into ``out``."""
    from espnet_ext.ml_lmcl.model_files import pack_classifier

    root, finetune = exp.parents[1], exp / "finetune"
    files = finetune / "config.yaml", finetune / "valid.acc.best.pth"
    pack_classifier(*files, root / "dump/text_encoder", root / "dump/labels", out, "words", **more)
    return out
