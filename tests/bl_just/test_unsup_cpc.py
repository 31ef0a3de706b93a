# SPDX-License-Identifier: Apache-2.0
"""CPC against a loop over its formula; windows, negatives, invariances, checks of the encoder."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from espnet_ext.bl_just.cpc_loss import CpcLoss, cosine_logits, window_starts
from espnet_ext.bl_just.unsup import build_unsup, probe_stride
from espnet_ext.bl_just.unsup_conf import CpcConf
from espnet_ext.errors import UsageError

F, D = 3, 4
CONF = {"context_s": 0.12, "future_s": 0.08, "hop_s": 0.05, "temperature": 0.3}


class Toy(nn.Module):
    """Two frames to one, by a linear layer; nothing flows between frames."""

    def __init__(self, dim=D):
        super().__init__()
        self.layer = nn.Linear(2 * F, dim)
        self.calls = []

    def forward(self, x, lengths):
        self.calls.append(tuple(x.shape))
        h = self.layer(x[:, : x.shape[1] // 2 * 2].unflatten(1, (-1, 2)).flatten(2))
        return h, lengths // 2


def parts(seed=0, **options):
    torch.manual_seed(seed)
    loss = CpcLoss(F, D, CpcConf(**{**CONF, **options})).double()
    lengths = torch.tensor([31, 19, 20, 26])
    return Toy().double(), loss, torch.randn(4, 33, F, dtype=torch.double), lengths


def loop(encoder, loss, x, lengths):
    """The mean over queries of the cross-entropy, window by window and step by step."""
    context, future, hop = 12, 8, 5
    power = loss.predict.weight
    r, e, utts = [], [], []
    for n, length in enumerate(lengths.tolist()):
        for start in range(0, length - context - future + 1, hop):
            c = encoder(x[n : n + 1, start : start + context], torch.tensor([context]))[0][0, -1]
            target = x[n : n + 1, start + context : start + context + future]
            for vector in encoder(target, torch.tensor([future]))[0][0]:
                c = power @ c
                r.append(c)
                e.append(vector)
                utts.append(n)
    total = 0.0
    for q in range(len(r)):
        scores = {}
        for j in range(len(e)):
            if utts[j] == utts[q] and j != q and not loss.conf.same_utt_negatives:
                continue
            cosine = r[q] @ e[j] / (r[q].norm() * e[j].norm())
            scores[j] = cosine / loss.conf.temperature
        total = total - scores[q] + torch.stack(list(scores.values())).logsumexp(0)
    return total / len(r), len(r)


@pytest.mark.parametrize("same", [True, False])
def test_equals_the_loop(same):
    encoder, loss, x, lengths = parts(same_utt_negatives=same)
    expected, queries = loop(encoder, loss, x, lengths)
    g, stats = loss(encoder, x, lengths)
    assert stats["windows"] == 3 + 0 + 1 + 2
    assert stats["queries"] == queries == 6 * 4
    assert stats["skipped"] == 1
    torch.testing.assert_close(g, expected)


def test_gradients():
    encoder, loss, x, lengths = parts()
    weights = [encoder.layer.weight, encoder.layer.bias, loss.predict.weight]

    def value(*_):
        return loss(encoder, x, lengths)[0]

    assert torch.autograd.gradcheck(value, weights)


def test_stop_grad_keeps_the_value_and_changes_the_gradient():
    values = []
    for stop in (False, True):
        encoder, loss, x, lengths = parts(stop_grad=stop)
        g, _ = loss(encoder, x, lengths)
        values.append((g, torch.autograd.grad(g, encoder.layer.weight)[0]))
    torch.testing.assert_close(values[0][0], values[1][0])
    assert not torch.allclose(values[0][1], values[1][1])


def test_capped_loss_has_as_many_negatives(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "espnet_ext.bl_just.cpc_loss.cosine_logits",
        lambda *a: seen.append(cosine_logits(*a)) or seen[-1],
    )
    encoder, loss, x, lengths = parts()
    loss(encoder, x, lengths)
    encoder, capped, x, lengths = parts(max_queries=7)
    _, stats = capped(encoder, x, lengths)
    whole, part = (logits.detach() for logits in seen)
    assert part.shape == (7, 7) and stats["queries"] == 7
    # The positives stay paired: each row is one of the whole matrix, cut to the columns kept.
    kept = [int((whole.diagonal() - v).abs().argmin()) for v in part.diagonal()]
    assert len(set(kept)) == 7
    torch.testing.assert_close(part, whole[kept][:, kept])
    torch.manual_seed(5)
    first = capped(encoder, x, lengths)[0]
    assert capped(encoder, x, lengths)[0] != first
    torch.manual_seed(5)
    assert capped(encoder, x, lengths)[0] == first


def test_negatives_of_other_utterances_only():
    torch.manual_seed(0)
    logits = cosine_logits(torch.randn(4, 3), torch.randn(4, 3), 1.0, torch.tensor([0, 0, 1, 1]))
    blocked = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]).bool()
    assert torch.equal(logits.isinf(), blocked)


@given(
    st.lists(st.integers(20, 90), min_size=1, max_size=5), st.integers(1, 20), st.integers(1, 30)
)
def test_windows_lie_inside_and_none_is_missing(lengths, window, hop):
    utts, starts = window_starts(torch.tensor(lengths), window, hop)
    expected = [(n, s) for n, t in enumerate(lengths) for s in range(0, t - window + 1, hop)]
    assert list(zip(utts.tolist(), starts.tolist(), strict=True)) == expected


@settings(max_examples=20)
@given(st.integers(0, 40), st.permutations(range(4)))
def test_padding_and_order_change_nothing(extra, order):
    encoder, loss, x, lengths = parts()
    expected, _ = loss(encoder, x, lengths)
    padded = torch.full((4, 33 + extra, F), float("nan"), dtype=torch.double)
    for n, length in enumerate(lengths.tolist()):
        padded[n, :length] = x[n, :length]
    g, _ = loss(encoder, padded[order], lengths[order])
    torch.testing.assert_close(g, expected)


def test_equally_long_windows_are_encoded_together():
    encoder, loss, x, lengths = parts(context_s=0.1, future_s=0.1)
    _, stats = loss(encoder, x, lengths)
    assert encoder.calls == [(2 * int(stats["windows"]), 10, F)]


def test_the_last_step_still_has_a_direction_of_its_own():
    torch.manual_seed(0)
    predict = CpcLoss(F, 64, CpcConf()).predict
    c = torch.randn(8, 64)
    r = c
    for _ in range(25):
        r = predict(r)
    torch.testing.assert_close(r.norm(dim=-1), c.norm(dim=-1), rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ["cpc", "wav2vec2", "best_rq"])
def test_batch_of_short_utterances_is_a_harmless_zero(name):
    loss = build_unsup(name, {}, F, D)
    encoder = Toy()
    frames = loss.min_frames - 1
    g, stats = loss(encoder, torch.randn(2, frames, F), torch.tensor([frames, 5]))
    g.backward()
    assert g == 0 and stats["skipped"] == 2 and stats["queries"] == 0 and not encoder.calls
    assert math.isnan(stats["acc"])
    assert all(p.grad is not None and not p.grad.any() for p in loss.parameters())


def test_log_probabilities_are_refused_once_and_hidden_vectors_not():
    encoder, loss, x, lengths = parts()
    with pytest.raises(UsageError, match="log-probabilities"):
        loss(lambda *a: (encoder(*a)[0].log_softmax(-1), a[1] // 2), x, lengths)
    _, loss, _, _ = parts()
    loss(lambda *a: (encoder(*a)[0].softmax(-1), a[1] // 2), x, lengths)


def test_encoders_that_do_not_fit_are_refused():
    encoder, loss, x, lengths = parts()
    with pytest.raises(UsageError, match=r"not \(N, T', 4\)"):
        loss(Toy(5).double(), x, lengths)
    _, loss, x, lengths = parts()
    with pytest.raises(UsageError, match="no frame of the windows"):
        loss(lambda *a: (encoder(*a)[0], a[1] * 0), x, lengths)


def test_stride_of_convolutions_is_found():
    def conv(x, lengths):
        n = ((lengths - 1) // 2 - 1) // 2
        return x[:, : int(n.max()) * 4 : 4], n

    assert probe_stride(conv, F) == 4
    assert probe_stride(lambda x, n: (x, n), F) == 1
    with pytest.raises(UsageError, match="whole number"):
        probe_stride(lambda x, n: (x, n * 5 // 7), F)


def test_it_is_learned():
    torch.manual_seed(1)
    steps = torch.arange(200.0)
    phase = torch.rand(6, 1) * 6
    waves = torch.stack([(steps * w + phase).sin() for w in (0.3, 0.7, 1.1)], -1)
    encoder, loss = Toy(), CpcLoss(F, D, CpcConf(**CONF))
    adam = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], 0.02)
    values = []
    for _ in range(30):
        g, _ = loss(encoder, waves, torch.full((6,), 200))
        adam.zero_grad()
        g.backward()
        adam.step()
        values.append(g.item())
    assert values[-1] < values[0] - 0.3
