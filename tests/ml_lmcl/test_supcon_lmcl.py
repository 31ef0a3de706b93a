# SPDX-License-Identifier: Apache-2.0
"""The supervised contrastive loss against loops, SpokenCSE's form of it, and without positives."""

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.supcon_loss import CONTRASTIVE_REDUCTIONS, supervised_contrastive_loss

supcon = functools.partial(supervised_contrastive_loss, reduction="sum")


def batch(seed=0, n=6, d=5, classes=3, lowest=0):
    torch.manual_seed(seed)
    h = torch.randn(n, d, dtype=torch.double)
    labels = torch.randint(lowest, classes, (n,))
    return h, labels, torch.randn(n, classes, dtype=torch.double).softmax(-1)


def loop(h, labels, tau, soft=None, soft_weight=10.0, soft_self=False, reduction="sum"):
    n, total = len(h), 0.0
    s = [[(a @ b / max(a.norm(), 1e-8) / max(b.norm(), 1e-8)).item() for a in h] for b in h]
    for i in range(n):
        others = sum(math.exp(s[i][k] / tau) for k in range(n) if k != i)
        of_anchor = weights = 0.0
        for j in range(n):
            if labels[i] < 0 or labels[j] < 0 or (j == i and not soft_self):
                continue
            weight = float(j != i and labels[i] == labels[j])
            if soft is not None:
                weight += soft_weight * (soft[i] @ soft[j]).item()
            of_anchor -= weight * math.log(math.exp(s[i][j] / tau) / others)
            weights += weight
        total += of_anchor / (weights if reduction == "positives" and weights else 1.0)
    return total / n


def spokencse(h, labels, tau, soft=None):
    """The published behaviour: self is no positive, but soft labels count for all j, tenfold."""
    unit = h / h.norm(dim=1, keepdim=True)
    e = (unit @ unit.T / tau).exp()
    positives = (labels[:, None] == labels[None]).double()
    positives.fill_diagonal_(0)
    if soft is not None:
        positives = positives + 10 * soft @ soft.T
    terms = -(e / (e.sum(1) - e.diagonal())[:, None]).log()
    return ((terms * positives).sum(1)).sum() / len(h)


@pytest.mark.parametrize("reduction", CONTRASTIVE_REDUCTIONS)
@pytest.mark.parametrize("soft_self", [False, True])
@pytest.mark.parametrize("with_soft", [False, True])
@pytest.mark.parametrize(("seed", "lowest", "tau"), [(0, 0, 0.2), (1, -1, 0.2), (2, -1, 1.0)])
def test_equals_the_loop_and_has_its_gradient(seed, lowest, tau, with_soft, soft_self, reduction):
    h, labels, soft = batch(seed, lowest=lowest)
    options = {"soft": soft, "soft_self": soft_self} if with_soft else {}
    options["reduction"] = reduction
    loss = supcon(h, labels, tau, **options).item()
    assert loss == pytest.approx(loop(h, labels, tau, **options), abs=1e-11)
    assert gradcheck(lambda x: supcon(x, labels, tau, **options), h.requires_grad_())


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_published_form_with_its_gradient(seed):
    for with_soft in (False, True):
        h, labels, soft = batch(seed, n=12, d=16)
        options = {"soft": soft} if with_soft else {}
        grads = []
        for fn, extra in ((spokencse, {}), (supcon, {"soft_self": True} if with_soft else {})):
            x = h.clone().requires_grad_()
            loss = fn(x, labels, 0.2, **options, **extra)
            loss.backward()
            grads.append((loss.detach(), x.grad))
        (published, g), (ours, ours_g) = grads
        assert torch.allclose(ours, published, atol=1e-10)
        assert torch.allclose(ours_g, g, atol=1e-10)


def test_soft_self_is_the_only_difference_from_the_published_form():
    h, labels, soft = batch(5)
    difference = supcon(h, labels, soft=soft, soft_self=True) - supcon(h, labels, soft=soft)
    assert abs(difference.item()) > 0.1
    # With near-certain soft labels every row would be its own positive.
    tau, sure = 0.2, torch.eye(3, dtype=torch.double)
    rows, alone = torch.eye(3, dtype=torch.double), torch.arange(3)
    assert supcon(rows, alone, tau, soft=sure).item() == 0
    expected = -10 * math.log(math.exp(5) / 2)
    assert supcon(rows, alone, tau, soft=sure, soft_self=True).item() == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_one_class_of_equal_vectors(n):
    h = torch.randn(1, 8, dtype=torch.double).expand(n, 8)
    expected = (n - 1) * math.log(n - 1)
    labels = torch.zeros(n, dtype=torch.long)
    assert supcon(h, labels).item() == pytest.approx(expected, abs=1e-10)
    if n == 4:
        assert expected == pytest.approx(3.295837, abs=1e-6)
    mean = supervised_contrastive_loss(h, labels).item()
    assert mean == pytest.approx(math.log(n - 1), abs=1e-10)


@pytest.mark.parametrize("n", [25, 100])
def test_a_large_class_does_not_set_the_scale_of_the_mean(n):
    """76 % of a batch in one class: the sum is its size times the mean."""
    torch.manual_seed(0)
    labels = (torch.arange(n) >= 0.76 * n).long() * torch.arange(n)  # the rest: one each
    h = torch.randn(n, 384, dtype=torch.double)
    total, mean = supcon(h, labels).item(), supervised_contrastive_loss(h, labels).item()
    positives = round(0.76 * n) - 1
    assert total == pytest.approx(positives * mean, rel=1e-9)
    assert mean == pytest.approx(0.76 * math.log(n - 1), rel=0.05)


def test_an_anchor_without_positives_counts_as_zero():
    """Two of three utterances are of a class; a mean over anchors with a positive would be 3/2."""
    h = torch.ones(3, 2, dtype=torch.double)
    loss = supervised_contrastive_loss(h, torch.tensor([0, 0, 1]))
    assert loss.item() == pytest.approx(2 / 3 * math.log(2))


def test_soft_positives_share_the_mean():
    """A constant weight of all pairs is a mean over all others, whatever its height."""
    h, _, _ = batch(4)
    alone, soft = torch.arange(len(h)), torch.full((len(h), 2), 0.5, dtype=torch.double)
    one, ten = (
        supervised_contrastive_loss(h, alone, soft=soft, soft_weight=w).item() for w in (1, 10)
    )
    same = supervised_contrastive_loss(h, torch.zeros(len(h), dtype=torch.long)).item()
    assert one == pytest.approx(ten) and one == pytest.approx(same)


@pytest.mark.parametrize("reduction", CONTRASTIVE_REDUCTIONS)
@pytest.mark.parametrize("labels", [[3], [0, 1, 2, 3], [-1, -1, -1], [0, -1, 1, -1], [-1]])
def test_without_a_positive_nothing_happens(labels, reduction):
    h = torch.randn(len(labels), 4, requires_grad=True)
    loss = supcon(h, torch.tensor(labels), reduction=reduction)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(h.grad, torch.zeros_like(h))


@pytest.mark.parametrize("soft_self", [False, True])
def test_one_row_has_nothing_to_compare_with(soft_self):
    h = torch.randn(1, 4, requires_grad=True)
    loss = supcon(h, torch.tensor([0]), soft=torch.ones(1, 2) / 2, soft_self=soft_self)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(h.grad, torch.zeros_like(h))


def test_unknown_labels_are_negatives_only():
    h, labels, soft = batch(3, lowest=0)
    labels[2] = -1
    relabelled = labels.clone()
    relabelled[2] = 99  # a class of its own: no positive either
    assert supcon(h, labels).item() == pytest.approx(supcon(h, relabelled).item(), abs=1e-12)
    moved = h.clone()
    moved[2] += 1
    assert supcon(moved, labels).item() != pytest.approx(supcon(h, labels).item(), abs=1e-4)
    changed = soft.clone()
    changed[2] = torch.tensor([1.0, 0, 0])
    losses = [supcon(h, labels, soft=s, soft_self=True).item() for s in (soft, changed)]
    assert losses[0] == losses[1]


def test_soft_labels_are_constants():
    h, labels, soft = batch()
    soft.requires_grad_()
    loss = supcon(h.requires_grad_(), labels, soft=soft, soft_self=True)
    loss.backward()
    assert soft.grad is None and h.grad.any()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 7), st.booleans())
def test_order_scale_and_names_of_classes_do_not_matter(seed, n, soft_self):
    h, labels, soft = batch(seed, n, lowest=-1)
    options = {"soft_self": soft_self}
    loss = supcon(h, labels, soft=soft, **options).item()
    order, scale = torch.randperm(n), 10 ** (4 * torch.rand(n, 1, dtype=torch.double) - 2)
    shuffled = supcon(h[order], labels[order], soft=soft[order], **options).item()
    assert shuffled == pytest.approx(loss, abs=1e-9)
    assert supcon(h * scale, labels, soft=soft, **options).item() == pytest.approx(loss, abs=1e-8)
    renamed = torch.where(labels >= 0, 7 - labels, labels)
    assert supcon(h, renamed, soft=soft, **options).item() == pytest.approx(loss, abs=1e-10)


def test_zero_vectors_give_numbers():
    h, labels, soft = batch()
    h[0] = h[1] = 0
    labels[:2] = 1
    expected = loop(h, labels, 0.2, soft)
    h.requires_grad_()
    loss = supcon(h, labels, soft=soft)
    loss.backward()
    assert loss.item() == pytest.approx(expected, abs=1e-10)
    assert h.grad.isfinite().all() and not h.grad[:2].any() and h.grad[2:].any()


def test_autocast_computes_in_float32():
    h, labels, soft = batch(n=16, d=64)
    h, soft = h.float(), soft.float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = supcon(h, labels, soft=soft, soft_self=True)
    assert torch.equal(inside, supcon(h, labels, soft=soft, soft_self=True))
    expected = loop(h.double(), labels, 0.2, soft.double(), soft_self=True)
    assert inside.item() == pytest.approx(expected, rel=1e-5)
    half = h.half().requires_grad_()
    loss = supcon(half, labels, 0.01, soft=soft.half())  # exp(1/0.01) overflows half precision
    loss.backward()
    assert loss.isfinite() and half.grad.isfinite().all()


@pytest.mark.parametrize(("n", "labels", "soft"), [(3, 2, 3), (3, 3, 2), (0, 0, 0)])
def test_rows_that_differ(n, labels, soft):
    with pytest.raises(ValueError, match="rows"):
        supcon(torch.ones(n, 2), torch.zeros(labels), soft=torch.ones(soft, 2))


def test_another_reduction_is_refused():
    with pytest.raises(UsageError, match="contrastive_reduction"):
        supcon(torch.ones(2, 2), torch.zeros(2), reduction="mean")
