# SPDX-License-Identifier: Apache-2.0
"""The BLSTM of the papers' hybrid systems."""

import torch
from torch import Tensor, nn

from espnet_ext.align.hybrid.network import Network
from espnet_ext.blstm import run_blstm


class Blstm(Network):
    """Reads a piece from both ends; at its ends it knows nothing of what lies beyond."""

    kind = "blstm"
    warm_up = 200  # as long as training sequences

    def __init__(
        self, num_mel: int, layers: int, units: int, num_states: int, dropout: float = 0.0
    ):
        super().__init__(num_mel, layers, units, num_states, 2 * units)
        self.lstm = nn.LSTM(
            num_mel, units, layers, batch_first=True, bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)

    def hidden(self, pieces: list[Tensor]) -> Tensor:
        """See :meth:`Network.hidden`."""
        lengths = torch.tensor([len(x) for x in pieces])
        padded = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
        if self.training:  # pieces of nearly equal length: the little padding may be seen
            h, _ = self.lstm(padded)
        else:
            h = run_blstm(self.lstm, padded, lengths)
        valid = torch.arange(padded.shape[1]) < lengths[:, None]
        return self.dropout(h[valid.to(h.device)])
