# SPDX-License-Identifier: Apache-2.0
"""The common decoder: one set of blocks, run on audio and on video in separate passes.

Each modality has positions and an output layer of its own; all else is shared. ``cross_modal``, an
option of ours, decodes both in one pass, so that the picture helps to fill in hidden sound.
Letters: B clips, N tokens, K seen ones, M hidden ones, W width of the encoders' outputs, D of the
decoder, P elements of a token.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from espnet_ext.multistage.masking import RandomMask, restore_tokens
from espnet_ext.multistage.video_encoder import Block, VideoEncoder
from espnet_ext.multistage.video_patches import SpaceTime

TICKS = 64.0  # of the clock that both modalities share, in a clip
# The slowest sine turns once in 2 pi times as many tokens; "near" has room for the paper's 250.
SLOWEST = {"near": 100.0, "random": 10000.0}


class Seen(NamedTuple):
    """What the encoder of a modality has seen.

    Attributes:
        tokens: Encoded seen tokens ``(B, K, W)``.
        mask: Which they are.
        valid: ``(B, N)`` bool; None: there is no padding.
        times: When each token is, from 0 at the start of the clip to 1 at its end ``(B, N)``; None
            if that is not known. Looked at by ``cross_modal`` alone.
    """

    tokens: Tensor
    mask: RandomMask
    valid: Tensor | None = None
    times: Tensor | None = None


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
        cross_modal: Decode all modalities in one pass; a token then has an embedding of its
            modality and, where times are known, sinusoids of its time in the clip.
        start: ``near``: faster sinusoids, and queries equal to keys at the start, so that a token
            first looks at its neighbours; ``random``: as usual, and small models then predict the
            average of each place for hundreds of updates.

    Source: arXiv 2403.19822 (4 blocks of width 512 for both modalities); output layers inferred;
    one pass as in CAV-MAE; equal queries and keys as in arXiv 2305.09828 (mimetic initialisation).
    """

    def __init__(
        self,
        width_in: int = 768,
        width: int = 512,
        blocks: int = 4,
        heads: int = 16,
        elements: Mapping[str, int] = {"audio": 320},
        grid: Mapping[str, tuple[int, int]] = {},
        cross_modal: bool = False,
        start: str = "near",
    ):
        super().__init__()
        self.slowest = SLOWEST[start]
        self.embed = nn.Linear(width_in, width)
        self.mask_token = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.mask_token, std=0.02)
        self.positions = nn.ModuleDict()
        for name in elements:
            self.positions[name] = (
                SpaceTime(*grid[name], width) if name in grid else Sinusoids(self.slowest)
            )
        self.blocks = VideoEncoder(width, blocks, heads)
        if start == "near":
            for block in self.blocks.blocks:
                look_near(block)
        self.out = nn.ModuleDict({name: nn.Linear(width, p) for name, p in elements.items()})

        self.modality = nn.ParameterDict() if cross_modal else None
        for name in elements if cross_modal else ():
            self.modality[name] = nn.Parameter(0.02 * torch.randn(width))

    def forward(self, seen: Mapping[str, Seen], hidden_only: bool = False) -> dict[str, Tensor]:
        """Return predictions of all tokens by modality, ``(B, N, P)``.

        Args:
            seen: By modality.
            hidden_only: Return those of the hidden tokens alone, ``(B, M, P)`` in the order of
                ``mask.hidden``.
        """
        if self.modality is None:
            out = {}
            for name, part in seen.items():
                only = part.mask.hidden if hidden_only else None
                out[name] = self.blocks(self._placed(name, part), part.valid, only)
        else:
            out = self._together(seen, hidden_only)
        return {name: self.out[name](tokens) for name, tokens in out.items()}

    def _placed(self, name: str, seen: Seen) -> Tensor:
        """Return seen tokens and mask tokens in their order, with positions ``(B, N, D)``."""
        tokens = restore_tokens(self.embed(seen.tokens), self.mask_token, seen.mask)
        return self.positions[name](tokens)

    def _together(self, seen: Mapping[str, Seen], hidden_only: bool) -> dict[str, Tensor]:
        """Return the blocks' outputs of all modalities, run on one sequence."""
        tokens, valid, only, start = [], [], [], 0
        for name, part in seen.items():
            x = self._placed(name, part) + self.modality[name]
            if part.times is not None:
                x = x + sinusoids(TICKS * part.times, x.shape[-1], self.slowest).to(x.dtype)
            tokens.append(x)
            scored = part.mask.scored
            valid.append(torch.ones_like(scored) if part.valid is None else part.valid)
            places = torch.arange(x.shape[1], device=x.device).expand(scored.shape)
            only.append(start + (part.mask.hidden if hidden_only else places))
            start += x.shape[1]
        out = self.blocks(torch.cat(tokens, 1), torch.cat(valid, 1), torch.cat(only, 1))
        return dict(zip(seen, out.split([x.shape[1] for x in only], 1), strict=True))


def look_near(block: Block) -> None:
    """Set queries and keys to the same rotation: tokens first look at those that are like them.

    What mask tokens have in common with others is their place, so they look at their neighbours.
    """
    width = block.qkv.in_features
    with torch.no_grad():
        query = nn.init.orthogonal_(torch.empty(width, width))
        block.qkv.weight[: 2 * width] = query.repeat(2, 1)
        block.qkv.bias[: 2 * width] = 0


class Sinusoids(nn.Module):
    """Positions without parameters: sine and cosine of the token's number.

    Args:
        slowest: See :func:`sinusoids`.
    """

    def __init__(self, slowest: float):
        super().__init__()
        self.slowest = slowest

    def forward(self, tokens: Tensor) -> Tensor:
        """Add positions to ``(B, N, D)``."""
        n, d = tokens.shape[1:]
        place = torch.arange(n, device=tokens.device, dtype=torch.float)
        return tokens + sinusoids(place, d, self.slowest).to(tokens.dtype)


def sinusoids(places: Tensor, width: int, slowest: float) -> Tensor:
    """Return sine and cosine of numbers ``(...)``, ``(..., width)``; the width is even.

    Args:
        places: Numbers.
        width: D.
        slowest: Places in which the slowest sine turns by one radian.
    """
    half = torch.arange(0, width, 2, device=places.device) * (-math.log(slowest) / width)
    angle = places[..., None] * half.exp()
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)
