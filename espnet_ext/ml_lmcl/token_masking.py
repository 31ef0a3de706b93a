# SPDX-License-Identifier: Apache-2.0
r"""Tokens that a masked language model has to guess.

Each token that may be masked is selected with probability ``ratio``; of the selected ones 80 %
become the mask token, 10 % any token of the vocabulary, 10 % stay as they are::

    L_mlm = - mean over selected tokens of log P(token | text after the change)

Source: BERT (arXiv 1810.04805), with masks drawn again for each batch as in RoBERTa (1907.11692).
The ids that come in are never written to: the same batch also goes, unmasked, into the contrastive
loss. Letters: B texts, T tokens.
"""

import torch
from torch import Tensor

from espnet_ext.errors import UsageError

NO_TARGET = -100  # what torch's cross-entropy leaves out
MASKED, RANDOM = 0.8, 0.1


def mask_tokens(
    ids: Tensor,
    maskable: Tensor,
    mask_id: int,
    vocab_size: int,
    ratio: float = 0.15,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return masked ids and what to guess.

    If chance selects nothing of a batch, one of its maskable tokens is taken, each alike, so that
    the mean over selected tokens is defined.

    Args:
        ids: ``(B, T)`` int64.
        maskable: ``(B, T)`` bool; False on special tokens and padding.
        mask_id: The mask token.
        vocab_size: Random tokens are in ``[0, vocab_size)``.
        ratio: Probability that a token is selected, in (0, 1].
        generator: What to draw from, on any device; None for torch's own of the device of ``ids``.

    Returns:
        New tensors, both ``(B, T)`` int64: the ids to read, and the targets, which are the original
        ids of selected tokens and :data:`NO_TARGET` elsewhere: everywhere if nothing is maskable.

    Raises:
        UsageError: The ratio is out of range.
        ValueError: The shapes differ.
    """
    if not 0 < ratio <= 1:
        raise UsageError(
            f"{ratio} is no share of tokens to mask", "mask_ratio",
            "above 0 and at most 1; to train without masked LM set lambda_pt: 1",
        )  # fmt: skip
    if ids.shape != maskable.shape:
        raise ValueError(f"ids {tuple(ids.shape)}, maskable {tuple(maskable.shape)}")
    if ids.numel() == 0:
        return ids.clone(), ids.clone()
    device = ids.device if generator is None else generator.device
    chance, change = torch.rand((2, *ids.shape), generator=generator, device=device).to(ids.device)
    other = torch.randint(vocab_size, ids.shape, generator=generator, device=device).to(ids.device)
    selected = _select(chance, maskable, ratio)
    masked = torch.where(selected & (change < MASKED), mask_id, ids)
    randomly = selected & (change >= MASKED) & (change < MASKED + RANDOM)
    return torch.where(randomly, other, masked), torch.where(selected, ids, NO_TARGET)


def _select(chance: Tensor, maskable: Tensor, ratio: float) -> Tensor:
    """Return ``(B, T)`` bool; the least chance counts where none is below the ratio."""
    chance = torch.where(maskable, chance, 2.0)
    selected = chance < ratio
    least = maskable & (chance == chance.min())
    return selected | (least & ~selected.any())
