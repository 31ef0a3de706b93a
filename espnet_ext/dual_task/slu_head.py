# SPDX-License-Identifier: Apache-2.0
r"""The layers between the speech encoder and the output layer of CTC.

With hidden states H ``(B, T, D)``::

    G      = Bi-LSTM(H)                     N layers of C cells a direction, no time reduction
    block  = LeakyReLU(Linear_W(.))         0 or more of them, with dropout after each
    logp   = log_softmax(Linear_V(block(G)))

The last line, the output layer, is not in here: it belongs to CTC. The paper's dual model has
N = 3, C = D = W = 1024 and one block, the SLU step of its sequential baseline three blocks, by the
published numbers of parameters. Without Bi-LSTM and blocks the head is the identity.

Source: arXiv 2406.12141. Letters: B utterances, T frames, D width of the encoder, V symbols.
"""

from torch import Tensor, nn

from espnet_ext.blstm import run_blstm
from espnet_ext.dual_task.masks import check_lengths


class SluHead(nn.Module):
    """Bi-LSTM and linear blocks; the padding of a batch does not change valid frames.

    Args:
        dim: D.
        blstm_layers: Layers of the Bi-LSTM; 0 for none.
        cells: Cells a direction; None: D.
        linear_blocks: Linear layers with LeakyReLU; 0 for none.
        width: Width of their output; None: D.
        dropout: After each layer of Bi-LSTM and each block.

    Attributes:
        output_size: Width W of the output, ``(B, T, W)``.
    """

    def __init__(
        self,
        dim: int,
        blstm_layers: int = 3,
        cells: int | None = None,
        linear_blocks: int = 1,
        width: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        cells, width, size = cells or dim, width or dim, dim
        self.blstm: nn.LSTM | None = None
        if blstm_layers:
            between = dropout if blstm_layers > 1 else 0.0  # torch warns where there is no between
            self.blstm = nn.LSTM(
                size, cells, blstm_layers, batch_first=True, bidirectional=True, dropout=between
            )
            size = 2 * cells
        self.dropout = nn.Dropout(dropout)
        blocks = []
        for _ in range(linear_blocks):
            blocks += [nn.Linear(size, width), nn.LeakyReLU(), nn.Dropout(dropout)]
            size = width
        self.blocks = nn.Sequential(*blocks)
        self.output_size = size

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return ``(B, T, W)``; what stands in padded frames is of no use.

        Args:
            hidden: ``(B, T, D)``.
            lengths: ``(B,)`` valid frames, each from 1 to T.

        Raises:
            DataError: An utterance has no valid frame.
            ValueError: The shapes do not fit.
        """
        if self.blstm is not None:
            check_lengths(hidden, lengths)
            hidden = run_blstm(self.blstm, hidden, lengths)
            hidden = self.dropout(hidden)
        return self.blocks(hidden)
