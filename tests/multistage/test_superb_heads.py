# SPDX-License-Identifier: Apache-2.0
"""Heads and losses of SUPERB against plain loops, and where gradients and padding may reach."""

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import nn

from espnet_ext.multistage.superb.diarisation import frame_errors, turns_of
from espnet_ext.multistage.superb.heads import FrameHead, SpeakerHead, UtteranceHead
from espnet_ext.multistage.superb.layers import LayerSum, collect_layers
from espnet_ext.multistage.superb.phones import needed
from espnet_ext.multistage.superb.pit_loss import pit_loss
from espnet_ext.multistage.superb.training import Probe, order_of, pieces_of


def naive_pit(logits, targets, lengths):
    """The definition, by loops over utterances, orders, frames and speakers."""
    total, chosen = 0.0, []
    for x, y, n in zip(logits, targets, lengths.tolist(), strict=True):
        best, order = math.inf, None
        for p in permutations(range(x.shape[1])):
            loss = 0.0
            for t in range(n):
                for s in range(x.shape[1]):
                    q = 1 / (1 + math.exp(-x[t, s].item()))
                    loss -= math.log(q if y[t, p[s]] else 1 - q)
            if loss < best:
                best, order = loss, p
        total += best / (n * x.shape[1])
        chosen.append(list(order))
    return total / len(logits), chosen


@pytest.mark.parametrize("speakers", [2, 3])
def test_pit_is_the_minimum_over_all_orders(speakers):
    torch.manual_seed(speakers)
    logits = torch.randn(5, 7, speakers, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(0, 2, (5, 7, speakers))
    lengths = torch.tensor([7, 3, 1, 6, 5])
    loss, order = pit_loss(logits, targets, lengths)
    wanted, orders = naive_pit(logits, targets, lengths)
    assert loss.item() == pytest.approx(wanted, abs=1e-12)
    assert order.tolist() == orders
    swapped = targets[:, :, torch.randperm(speakers)]
    assert torch.allclose(pit_loss(logits, swapped, lengths)[0], loss)
    assert torch.autograd.gradcheck(lambda x: pit_loss(x, targets, lengths)[0], logits)
    loss.backward()
    assert logits.grad[1, 3:].abs().max() == 0  # padding


@pytest.mark.parametrize("kind", ["utterance", "frame", "speaker"])
def test_padding_changes_nothing(kind):
    torch.manual_seed(0)
    heads = {"utterance": UtteranceHead(4, [3, 2], 8), "frame": FrameHead(4, 5, 8),
             "speaker": SpeakerHead(4, 2, 8)}  # fmt: skip
    head = heads[kind].eval()
    x = torch.randn(1, 6, 4)
    padded = torch.cat([x, 1e3 * torch.ones(1, 3, 4)], 1)
    alone, with_padding = head(x, torch.tensor([6])), head(padded, torch.tensor([6]))
    if kind == "utterance":
        for a, b in zip(alone, with_padding, strict=True):
            assert torch.allclose(a, b, atol=1e-5)
        mean = torch.stack([head.projection(x[0, t]) for t in range(6)]).sum(0) / 6
        assert torch.allclose(alone[1][0], head.classifiers[1](mean), atol=1e-6)
    else:
        assert torch.allclose(alone, with_padding[:, :6], atol=1e-6)


def test_layer_sum():
    layers = LayerSum(3)
    hidden = torch.randn(2, 4, 3, 5)
    assert torch.allclose(layers(hidden), hidden.mean(2), atol=1e-6)
    with torch.no_grad():
        layers.weights[1] = 50.0
    assert torch.allclose(layers(hidden), hidden[:, :, 1], atol=1e-5)


def test_layers_are_what_blocks_see_and_give():
    class Block(nn.Module):
        def forward(self, xs, mask):
            (x, pos) = xs
            return (2 * x, pos), mask

    blocks = nn.ModuleList([Block(), Block()])

    def run():
        state = (torch.ones(1, 3, 4), torch.zeros(1))
        for block in blocks:
            state, _ = block(state, None)
        return state[0] + 10, "frames"

    layers, rest = collect_layers(blocks, run)
    assert rest == "frames"
    assert layers[0, 0, :, 0].tolist() == [1, 2, 14]  # the last one is the encoder's output
    assert not any(b._forward_hooks or b._forward_pre_hooks for b in blocks)


def test_gradient_reaches_head_and_weights_of_layers_only():
    probe = Probe(3, UtteranceHead(4, [2], 8))
    assert {n.split(".")[0] for n, _ in probe.named_parameters()} == {"sum", "head"}
    out = probe(torch.randn(2, 5, 3, 4), torch.tensor([5, 2]))[0]
    out.logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in probe.parameters())


def test_frames_that_ctc_needs():
    assert [needed(x) for x in ([], [1], [1, 2], [1, 1], [2, 2, 2])] == [0, 1, 2, 3, 5]


def test_errors_of_frames():
    generator = np.random.default_rng(0)
    for _ in range(20):
        found, active = generator.integers(0, 2, (2, 9, 2))
        wanted = min(
            sum(max(sum(h), sum(r)) - sum(a and b for a, b in zip(h, r, strict=True))
                for h, r in zip(found[:, list(p)], active, strict=True))
            for p in permutations(range(2))
        )  # fmt: skip
        assert frame_errors(found, active) == wanted


def test_turns_of_frames():
    active = np.array([[0, 1, 1, 0, 1], [0, 0, 0, 0, 0]], bool).T
    assert turns_of(active, 0.04, 0.23) == [(0.04, 0.12, "0"), (0.16, 0.23, "0")]


def test_pieces_and_orders():
    assert pieces_of([5, 2], 0) == [(0, 0, None), (1, 0, None)]
    assert pieces_of([5, 2], 2) == [(0, 0, 2), (0, 2, 4), (0, 4, 5), (1, 0, 2)]
    order = order_of(4, None, np.random.default_rng(0))
    assert sorted(next(order) for _ in range(4)) == [0, 1, 2, 3]
    drawn = order_of(10, ["x"] * 9 + ["y"], np.random.default_rng(0))
    share = sum(next(drawn) == 9 for _ in range(1000)) / 1000
    assert 0.45 < share < 0.55
