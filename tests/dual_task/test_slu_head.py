# SPDX-License-Identifier: Apache-2.0
"""The SLU head: no time reduction, padding and order do not matter, sizes of the paper."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from espnet_ext.blstm import run_blstm
from espnet_ext.dual_task.slu_head import SluHead
from espnet_ext.errors import DataError

SIZES = st.sampled_from([(1, 5, 1, 3), (2, None, 0, None), (0, None, 2, 7), (3, 2, 3, None)])


@settings(max_examples=30)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), SIZES, st.integers(0, 99))
def test_each_utterance_is_as_alone_whatever_the_padding_and_the_order(lengths, sizes, seed):
    torch.manual_seed(seed)
    head, lengths = SluHead(4, *sizes, dropout=0.3).double().eval(), torch.tensor(lengths)
    hidden = torch.randn(len(lengths), int(lengths.max()) + 2, 4).double()
    alone = [head(h[None, :n], n[None])[0] for h, n in zip(hidden, lengths, strict=True)]
    order = torch.randperm(len(lengths))
    for padding in (0, 1e6):
        for h, n in zip(hidden, lengths, strict=True):
            h[n:] = padding
        out = head(hidden[order], lengths[order])
        assert out.shape == (*hidden.shape[:2], head.output_size)  # no time reduction
        for row, i in enumerate(order.tolist()):
            assert out[row, : lengths[i]].sub(alone[i]).abs().max() < 1e-12


def test_the_backward_direction_starts_at_the_last_valid_frame_and_gradients_stay_inside():
    head, lengths = SluHead(3, 1, 2, 0).double(), torch.tensor([2, 5])
    hidden = torch.randn(2, 5, 3).double().requires_grad_()
    out = head(hidden, lengths)
    assert torch.allclose(out[0, 1, 2:], head.blstm(hidden[:1, 1:2])[0][0, 0, 2:])
    out[0, :2].sum().backward()
    assert hidden.grad[0, :2].ne(0).all() and hidden.grad[0, 2:].eq(0).all()
    assert torch.autograd.gradcheck(lambda x: head(x, lengths)[1], hidden)


@pytest.mark.parametrize("layers", [1, 3])
def test_a_padded_bi_lstm_is_that_of_torch_on_packed_sequences(layers):
    torch.manual_seed(layers)
    lstm = torch.nn.LSTM(3, 4, layers, batch_first=True, bidirectional=True).double()
    hidden, lengths = torch.randn(3, 7, 3).double().requires_grad_(), torch.tensor([4, 7, 1])
    packed = pack_padded_sequence(hidden, lengths, batch_first=True, enforce_sorted=False)
    theirs = pad_packed_sequence(lstm(packed)[0], True, total_length=7)[0]
    ours, weights = run_blstm(lstm, hidden, lengths), torch.randn(3, 7, 8).double()
    assert torch.allclose(ours, theirs, atol=1e-14)
    parts = [hidden, *lstm.parameters()]
    slopes = [torch.autograd.grad((out * weights).sum(), parts) for out in (ours, theirs)]
    assert all(torch.allclose(a, b, atol=1e-13) for a, b in zip(*slopes, strict=True))


def test_blocks_are_linear_with_leaky_relu():
    head = SluHead(2, 0, None, 1, 1)
    with torch.no_grad():
        head.blocks[0].weight.copy_(torch.tensor([[1.0, 1.0]]))
        head.blocks[0].bias.fill_(-1)
    hidden = torch.tensor([[[1.0, 2.0], [0.0, 0.0]]])
    assert head(hidden, torch.tensor([2]))[0, :, 0].tolist() == pytest.approx([2, -0.01])


def test_bfloat16_changes_little_and_gradients_are_finite():
    head, lengths = SluHead(16, 2, 12, 1), torch.tensor([20, 7])
    hidden = torch.randn(2, 20, 16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = head(hidden, lengths)
    out.float().sum().backward()
    assert out.sub(head(hidden, lengths)).abs().max() < 0.02
    assert hidden.grad.isfinite().all()


def test_without_layers_it_is_the_identity():
    head, hidden = SluHead(6, 0, None, 0), torch.randn(1, 2, 6)
    assert head(hidden, torch.tensor([2])) is hidden
    assert head.output_size == 6 and not list(head.parameters())


def test_sizes_of_the_paper():
    with torch.device("meta"):
        head, blocks = SluHead(1024), SluHead(1024, 0, linear_blocks=3)
    assert sum(p.numel() for p in head.blstm.parameters()) == 67_158_016
    assert sum(p.numel() for p in head.blocks.parameters()) == 2_098_176
    assert sum(p.numel() for p in blocks.parameters()) == 3 * 1_049_600
    assert head.output_size == 1024


def test_an_utterance_without_frames_is_told():
    with pytest.raises(DataError, match="no valid frame"):
        SluHead(3, 1)(torch.zeros(2, 4, 3), torch.tensor([4, 0]))
