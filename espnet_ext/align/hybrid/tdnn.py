# SPDX-License-Identifier: Apache-2.0
"""A time-delay network: layers over neighbouring frames, some 0.3 s in all."""

import torch
from torch import Tensor, nn

from espnet_ext.align.hybrid.network import Network


class Tdnn(Network):
    """Dilated convolutions without padding, each with ReLU and batch norm.

    Layers have kernels 5, 3, 3, 3 ... and dilations 1, 2, 3, 6, 6 ...: four of them see 13 frames
    on each side.
    """

    kind = "tdnn"

    def __init__(
        self, num_mel: int, layers: int, units: int, num_states: int, dropout: float = 0.0
    ):
        super().__init__(num_mel, layers, units, num_states, units)
        self.taps = [(5, 1), (3, 2), (3, 3), *[(3, 6)] * layers][:layers]  # kernel, dilation
        widths = [num_mel, *[units] * (layers - 1)]
        self.layers = nn.ModuleList(
            nn.Linear(width * kernel, units)
            for width, (kernel, _) in zip(widths, self.taps, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(units) for _ in self.taps)
        self.dropout = nn.Dropout(dropout)
        self.context = sum((kernel - 1) * dilation // 2 for kernel, dilation in self.taps)

    def hidden(self, pieces: list[Tensor]) -> Tensor:
        """See :meth:`Network.hidden`."""
        # One long sequence: no padding. Outputs that would see two pieces are left out.
        h = torch.cat(pieces)
        for taps, layer, norm in zip(self.taps, self.layers, self.norms, strict=True):
            h = norm(layer(_neighbours(h, *taps)).relu())
        keep = torch.ones(len(h), dtype=torch.bool)
        end = 0
        for piece in pieces[:-1]:
            end += len(piece)
            keep[end - 2 * self.context : end] = False
        return self.dropout(h[keep.to(h.device)])


def _neighbours(h: Tensor, kernel: int, dilation: int) -> Tensor:
    """Put ``(N, C)`` frames side by side: ``(N - (kernel - 1) dilation, kernel C)``.

    With a product behind it that is a convolution, on a CPU as fast as torch's own, which compiles
    one for each new length.
    """
    rows = len(h) - (kernel - 1) * dilation
    return torch.cat([h[i * dilation : i * dilation + rows] for i in range(kernel)], 1)
