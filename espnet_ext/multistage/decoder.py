# SPDX-License-Identifier: Apache-2.0
"""The common decoder: one set of blocks, run on audio and on video in separate passes.

Each modality has positions and an output layer of its own; all else is shared. Letters: B clips, N
tokens, K seen ones, W width of the encoders' outputs, D of the decoder, P elements of a token.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from espnet_ext.multistage.masking import RandomMask, restore_tokens
from espnet_ext.multistage.video_encoder import VideoEncoder
from espnet_ext.multistage.video_patches import SpaceTime


class CommonDecoder(nn.Module):
    """From seen tokens to all tokens.

    Args:
        width_in: W.
        width: D, even.
        blocks: Their number.
        heads: Of each.
        elements: P of each modality, e.g. ``{"audio": 320, "video": 1536}``.
        grid: Steps and places of a modality with learned positions of time and space; others have
            sinusoids of the token's number and may have any length.

    Source: arXiv 2403.19822 (4 blocks of width 512 for both modalities); output layers inferred.
    """

    def __init__(
        self,
        width_in: int = 768,
        width: int = 512,
        blocks: int = 4,
        heads: int = 16,
        elements: Mapping[str, int] = {"audio": 320},
        grid: Mapping[str, tuple[int, int]] = {},
    ):
        super().__init__()
        self.embed = nn.Linear(width_in, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.positions = nn.ModuleDict()
        for name in elements:
            self.positions[name] = SpaceTime(*grid[name], width) if name in grid else Sinusoids()
        self.blocks = VideoEncoder(width, blocks, heads)
        self.out = nn.ModuleDict({name: nn.Linear(width, p) for name, p in elements.items()})

    def forward(
        self, name: str, visible: Tensor, mask: RandomMask, valid: Tensor | None = None
    ) -> Tensor:
        """Return predictions of all tokens ``(B, N, P)``.

        Args:
            name: Of the modality.
            visible: Encoded seen tokens ``(B, K, W)``.
            mask: Which they are.
            valid: ``(B, N)`` bool; None: there is no padding.
        """
        tokens = restore_tokens(self.embed(visible), self.mask_token, mask)
        return self.out[name](self.blocks(self.positions[name](tokens), valid))


class Sinusoids(nn.Module):
    """Positions without parameters: sine and cosine of the token's number."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Add positions to ``(B, N, D)``."""
        n, d = tokens.shape[1:]
        place = torch.arange(n, device=tokens.device, dtype=torch.float)[:, None]
        half = torch.arange(0, d, 2, device=tokens.device) * (-math.log(10000.0) / d)
        angle = place * half.exp()
        return tokens + torch.stack([angle.sin(), angle.cos()], -1).view(n, d).to(tokens.dtype)
