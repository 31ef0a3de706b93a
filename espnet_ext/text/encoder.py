# SPDX-License-Identifier: Apache-2.0
"""The text encoder: any BERT-like model that transformers loads from a folder without the network.

transformers is imported where a network is built and nowhere else.
"""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_ext.errors import DataError
from espnet_ext.precision import resolve


def build_encoder(folder: Path | str, weights: bool) -> nn.Module:
    """Return the encoder without heads.

    Args:
        folder: Made by stage 4.
        weights: Load those of the folder; else random ones, to be filled from a checkpoint.
    """
    return build_masked_lm(folder, weights)[0]


def build_masked_lm(folder: Path | str, weights: bool) -> tuple[nn.Module, nn.Module]:
    """Return encoder and masked-LM head, whose output matrix is the encoder's embedding.

    Raises:
        DataError: The folder holds no model that transformers knows with such a head.
    """
    quiet()
    from transformers import AutoConfig, AutoModelForMaskedLM

    folder = str(folder)
    try:
        if weights:
            model = AutoModelForMaskedLM.from_pretrained(folder, local_files_only=True)
        else:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            model = AutoModelForMaskedLM.from_config(config)
    except (OSError, ValueError) as e:
        raise DataError(f"transformers cannot load the encoder: {e}", folder) from None
    return model.base_model, masked_lm_head(model)


def masked_lm_head(model: Any) -> nn.Module:
    """Return the head of a ``...ForMaskedLM`` that maps ``(..., D)`` to ``(..., V)``."""
    for name in ("lm_head", "cls"):
        if isinstance(head := getattr(model, name, None), nn.Module):
            return head
    raise DataError(
        f"{type(model).__name__} has no masked-LM head of a known form", "text encoder",
        "use an encoder of the BERT or RoBERTa family",
    )  # fmt: skip


def quiet() -> None:
    """Keep transformers from the network, and its bars and reports from the terminal."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def text_mask(ids: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(B, T)`` bool, true at sub-words; of ids ``(B, T)`` and their lengths ``(B,)``."""
    return torch.arange(ids.shape[1], device=ids.device)[None, :] < lengths[:, None]


def encode(
    encoder: nn.Module, ids: Tensor, mask: Tensor, pad_id: int, layer: int = -1, groups: int = 1
) -> Tensor:
    """Return hidden states ``(B, T, D)``.

    Args:
        encoder: Of transformers.
        ids: ``(B, T)`` int64; anything where ``mask`` is false.
        mask: ``(B, T)`` bool.
        pad_id: Sub-word to put there.
        layer: 0 is the embedding layer, -1 the last.
        groups: Read the texts in so many parts of similar length, which saves padding; states
            beyond a part's longest text are 0.
    """
    if groups > 1 and layer != 0:
        return _in_groups(encoder, ids, mask, pad_id, layer, groups)
    ids = ids.masked_fill(~mask, pad_id)
    if layer == 0:
        return encoder.embeddings(input_ids=ids)
    return _hidden(encoder, mask, layer, input_ids=ids)


def _hidden(encoder: nn.Module, mask: Tensor, layer: int, **inputs: Tensor) -> Tensor:
    out = encoder(attention_mask=mask.long(), output_hidden_states=layer != -1, **inputs)
    return out.last_hidden_state if layer == -1 else out.hidden_states[layer]


def _in_groups(encoder: nn.Module, ids, mask, pad_id: int, layer: int, groups: int) -> Tensor:
    lengths = mask.sum(1)
    order = lengths.argsort(stable=True)
    parts = [part for part in order.tensor_split(groups) if len(part)]
    longest = lengths[torch.stack([part[-1] for part in parts])].clamp(min=1).tolist()
    # Looked up once: the gradient of each look-up is as large as the vocabulary's matrix.
    vectors = encoder.get_input_embeddings()(ids.masked_fill(~mask, pad_id))
    states = [
        _hidden(encoder, mask[part, :size], layer, inputs_embeds=vectors[part, :size])
        for part, size in zip(parts, longest, strict=True)
    ]
    padded = [nn.functional.pad(s, (0, 0, 0, ids.shape[1] - s.shape[1])) for s in states]
    return torch.cat(padded)[order.argsort()]


def autocast(precision: str, like: Tensor) -> torch.autocast:
    """Return the context of the encoder's products on the device of ``like``."""
    device = like.device.type
    enabled = resolve(precision, device) == "bfloat16"
    return torch.autocast(device, torch.bfloat16, enabled=enabled)


def join(texts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Stack batches of texts ``(ids (B, T), mask (B, T))`` of any width into one."""
    width = max(ids.shape[1] for ids, _ in texts)
    pads = [(nn.functional.pad(i, (0, width - i.shape[1])),
             nn.functional.pad(m, (0, width - m.shape[1]))) for i, m in texts]  # fmt: skip
    return torch.cat([i for i, _ in pads]), torch.cat([m for _, m in pads])
