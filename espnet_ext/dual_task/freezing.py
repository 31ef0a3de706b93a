# SPDX-License-Identifier: Apache-2.0
"""Frozen lower layers of an encoder, and blocks that are computed twice to save memory.

Two kinds of encoders are known: ESPnet's of the Transformer family (``embed``, ``encoders``) and
``torchaudiohubert``. Parameters keep their names; classes of modules are swapped.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from espnet_ext.errors import UsageError


def parts(encoder: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """Return what comes before an encoder's blocks, and the blocks from the lowest on.

    Args:
        encoder: Of an ESPnet model.

    Raises:
        UsageError: It is of another kind.
    """
    if (hubert := getattr(encoder, "hubert_pretrain_model", None)) is not None:
        extractor, upper = hubert.wav2vec2.feature_extractor, hubert.wav2vec2.encoder
        transformer = upper.transformer
        front = [extractor, upper.feature_projection, transformer.pos_conv_embed]
        front.append(transformer.dropout)
        if transformer.layer_norm_first:  # of torchaudio: before the blocks; else after them
            front.append(transformer.layer_norm)
        return front, list(transformer.layers)
    blocks = getattr(encoder, "encoders", None)
    if not isinstance(blocks, nn.Sequential | nn.ModuleList):
        what = f"{type(encoder).__name__} has no blocks that could be frozen or checkpointed"
        how = "freeze_layers: 0, gradient_checkpointing: false; or encoder: conformer"
        raise UsageError(what, "encoder", how)
    embed = getattr(encoder, "embed", None)
    return ([] if embed is None else [embed]), list(blocks)


def freeze(encoder: nn.Module, layers: int) -> list[nn.Module]:
    """Take the front part and the lowest blocks out of training.

    Args:
        encoder: Of an ESPnet model.
        layers: Number of blocks; 0 freezes nothing.

    Returns:
        The frozen modules; :func:`stand_still` must be called whenever the mode changes.

    Raises:
        UsageError: There are fewer blocks.
    """
    if layers == 0:
        return []
    front, blocks = parts(encoder)
    if layers > len(blocks):
        what = f"freeze_layers is {layers}, and the encoder has {len(blocks)} blocks"
        raise UsageError(what, "dual_task.freeze_layers", f"0 to {len(blocks)}")
    frozen = [*front, *blocks[:layers]]
    for module in frozen:
        module.requires_grad_(False)
    return frozen


def stand_still(frozen: list[nn.Module]) -> None:
    """Switch off dropout and the statistics of batch normalisation."""
    for module in frozen:
        module.eval()


def swap(module: nn.Module, mixin: type) -> None:
    """Put a class before a module's own; parameters and their names stay."""
    if not isinstance(module, mixin):
        own = type(module)
        module.__class__ = type(f"{mixin.__name__}{own.__name__}", (mixin, own), {})


class Checkpointed:
    """A block that keeps its input alone and is computed again in the backward pass.

    Dropout draws the same numbers again; batch normalisation counts the batch once.
    """

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the block's own."""
        own = super().forward
        if not (self.training and torch.is_grad_enabled()):
            return own(*args, **kwargs)
        return checkpoint(
            own, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), _again(self)),
            **kwargs,
        )  # fmt: skip


@contextmanager
def _again(block: nn.Module) -> Iterator[None]:
    """Leave the running statistics of batch normalisation as they are."""
    norms = [m for m in block.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    norms = [m for m in norms if m.track_running_stats]
    before: list[tuple[float | None, Tensor]] = [
        (m.momentum, m.num_batches_tracked.clone()) for m in norms
    ]
    try:
        for m in norms:
            m.momentum = 0.0
        yield
    finally:
        for m, (momentum, count) in zip(norms, before, strict=True):
            m.momentum = momentum
            m.num_batches_tracked.copy_(count)


def checkpoint_blocks(encoder: nn.Module) -> None:
    """Compute the blocks again in the backward pass.

    Raises:
        UsageError: The encoder has none.
    """
    for block in parts(encoder)[1]:
        swap(block, Checkpointed)
