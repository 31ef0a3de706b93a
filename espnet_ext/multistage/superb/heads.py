# SPDX-License-Identifier: Apache-2.0
"""Heads of SUPERB: a projection and a linear layer or an LSTM; padding takes no part.

Source: protocol of SUPERB (arXiv 2105.01051); sizes as in its public code (s3prl).
"""

from collections.abc import Sequence

import torch
from torch import nn


def valid_frames(lengths: torch.Tensor, frames: int) -> torch.Tensor:
    """Return ``(B, T)`` bool: True inside ``lengths (B,)``."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None]


class UtteranceHead(nn.Module):
    """Keywords and intents: projection, mean over time, a linear classifier for each slot.

    Args:
        size: Width D of the features.
        classes: Number of classes of each slot, e.g. 12 keywords, or actions, objects, locations.
        projection: Width of the projection.
    """

    def __init__(self, size: int, classes: Sequence[int], projection: int = 256):
        super().__init__()
        self.projection = nn.Linear(size, projection)
        self.classifiers = nn.ModuleList(nn.Linear(projection, c) for c in classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> list[torch.Tensor]:
        """Classify ``x (B, T, D)`` of ``lengths (B,)`` frames; returns ``(B, C_s)`` a slot."""
        x = self.projection(x)
        valid = valid_frames(lengths, x.size(1)).unsqueeze(2)
        mean = x.masked_fill(~valid, 0).sum(1) / lengths.clamp_min(1).unsqueeze(1).to(x.dtype)
        return [classify(mean) for classify in self.classifiers]


class FrameHead(nn.Module):
    """Phones: projection and linear layer on each frame, for CTC.

    Args:
        size: Width D of the features.
        classes: Phones and the blank, which is class 0.
        projection: Width of the projection.
    """

    def __init__(self, size: int, classes: int, projection: int = 256):
        super().__init__()
        self.projection, self.output = nn.Linear(size, projection), nn.Linear(projection, classes)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, T, C)`` of ``x (B, T, D)``."""
        return self.output(self.projection(x))


class SpeakerHead(nn.Module):
    """Diarisation: one LSTM, and for each frame whether each speaker talks.

    Args:
        size: Width D of the features.
        speakers: Number of speakers S.
        width: Cells of the LSTM.
    """

    def __init__(self, size: int, speakers: int = 2, width: int = 512):
        super().__init__()
        self.lstm = nn.LSTM(size, width, batch_first=True)
        self.output = nn.Linear(width, speakers)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return logits ``(B, T, S)`` of ``x (B, T, D)``; one direction, so padding is harmless."""
        return self.output(self.lstm(x)[0])
