# SPDX-License-Identifier: Apache-2.0
"""Two 1-D convolutions that turn four frames into a token: 1000 frames become 250."""

from torch import Tensor, nn

KERNEL, STRIDE, LAYERS = 5, 2, 2


class Conv1d4(nn.Module):
    """Convolutions of kernel 5 and stride 2 over time, each with a gated linear unit.

    Padding is zeros before *each* convolution, also inside a batch: an utterance has the same
    tokens whatever it is padded with. Token k is centred at frame 4k and sees six frames on either
    side.

    Source: arXiv 2403.19822 names a 1-D convolution, 1000 frames to 250; kernels, gates and the
    1024 channels at a width of 256 follow fairseq's ``s2t_conformer``.

    Args:
        features: F.
        width: D, of a token.
        positions: Adds them: ``(B, N, D)`` to the same.
    """

    def __init__(self, features: int, width: int, positions: nn.Module):
        nn.Module.__init__(self)  # it may stand before another module class, see input_layers
        channels = [features, 2 * width, width]
        self.layers = nn.ModuleList(
            nn.Conv1d(channels[i], 2 * channels[i + 1], KERNEL, STRIDE, KERNEL // 2)
            for i in range(LAYERS)
        )
        self.positions = positions

    def forward(
        self, x: Tensor, x_mask: Tensor | None, prefix_embeds: None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return tokens ``(B, N, D)`` and which are valid; N is T / 4, rounded up.

        Args:
            x: ``(B, T, F)``.
            x_mask: Valid frames, ``(B, 1, T)`` bool; None: all.
            prefix_embeds: Not supported; ESPnet's input layers have it.
        """
        x = x.transpose(1, 2)
        for layer in self.layers:
            if x_mask is not None:
                x = x.masked_fill(~x_mask, 0)
                x_mask = x_mask[:, :, ::STRIDE]
            x = nn.functional.glu(layer(x), dim=1)
        return self.positions(x.transpose(1, 2)), x_mask
