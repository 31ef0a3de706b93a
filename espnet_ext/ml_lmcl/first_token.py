# SPDX-License-Identifier: Apache-2.0
"""The last layer of an encoder for its first token alone, which is all that a classifier reads.

The others' queries, output projection and feed-forward part are some five sixths of the layer.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def first_token(layer: Any, states: Tensor, bias: Tensor) -> Tensor:
    """Run one layer of the BERT family for the first token.

    Args:
        layer: Of transformers.
        states: ``(B, T, D)``.
        bias: ``(B, 1, 1, T)``, added to the attention scores.

    Returns:
        ``(B, 1, D)``, what the whole layer gives there.
    """
    attention, first = layer.attention.self, states[:, :1]
    heads = attention.num_attention_heads
    query, key, value = (
        product(x).unflatten(-1, (heads, -1)).transpose(1, 2)
        for product, x in (
            (attention.query, first), (attention.key, states), (attention.value, states)
        )
    )  # fmt: skip
    scores = query @ key.transpose(2, 3) * query.shape[-1] ** -0.5 + bias
    weights = attention.dropout(scores.softmax(-1, dtype=torch.float32).to(value.dtype))
    context = (weights @ value).transpose(1, 2).flatten(2)
    heard = layer.attention.output(context, first)
    return layer.output(layer.intermediate(heard), heard)


def has_form(layer: nn.Module, width: int) -> bool:
    """Tell whether :func:`first_token` gives what the layer gives, for states ``width`` wide."""
    like = next(layer.parameters())
    states = torch.linspace(-2, 2, 2 * 4 * width, device=like.device).sin().view(2, 4, width)
    bias = states.new_zeros(2, 1, 1, 4)
    bias[1, ..., 2:] = torch.finfo(states.dtype).min
    return agree(layer, lambda: (first_token(layer, states, bias), layer(states, bias)[:, :1]))


def agree(module: nn.Module, ways: Callable[[], tuple[Tensor, Tensor]]) -> bool:
    """Tell whether two ways through a module in evaluation mode give the same, up to rounding.

    Args:
        module: Is left in the mode that it has.
        ways: Returns what each gives. An error of parts that have other names or forms means no.
    """
    training = module.training
    module.eval()
    try:
        with torch.no_grad():
            return torch.allclose(*ways(), rtol=1e-3, atol=1e-4)
    except (AttributeError, TypeError, RuntimeError):
        return False
    finally:
        module.train(training)
