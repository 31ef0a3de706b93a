# SPDX-License-Identifier: Apache-2.0
"""The layers of an encoder: collected by hooks, added with learned weights.

x = sum_l softmax(w)_l h_l, with h_0 the input of the first block (after subsampling and positions),
h_l the output of block l, and as the last one the encoder's output, with its final norm.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class LayerSum(nn.Module):
    """Softmax-weighted sum of layers; the weights are learned and start equal.

    Args:
        layers: Number of layers L.

    Source:
        Protocol of SUPERB (arXiv 2105.01051).
    """

    def __init__(self, layers: int):
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(layers))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Add layers ``(B, T, L, D)``; returns ``(B, T, D)``."""
        return torch.einsum("btld,l->btd", hidden, self.weights.softmax(0))


def collect_layers(
    blocks: nn.ModuleList | nn.Sequential, run: Callable[[], tuple[torch.Tensor, Any]]
) -> tuple[torch.Tensor, Any]:
    """Run an encoder and collect what its blocks see and give.

    Args:
        blocks: Its N blocks, each called with ``x`` or a tuple ``(x, positions)`` first.
        run: Runs the encoder; returns its output ``(B, T, D)`` and anything else.

    Returns:
        Layers ``(B, T, N + 1, D)``, the last one the encoder's output, and what ``run`` returned
        beside it.

    Raises:
        ValueError: The blocks give other shapes than the encoder.
    """
    found: list[torch.Tensor] = []
    hooks = [blocks[0].register_forward_pre_hook(lambda _, args: found.append(_tensor(args)))]
    hooks += [
        b.register_forward_hook(lambda _, __, out: found.append(_tensor(out))) for b in blocks
    ]
    try:
        out, rest = run()
    finally:
        for hook in hooks:
            hook.remove()
    layers = [*found[:-1], out]
    shapes = {tuple(x.shape) for x in layers}
    if len(layers) != len(blocks) + 1 or len(shapes) > 1:
        raise ValueError(f"{len(layers)} layers of {len(blocks)} blocks, shapes {sorted(shapes)}")
    return torch.stack(layers, 2), rest


def _tensor(value: Any) -> torch.Tensor:
    """Return the first tensor of nested tuples: blocks hand positions and masks along."""
    while isinstance(value, tuple | list):
        value = value[0]
    return value
