# SPDX-License-Identifier: Apache-2.0
"""Self-distillation against loops and torch's KLDivLoss: the three kinds of teacher."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.autograd import gradcheck

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.distillation_loss import TEACHER_KINDS, distillation_loss

N, C = 4, 5


def batch(seed=0):
    torch.manual_seed(seed)
    logits, teacher = (3 * torch.randn(N, C, dtype=torch.double) for _ in range(2))
    return logits, teacher, torch.eye(C, dtype=torch.double)[torch.randint(C, (N,))]


def loop(logits, target, tau):
    total = 0.0
    for z, p in zip(logits, target, strict=True):
        q = (z / tau).softmax(0).tolist()
        total += sum(a * math.log(a / b) for a, b in zip(p.tolist(), q, strict=True) if a > 0)
    return tau**2 * total / len(logits)


def spokencse(logits, probabilities, tau):
    """The published behaviour: a softmax on top of probabilities, KL summed, divided by N."""
    criterion = nn.KLDivLoss(reduction="batchmean")
    q = torch.log_softmax(logits / tau, dim=1)
    return criterion(q, torch.softmax(probabilities / tau, dim=1)) * tau**2


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_each_kind_equals_the_loop_and_has_its_gradient(tau):
    logits, teacher, one_hot = batch()
    for kind, given_rows, target in (
        ("logits", teacher, (teacher / tau).softmax(-1)),
        ("probabilities", teacher.softmax(-1), teacher.softmax(-1)),
        ("probabilities", one_hot, one_hot),
        ("published", one_hot, (one_hot / tau).softmax(-1)),
    ):
        z = logits.clone().requires_grad_()
        loss = distillation_loss(z, given_rows, tau, kind)
        assert loss.item() == pytest.approx(loop(logits, target, tau), abs=1e-11)
        assert gradcheck(lambda x, k=kind, t=given_rows: distillation_loss(x, t, tau, k), z)


@pytest.mark.parametrize("seed", range(4))
def test_published_equals_torch_with_its_gradient(seed):
    logits, teacher, one_hot = batch(seed)
    for rows in (teacher.softmax(-1), one_hot):
        grads = []
        for fn in (spokencse, lambda *a: distillation_loss(*a, "published")):
            z = logits.clone().requires_grad_()
            loss = fn(z, rows, 5.0)
            loss.backward()
            grads += [loss.detach(), z.grad]
        assert torch.allclose(grads[0], grads[2], atol=1e-12)
        assert torch.allclose(grads[1], grads[3], atol=1e-12)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.floats(0.1, 50))
def test_a_teacher_equal_to_the_student_costs_nothing(seed, tau):
    logits, teacher, _ = batch(seed)
    z = logits.requires_grad_()
    loss = distillation_loss(z, z, tau)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-10)
    assert torch.allclose(z.grad, torch.zeros_like(z), atol=1e-10)
    assert distillation_loss(z, teacher, tau).item() > 1e-6
    order = torch.randperm(N)
    shuffled = distillation_loss(z[order], teacher[order], tau).item()
    assert shuffled == pytest.approx(distillation_loss(z, teacher, tau).item(), rel=1e-9)


def test_the_fault_of_the_published_kind_is_seen():
    logits, _, _ = batch()
    assert distillation_loss(logits, logits.softmax(-1), 5.0, "published").item() > 0.1


def test_one_hot_rows_are_finite_also_when_the_student_is_sure():
    sure = torch.tensor([[1e4, 0.0, 0.0]], requires_grad=True)
    for label in range(3):
        one_hot = torch.eye(3)[[label]]
        loss = distillation_loss(sure, one_hot, 5.0, "probabilities")
        (grad,) = torch.autograd.grad(loss, sure)
        # KL of a one-hot row is the cross-entropy of the softened student.
        expected = 25 * nn.functional.cross_entropy(sure / 5, torch.tensor([label]))
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
        assert grad.isfinite().all()


def test_rows_of_both_kinds_in_a_batch():
    logits, teacher, one_hot = batch()
    is_probability = torch.tensor([True, False, False, True])
    mixed = torch.where(is_probability[:, None], one_hot, teacher)
    target = torch.where(is_probability[:, None], one_hot, (teacher / 5).softmax(-1))
    z = logits.clone().requires_grad_()
    loss = distillation_loss(z, mixed, 5.0, is_probability=is_probability)
    assert loss.item() == pytest.approx(loop(logits, target, 5.0), abs=1e-11)
    loss.backward()
    assert z.grad.isfinite().all()
    ends = [
        distillation_loss(logits, one_hot, is_probability=torch.full((N,), on)).item()
        for on in (True, False)
    ]
    kinds = [distillation_loss(logits, one_hot, 5.0, k).item() for k in ("probabilities", "logits")]
    assert ends == kinds


@pytest.mark.parametrize("kind", TEACHER_KINDS)
def test_a_row_without_a_teacher_adds_nothing(kind):
    logits, teacher, _ = batch()
    teacher, has_teacher = teacher.softmax(-1), torch.tensor([True, False, True, True])
    z = logits.clone().requires_grad_()
    loss = distillation_loss(z, teacher, 5.0, kind, has_teacher=has_teacher)
    loss.backward()
    assert not z.grad[1].any() and z.grad[[0, 2, 3]].any(1).all()
    others = distillation_loss(logits[has_teacher], teacher[has_teacher], 5.0, kind)
    assert loss.item() == pytest.approx(others.item() * 3 / 4)


@pytest.mark.parametrize("tau", [1.0, 5.0])
def test_a_label_that_is_not_softened_outweighs_cross_entropy(tau):
    """Why no label teaches in epoch 1: at zero logits its gradient is tau times cross-entropy's."""
    _, _, one_hot = batch()
    z = torch.zeros_like(one_hot, requires_grad=True)
    grads = []
    for loss in (
        distillation_loss(z, one_hot, tau, "probabilities"),
        nn.functional.cross_entropy(z, one_hot.argmax(-1)),
    ):
        grads += torch.autograd.grad(loss, z)
    assert torch.allclose(grads[0], tau * grads[1])


@pytest.mark.parametrize("kind", TEACHER_KINDS)
def test_the_teacher_is_a_constant_and_doubling_changes_nothing(kind):
    logits, teacher, _ = batch()
    teacher = teacher.softmax(-1).requires_grad_()
    loss = distillation_loss(logits.requires_grad_(), teacher, 5.0, kind)
    loss.backward()
    assert teacher.grad is None and logits.grad.any()
    twice = distillation_loss(logits.repeat(2, 1), teacher.repeat(2, 1), 5.0, kind)
    assert twice.item() == pytest.approx(loss.item(), abs=1e-12)


def test_half_precision_is_computed_in_float32():
    logits, teacher, _ = batch()
    halves = logits.half(), teacher.half()
    expected = loop(halves[0].double(), (halves[1].double() / 5).softmax(-1), 5.0)
    loss = distillation_loss(*halves)
    assert loss.dtype == torch.float and loss.item() == pytest.approx(expected, abs=1e-5)


def test_misuse():
    logits, teacher, _ = batch()
    with pytest.raises(UsageError, match="teacher_kind"):
        distillation_loss(logits, teacher, teacher_kind="logit")
    with pytest.raises(ValueError, match="is_probability"):
        distillation_loss(logits, teacher, 5.0, "published", torch.ones(N, dtype=torch.bool))
    with pytest.raises(ValueError, match="row"):
        distillation_loss(logits, teacher[:2])
