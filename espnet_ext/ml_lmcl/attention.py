# SPDX-License-Identifier: Apache-2.0
"""Which code of attention an encoder runs."""

import torch
from torch import nn


def fit_attention(encoder: nn.Module) -> None:
    """Let an encoder of transformers use plain matrix products where torch's fused code is slow.

    That is on a CPU under autocast to bfloat16 without dropout of attention weights: the backward
    of the fused code takes some ten times as long as in float32. The products are the same up to
    rounding. Elsewhere the encoder keeps what it was built with.
    """
    if not hasattr(encoder, "set_attn_implementation"):
        return
    now = encoder.config._attn_implementation
    built = vars(encoder).setdefault("attention_as_built", now)
    on_cpu = next(encoder.parameters()).device.type == "cpu"
    half = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
    wanted = "eager" if on_cpu and half else built
    if now != wanted:
        encoder.set_attn_implementation(wanted)
