# SPDX-License-Identifier: Apache-2.0
"""Random masks over tokens: which are seen, which are hidden, and the way back to their order.

Letters: B clips, N tokens of the longest clip, K seen tokens of the clip that has most of them, M
hidden ones, D width of a token.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class RandomMask(NamedTuple):
    """A partition of the valid tokens of each clip; padding is in neither part.

    Attributes:
        keep: Places of the seen tokens, ascending ``(B, K)``; 0 where ``kept`` is False.
        kept: Which of them there are ``(B, K)`` bool; clips differ where their lengths do.
        hidden: Places of the hidden tokens, ascending ``(B, M)``; 0 where ``there`` is False.
        restore: For each place its row in ``[seen tokens, mask token]``, ``(B, N)``: K for hidden
            tokens and for padding.
        scored: Whether a place is hidden ``(B, N)`` bool.
    """

    keep: Tensor
    kept: Tensor
    hidden: Tensor
    restore: Tensor
    scored: Tensor

    @property
    def there(self) -> Tensor:
        """Which of the places of ``hidden`` there are ``(B, M)`` bool."""
        place = torch.arange(self.hidden.shape[1], device=self.hidden.device)
        return place < self.scored.sum(1, keepdim=True)


def kept_tokens(lengths: Tensor, ratio: float) -> Tensor:
    """Return how many tokens of each clip are seen ``(B,)``: at least one, rounded down."""
    # 627.2 is 627, but 100 must not become 99 by the rounding of 250 * (1 - 0.6).
    count = (lengths.double() * (1 - ratio) + 1e-6).floor().long()
    return torch.minimum(count.clamp(min=1), lengths)


def random_mask(
    lengths: Tensor, ratio: float, generator: torch.Generator | None = None
) -> RandomMask:
    """Hide a share of the valid tokens, drawn uniformly without replacement.

    Args:
        lengths: Valid tokens of each clip ``(B,)``.
        ratio: Share that is hidden, from 0 to below 1.
        generator: Of the draws, on the device of ``lengths``; None: torch's own.

    Source: arXiv 2403.19822 (random masks, ratio 0.6 for both modalities).
    """
    total = int(lengths.max())
    place = torch.arange(total, device=lengths.device)
    valid = place < lengths[:, None]
    noise = torch.rand(valid.shape, device=lengths.device, generator=generator)
    rank = noise.masked_fill(~valid, 2.0).argsort(1).argsort(1)
    count = kept_tokens(lengths, ratio)
    seen = (rank < count[:, None]) & valid
    keep, kept = _places(seen)
    hidden, _ = _places(valid & ~seen)
    restore = torch.where(seen, seen.cumsum(1) - 1, keep.shape[1])
    return RandomMask(keep, kept, hidden, restore, valid & ~seen)


def _places(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return the chosen places in ascending order, and which of them there are."""
    count = chosen.sum(1)
    most = int(count.max())
    places = (~chosen).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
    there = torch.arange(most, device=chosen.device) < count[:, None]
    return places.masked_fill(~there, 0), there


def gather_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """Return the tokens at some places.

    Args:
        tokens: ``(B, N, D)``.
        places: ``(B, K)``.

    Returns:
        ``(B, K, D)``.
    """
    return tokens.gather(1, places[..., None].expand(-1, -1, tokens.shape[-1]))


def restore_tokens(visible: Tensor, mask_token: Tensor, mask: RandomMask) -> Tensor:
    """Put the seen tokens back to their places, and the mask token everywhere else.

    Args:
        visible: ``(B, K, D)``.
        mask_token: ``(D,)``.
        mask: Of these tokens.

    Returns:
        ``(B, N, D)``.
    """
    token = mask_token.to(visible.dtype).expand(len(visible), 1, -1)
    return gather_tokens(torch.cat([visible, token], 1), mask.restore)
