# SPDX-License-Identifier: Apache-2.0
"""An audio encoder with the parts of ESPnet's Conformer, in plain torch, and a small section."""

import torch
from torch import nn

from espnet_ext.multistage.options import resolve

FEATURES, WIDTH = 8, 12
SECTION = {
    "frames": 4, "size": 8, "patch": [2, 4, 4], "width": 8, "blocks": 1, "heads": 2,
    "decoder_width": 8, "decoder_blocks": 1, "decoder_heads": 2,
}  # fmt: skip


def conf(**changes):
    return resolve({**SECTION, **changes})


class Embed(nn.Module):
    """Two convolutions of kernel 3 and stride 2, sinusoidal positions added."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(FEATURES, WIDTH, 3, 2), nn.ReLU(), nn.Conv1d(WIDTH, WIDTH, 3, 2)
        )

    def forward(self, x, mask):
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        place = torch.arange(x.shape[1])[:, None] / torch.arange(1, WIDTH + 1)
        return x + place.sin().to(x), mask[:, :, :-2:2][:, :, :-2:2]


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.mix = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH)
        self.conv = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x, mask):
        valid = mask[:, 0, :, None]
        y = self.norm(x).masked_fill(~valid, 0)
        y = self.conv(y.transpose(1, 2)).transpose(1, 2)
        mean = y.masked_fill(~valid, 0).sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        return x + self.mix(y + mean).tanh(), mask


class SmallConformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.encoders = Embed(), nn.ModuleList([Layer(), Layer()])
        self.after_norm = nn.LayerNorm(WIDTH)
