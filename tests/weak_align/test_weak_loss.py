# SPDX-License-Identifier: Apache-2.0
"""The frame losses against loops over the formulas, their floors, gradients and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from espnet_ext.weak_align.ctc_loss import collapse, collapsed_ctc
from espnet_ext.weak_align.loss import (
    FORMS,
    NORMALISE,
    frame_accuracy,
    frame_losses,
    loss_floor,
    smoothed_ce,
)

B, T, K = 3, 5, 4


def batch(seed=0, soft=False):
    torch.manual_seed(seed)
    logits = torch.randn(B, T, K, dtype=torch.double)
    labels = torch.randint(-1, K, (B, T, 3) if soft else (B, T))
    weights = None
    if soft:
        labels[0, 0] = torch.tensor([1, 1, 2])  # a label twice in a frame
        weights = (labels >= 0).double()
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1)
    return logits, labels, weights


def loop(logits, labels, m, form, weights):
    """Mean over labelled frames of the cross-entropy against the written-out target."""
    losses = []
    for b in range(B):
        for t in range(T):
            p = logits[b, t].softmax(0)
            pairs = [(int(labels[b, t]), 1.0)] if weights is None else zip(
                labels[b, t].tolist(), weights[b, t].tolist(), strict=True
            )  # fmt: skip
            known = [(a, w) for a, w in pairs if a >= 0]
            if not known:
                continue
            q = [0.0] * K
            for a, w in known:
                for k in range(K):
                    rest = m / K if form == "uniform_all" else m / (K - 1) * (k != a)
                    q[k] += w * ((1 - m) * (k == a) + rest)
            loss = -sum(q[k] * math.log(p[k]) for k in range(K))
            if form == "uniform_other":
                loss += sum(x * math.log(x) for x in q if x > 0)
            losses.append(loss)
    return sum(losses) / len(losses)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("m", [0.0, 0.3, 1.0])
def test_equals_the_loop_and_has_its_gradient(m, form, soft):
    logits, labels, weights = batch(soft=soft)
    loss = smoothed_ce(logits, labels, m, form, weights)
    assert loss.item() == pytest.approx(loop(logits, labels, m, form, weights), abs=1e-12)
    logits.requires_grad_()
    assert gradcheck(lambda z: smoothed_ce(z, labels, m, form, weights), logits)


@pytest.mark.parametrize(
    ("classes", "m", "floor"),
    [(9001, 0.5, 5.245), (9001, 0.1, 1.235), (4501, 0.7, 6.498), (1057, 0.9, 6.587)],
)
def test_the_optimum_reaches_the_analytic_floor(classes, m, floor):
    q = torch.full((1, 1, classes), m / classes, dtype=torch.double)
    q[0, 0, 7] += 1 - m
    label = torch.tensor([[7]])
    assert smoothed_ce(q.log(), label, m).item() == pytest.approx(loss_floor(classes, m), abs=1e-6)
    assert loss_floor(classes, m) == pytest.approx(floor, abs=5e-4)
    other = torch.full_like(q, m / (classes - 1))
    other[0, 0, 7] = 1 - m
    assert abs(smoothed_ce(other.log(), label, m, "uniform_other").item()) < 1e-6


def test_full_smoothing_holds_no_label_and_costs_ln_k_at_chance():
    logits = torch.zeros(1, 2, 9001, dtype=torch.double)
    for labels in ([[3, 9000]], [[0, 17]]):
        loss = smoothed_ce(logits, torch.tensor(labels), 1.0)
        assert loss.item() == pytest.approx(math.log(9001), abs=1e-9)


def test_the_gradient_of_a_frame_is_p_minus_q_over_the_labelled_frames():
    logits, labels, _ = batch(1)
    logits.requires_grad_()
    smoothed_ce(logits, labels, 0.5).backward()
    valid = labels >= 0
    q = 0.5 * torch.nn.functional.one_hot(labels.clamp(min=0), K) + 0.5 / K
    expected = (logits.softmax(-1) - q) * valid.unsqueeze(-1) / valid.sum()
    torch.testing.assert_close(logits.grad, expected.detach())


@settings(deadline=None, max_examples=30)
@given(
    pad=st.integers(1, 4),
    seed=st.integers(0, 99),
    form=st.sampled_from(FORMS),
    how=st.sampled_from(NORMALISE),
)
def test_padding_and_the_order_of_the_batch_change_nothing(pad, seed, form, how):
    logits, labels, _ = batch(seed)
    tokens = torch.arange(1, B + 1)

    def value_and_grad(z, a, n):
        z = z.clone().requires_grad_()
        loss = smoothed_ce(z, a, 0.5, form, normalise=how, tokens=n)
        loss.backward()
        return loss.detach(), z.grad

    loss, grad = value_and_grad(logits, labels, tokens)
    longer = torch.cat([logits, 9 * torch.randn(B, pad, K)], 1)
    padded = torch.nn.functional.pad(labels, (0, pad), value=-1)
    more, more_grad = value_and_grad(longer, padded, tokens)
    torch.testing.assert_close(more, loss)
    torch.testing.assert_close(more_grad[:, :T], grad)
    assert not more_grad[:, T:].any()
    torch.testing.assert_close(value_and_grad(logits.flip(0), labels.flip(0), tokens.flip(0))[0],
                               loss)  # fmt: skip


@pytest.mark.parametrize("how", NORMALISE)
def test_without_any_label_the_loss_and_its_gradient_are_zero(how):
    logits = torch.randn(B, T, K, requires_grad=True)
    labels = torch.full((B, T), -1)
    loss = smoothed_ce(logits, labels, 0.5, normalise=how, tokens=torch.ones(B))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()
    assert frame_accuracy(logits, labels).isnan()


def test_normalisations_by_hand():
    logits, labels, _ = batch(2)
    labels[0] = -1
    frames = frame_losses(logits, labels, 0.5)
    counts = (labels >= 0).sum(1)
    hand = {
        "frame_mean": frames.sum() / counts.sum(),
        "utterance_mean": ((frames[1].sum() / counts[1]) + frames[2].sum() / counts[2]) / 2,
        "utterance_sum": frames.sum() / B,
        "match_attention": frames.sum() / counts.sum() * 20,
    }
    tokens = torch.tensor([10, 20, 30])
    for how, value in hand.items():
        torch.testing.assert_close(smoothed_ce(logits, labels, 0.5, normalise=how, tokens=tokens),
                                   value)  # fmt: skip


def test_accuracy_with_and_without_silence():
    logits = torch.nn.functional.one_hot(torch.tensor([[0, 0, 1, 2]]), K).float()
    labels = torch.tensor([[0, 1, 1, -1]])
    assert frame_accuracy(logits, labels).item() == pytest.approx(2 / 3)
    assert frame_accuracy(logits, labels, torch.tensor([0])).item() == pytest.approx(1 / 2)


def test_collapse_merges_repetitions_only():
    labels = torch.tensor([[2, 2, 0, 0, 2, -1, 2], [-1, -1, 1, 1, 1, -1, -1]])
    sequences, lengths = collapse(labels)
    assert [s[:n].tolist() for s, n in zip(sequences, lengths, strict=True)] == [[2, 0, 2, 2], [1]]


def test_ctc_sums_over_all_paths():
    torch.manual_seed(0)
    logits = torch.randn(1, 3, 3, dtype=torch.double, requires_grad=True)  # K = 2, blank 2
    labels = torch.tensor([[0, 0, 1, 1, 1, 1, 1]])
    paths = [(0, 1, 2), (0, 2, 1), (2, 0, 1), (0, 0, 1), (0, 1, 1)]
    p = logits.softmax(-1)[0]
    total = sum(math.prod(p[t, k].item() for t, k in enumerate(path)) for path in paths)
    loss, left_out = collapsed_ctc(logits, torch.tensor([3]), labels)
    assert loss.item() == pytest.approx(-math.log(total)) and left_out == 0
    assert gradcheck(lambda z: collapsed_ctc(z, torch.tensor([3]), labels)[0], logits)


def test_sequences_too_long_for_their_frames_are_counted_and_cost_nothing():
    logits = torch.randn(2, 2, 3, requires_grad=True)
    labels = torch.tensor([[0, 1, 0], [-1, -1, -1]])
    loss, left_out = collapsed_ctc(logits, torch.tensor([2, 2]), labels)
    loss.backward()
    assert loss.item() == 0 and left_out == 1 and not logits.grad.any()
