# SPDX-License-Identifier: Apache-2.0
"""L_samu, L_slu and their sum: closed forms, naive loops, batch size, gradients."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from espnet_ext.dual_task.dual_loss import dual_loss, slu_loss
from espnet_ext.dual_task.samu_loss import samu_loss
from espnet_ext.errors import UsageError


@pytest.mark.parametrize("scale", [1.0, 50.0])
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_closed_forms(scale, reduce):
    e, other = torch.tensor([[3.0, 0, 0]]), torch.tensor([[0, 0.5, 0]])
    for y, cosine in ((e, 1), (-e, -1), (other, 0), (e + 6 * other, math.sqrt(0.5))):
        loss, distance = samu_loss(e, y, scale, reduce)
        assert loss.item() == pytest.approx(scale * (1 - cosine), abs=1e-5 * scale)
        assert distance.tolist() == pytest.approx([1 - cosine], abs=1e-6)


@given(st.integers(1, 6), st.integers(0, 99), st.sampled_from(["sum", "mean"]))
def test_naive_loop_and_what_is_reported_by_utterance(number, seed, reduce):
    torch.manual_seed(seed)
    e, y = torch.randn(2, number, 5).double()
    loss, distance = samu_loss(e, y, 50, reduce)
    expected = []
    for a, b in zip(e.tolist(), y.tolist(), strict=True):
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        expected.append(1 - dot / math.hypot(*a) / math.hypot(*b))
    assert distance.tolist() == pytest.approx(expected)
    whole = sum(expected) / (number if reduce == "mean" else 1)
    assert loss.item() == pytest.approx(50 * whole)
    alone = [samu_loss(e[i : i + 1], y[i : i + 1], 50, reduce)[1].item() for i in range(number)]
    assert distance.tolist() == pytest.approx(alone)


def test_the_gradient_grows_with_the_batch_under_sum_only():
    e, y = torch.randn(1, 4), torch.randn(1, 4)
    norms = {}
    for reduce, size in itertools.product(("sum", "mean"), (1, 8)):
        head = nn.Linear(4, 4, bias=False)
        nn.init.eye_(head.weight)
        samu_loss(head(e.expand(size, -1)), y.expand(size, -1), 1, reduce)[0].backward()
        norms[reduce, size] = head.weight.grad.norm().item()
    assert norms["sum", 8] == pytest.approx(8 * norms["sum", 1], rel=1e-5)
    assert norms["mean", 8] == pytest.approx(norms["sum", 1], rel=1e-5)


def test_teacher_stays_as_it_is_and_the_gradient_is_right():
    teacher = nn.Linear(3, 4)
    before = [p.clone() for p in teacher.parameters()]
    e = torch.randn(2, 4).double().requires_grad_()
    y = teacher(torch.randn(2, 3)).double()
    assert torch.autograd.gradcheck(lambda x: samu_loss(x, y.detach(), 7, "sum"), e)
    samu_loss(e, y, 7, "sum")[0].backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(map(torch.equal, before, teacher.parameters()))


def test_a_vector_of_zeros_has_distance_1_and_finite_gradients():
    e = torch.zeros(1, 3, requires_grad=True)
    loss, distance = samu_loss(e, torch.ones(1, 3), 50, "mean")
    loss.backward()
    assert distance.item() == 1 and e.grad.isfinite().all()


def test_the_cosine_keeps_float32_under_autocast():
    e = torch.randn(3, 768)
    with torch.autocast("cpu", torch.bfloat16):
        loss, distance = samu_loss(e, 2 * e, 1, "mean")
    assert distance.dtype == loss.dtype == torch.float32
    assert distance.abs().max() < 1e-6


@pytest.mark.parametrize(
    "scale, reduce", [(None, "sum"), (0, "sum"), (math.nan, "sum"), (50, None), (50, "Mean")]
)
def test_scale_and_reduction_must_be_given(scale, reduce):
    with pytest.raises(UsageError, match=r"samu_scale|samu_reduce"):
        samu_loss(torch.ones(1, 2), torch.ones(1, 2), scale, reduce)
    with pytest.raises(ValueError, match="shape"):
        samu_loss(torch.ones(2, 2), torch.ones(1, 2), 50, "sum")


def paths_of(target, frames, symbols):
    """Yield each sequence of frame symbols that CTC reads as the target."""
    for path in itertools.product(range(symbols), repeat=frames):
        if [s for s, _ in itertools.groupby(path) if s] == target:
            yield path


def test_ctc_is_the_sum_over_all_paths_and_its_mean_by_label_or_utterance():
    logits = torch.randn(2, 4, 3).double()
    targets, target_lengths = torch.tensor([[1, 2], [2, 99]]), torch.tensor([2, 1])
    lengths = torch.tensor([4, 3])
    expected = []
    for x, length, t, n in zip(logits, lengths, targets, target_lengths, strict=True):
        p = x[:length].softmax(-1)
        every = paths_of(t[:n].tolist(), int(length), 3)
        likely = sum(math.prod(p[i, s].item() for i, s in enumerate(path)) for path in every)
        expected.append(-math.log(likely))
    by_label, losses = slu_loss(logits, lengths, targets, target_lengths, "label")
    by_utterance, _ = slu_loss(logits, lengths, targets, target_lengths, "utterance")
    assert losses.tolist() == pytest.approx(expected)
    assert by_label.item() == pytest.approx((expected[0] / 2 + expected[1]) / 2)
    assert by_utterance.item() == pytest.approx(sum(expected) / 2)
    with pytest.raises(UsageError, match="label"):
        slu_loss(logits, lengths, targets, target_lengths, "labels")


@given(st.lists(st.integers(1, 2), max_size=5))
def test_the_loss_is_finite_where_symbols_and_the_blanks_between_equal_ones_fit(target):
    size = torch.tensor([len(target)])
    padded = torch.tensor([[*target, 2, 2]])
    need = len(target) + sum(a == b for a, b in itertools.pairwise(target))
    for frames in range(1, 10):
        loss = slu_loss(torch.zeros(1, frames, 3), torch.tensor([frames]), padded, size)[1]
        assert loss.isfinite().item() == (frames >= need)


def test_lambda_weighs_the_slu_loss_and_0_leaves_it_without_gradient():
    samu, slu = torch.tensor(3.0, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    loss = dual_loss(samu, slu, 10)
    loss.backward()
    assert loss.item() == 8 and samu.grad == 1 and slu.grad == 10
    samu.grad = slu.grad = None
    loss = dual_loss(samu, slu, 0)
    loss.backward()
    assert loss.item() == 3 and slu.grad is None
    for wrong in (-1, math.inf, math.nan):
        with pytest.raises(UsageError, match="lambda"):
            dual_loss(samu, slu, wrong)
