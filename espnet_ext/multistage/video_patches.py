# SPDX-License-Identifier: Apache-2.0
"""Clips as tokens: patches of some frames, rows and columns, each embedded by one linear layer.

Letters: B clips, T frames of H x W pixels; patches of (t, h, w); N = T/t * H/h * W/w tokens, in
order of time, row, column; P = t h w 3 elements of a token; D width.
"""

import torch
from torch import Tensor, nn

from espnet_ext.multistage.masking import gather_tokens

MEAN, STD = 0.45, 0.225  # of pixels between 0 and 1


class VideoPatches(nn.Module):
    """Patch embedding with learned positions, those of time and of space added.

    Args:
        frames: T.
        size: H and W.
        patch: (t, h, w); they divide frames and size.
        width: D.

    Source: arXiv 2403.19822 (ViT, 16 frames); patches and normalisation as in MAE-ST.
    """

    def __init__(
        self,
        frames: int = 16,
        size: int = 224,
        patch: tuple[int, int, int] = (2, 16, 16),
        width: int = 768,
    ):
        super().__init__()
        self.patch = tuple(patch)
        t, h, w = self.patch
        self.steps, self.area = frames // t, (size // h) * (size // w)
        self.elements = t * h * w * 3
        self.embed = nn.Linear(self.elements, width)
        self.positions = SpaceTime(self.steps, self.area, width)

    @property
    def tokens(self) -> int:
        """N."""
        return self.steps * self.area

    def forward(self, video: Tensor) -> Tensor:
        """Return tokens with their positions ``(B, N, D)``; see :meth:`targets`."""
        return self.embed_pixels(self.targets(video))

    def embed_pixels(self, pixels: Tensor, places: Tensor | None = None) -> Tensor:
        """Return tokens with their positions, of all patches or of some.

        Args:
            pixels: ``(B, N, P)`` from :meth:`targets`.
            places: Of the wanted patches ``(B, K)``; None: all.
        """
        if places is None:
            return self.positions(self.embed(pixels))
        return self.positions(self.embed(gather_tokens(pixels, places)), places)

    def targets(self, video: Tensor) -> Tensor:
        """Return the pixels of the patches ``(B, N, P)``, normalised.

        Args:
            video: ``(B, T, H, W, 3)``, uint8, or float from 0 to 1.
        """
        byte = video.dtype == torch.uint8
        video = video.float() / 255 if byte else video.to(torch.get_default_dtype())
        b, frames, rows, columns, colours = video.shape
        t, h, w = self.patch
        cut = video.view(b, frames // t, t, rows // h, h, columns // w, w, colours)
        return (cut.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, -1, self.elements) - MEAN) / STD

    def pictures(self, targets: Tensor, rows: int, columns: int) -> Tensor:
        """Return what :meth:`targets` was made of: ``(B, T, H, W, 3)`` from 0 to 1.

        Args:
            targets: ``(B, N, P)``.
            rows: H.
            columns: W.
        """
        t, h, w = self.patch
        cut = (targets * STD + MEAN).view(len(targets), -1, rows // h, columns // w, t, h, w, 3)
        return cut.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(len(targets), -1, rows, columns, 3)


class SpaceTime(nn.Module):
    """Learned positions of tokens: one vector for the time step and one for the place.

    Args:
        steps: Of time.
        area: Places of a step.
        width: D.
    """

    def __init__(self, steps: int, area: int, width: int):
        super().__init__()
        self.time = nn.Parameter(torch.empty(steps, 1, width))
        self.space = nn.Parameter(torch.empty(area, width))
        for p in (self.time, self.space):
            nn.init.trunc_normal_(p, std=0.02)

    def forward(self, tokens: Tensor, places: Tensor | None = None) -> Tensor:
        """Add positions to all tokens ``(B, N, D)``, or to those at ``places`` ``(B, K)``."""
        table = (self.time + self.space).flatten(0, 1)
        return tokens + (table if places is None else table[places])
