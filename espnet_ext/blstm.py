# SPDX-License-Identifier: Apache-2.0
"""A Bi-LSTM over padded batches, each utterance read backward from its own last frame."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def run_blstm(lstm: nn.LSTM, hidden: Tensor, lengths: Tensor) -> Tensor:
    """Return ``(B, T, 2C)``, zero in padded frames.

    On a CPU, torch reads packed sequences frame by frame, which costs several times as much as one
    call on a padded batch (7 times at 8 x 106 frames and 64 cells). So each direction is such a
    call there, the backward one on utterances that are turned round; results agree to rounding.

    Args:
        lstm: ``batch_first`` and bidirectional, of one layer or more.
        hidden: ``(B, T, D)``.
        lengths: ``(B,)`` valid frames, each from 1 to T.
    """
    if hidden.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        packed = pack_padded_sequence(hidden, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(lstm(packed)[0], True, total_length=hidden.shape[1])[0]
    valid = torch.arange(hidden.shape[1]) < lengths.unsqueeze(-1)
    for layer in range(lstm.num_layers):
        if layer:
            hidden = nn.functional.dropout(hidden, lstm.dropout, lstm.training)
        ahead = _one_direction(lstm, f"l{layer}", hidden)
        back = _one_direction(lstm, f"l{layer}_reverse", _turned(hidden, lengths, valid))
        hidden = torch.cat([ahead, _turned(back, lengths, valid)], -1) * valid.unsqueeze(-1)
    return hidden


def _one_direction(lstm: nn.LSTM, name: str, x: Tensor) -> Tensor:
    weights = [getattr(lstm, f"{kind}_{name}") for kind in ("weight_ih", "weight_hh")]
    weights += [getattr(lstm, f"{kind}_{name}") for kind in ("bias_ih", "bias_hh")]
    start = x.new_zeros(1, x.shape[0], lstm.hidden_size)
    return torch.lstm(x, (start, start), weights, True, 1, 0.0, lstm.training, False, True)[0]


def _turned(x: Tensor, lengths: Tensor, valid: Tensor) -> Tensor:
    """Return ``(B, T, D)`` with the valid frames of each utterance in reverse order."""
    steps = torch.arange(x.shape[1], device=x.device)
    source = torch.where(valid, lengths.unsqueeze(-1) - 1 - steps, steps)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))
