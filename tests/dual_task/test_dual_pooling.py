# SPDX-License-Identifier: Apache-2.0
"""Attentive pooling: a naive loop, padding, order, gradients, precision, audio without frames."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.dual_task.pooling import AttentivePooling
from espnet_ext.errors import DataError


def naive(pooling, hidden, lengths):
    """Return e by the formula, a frame at a time."""
    out = []
    for h, length in zip(hidden, lengths.tolist(), strict=True):
        powers = [torch.exp(pooling.score.weight[0] @ h[t]) for t in range(length)]
        c = sum(p * h[t] for t, p in enumerate(powers)) / sum(powers)
        out.append(torch.tanh(pooling.projection.weight @ c + pooling.projection.bias))
    return torch.stack(out)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 99), st.integers(0, 4))
def test_the_formula_whatever_stands_in_the_padding(lengths, seed, more):
    torch.manual_seed(seed)
    pooling, lengths = AttentivePooling(6, 4).double(), torch.tensor(lengths)
    hidden = torch.randn(len(lengths), int(lengths.max()) + more, 6).double()
    expected = naive(pooling, hidden, lengths)
    for padding in (0.0, 1e6, torch.inf, torch.nan):
        for h, length in zip(hidden, lengths, strict=True):
            h[length:] = padding
        assert pooling(hidden, lengths).sub(expected).abs().max() < 1e-12
    order = torch.randperm(len(lengths))
    assert pooling(hidden[order], lengths[order]).sub(expected[order]).abs().max() < 1e-12


def test_an_utterance_alone_and_in_a_batch_within_1e_5_in_float32():
    pooling, lengths = AttentivePooling(64, 32), torch.tensor([50, 3, 211])
    hidden = 3 * torch.randn(3, 211, 64)
    together = pooling(hidden, lengths)
    for i, length in enumerate(lengths.tolist()):
        assert pooling(hidden[i : i + 1, :length], lengths[i : i + 1])[0].sub(
            together[i]
        ).abs().max() < 1e-5  # fmt: skip


def test_gradients_reach_valid_frames_only():
    pooling, lengths = AttentivePooling(3, 2).double(), torch.tensor([2, 4])
    hidden = torch.randn(2, 4, 3).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: pooling(x, lengths), hidden)
    pooling(hidden, lengths).sum().backward()
    assert hidden.grad[0, 2:].eq(0).all() and hidden.grad[0, :2].ne(0).all()
    assert all(p.grad is not None for p in pooling.parameters())


def test_weights_sum_to_one_in_float32_under_bfloat16():
    pooling, lengths = AttentivePooling(16, 8), torch.tensor([7, 2000])
    hidden = torch.randn(2, 2000, 16)
    with torch.autocast("cpu", torch.bfloat16):
        weights, e = pooling.weights(hidden, lengths), pooling(hidden.bfloat16(), lengths)
    assert weights.dtype == torch.float32
    assert weights.sum(1).sub(1).abs().max() < 1e-5  # bfloat16 is off by 1e-3 and more
    assert e.sub(pooling(hidden, lengths)).abs().max() < 0.02


def test_an_utterance_without_frames_is_told_and_wrong_shapes_too():
    pooling = AttentivePooling(3, 2)
    with pytest.raises(DataError, match=r"no valid frame.*\n.*utterance 1, 2 of"):
        pooling(torch.zeros(3, 4, 3), torch.tensor([4, 0, -1]))
    for lengths in ([4], [5, 4]):
        with pytest.raises(ValueError):
            pooling(torch.zeros(2, 4, 3), torch.tensor(lengths))


def test_sizes_of_the_paper():
    with torch.device("meta"):
        pooling = AttentivePooling(1024, 768)
    counts = [sum(p.numel() for p in m.parameters()) for m in pooling.children()]
    assert counts == [1025, 787_200]
