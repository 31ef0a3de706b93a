# SPDX-License-Identifier: Apache-2.0
"""Mutual learning against loops: bounds, symmetry, who receives gradient, batch size."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.mutual_loss import mutual_loss


def pair(seed=0, n=4, classes=5, spread=2.0):
    torch.manual_seed(seed)
    return tuple(spread * torch.randn(n, classes, dtype=torch.double) for _ in range(2))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True) if a > 0)


def loop(clean, asr, kind):
    total = 0.0
    for z_p, z_q in zip(clean, asr, strict=True):
        p, q = z_p.softmax(0).tolist(), z_q.softmax(0).tolist()
        m = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
        total += (kl(p, m) + kl(q, m)) / 2 if kind == "js" else kl(p, q)
    return total


@pytest.mark.parametrize("kind", ["js", "kl_clean_to_asr"])
def test_equals_the_loop(kind):
    clean, asr = pair()
    total = loop(clean, asr, kind)
    assert mutual_loss(clean, asr, kind, "sum").item() == pytest.approx(total, abs=1e-12)
    assert mutual_loss(clean, asr, kind).item() == pytest.approx(total / 4, abs=1e-12)


def test_js_has_its_gradient_and_reaches_both_models():
    clean, asr = (x.requires_grad_() for x in pair())
    assert gradcheck(mutual_loss, (clean, asr))
    mutual_loss(clean, asr).backward()
    assert clean.grad.any(1).all() and asr.grad.any(1).all()


def test_the_one_way_form_leaves_the_clean_model_alone():
    clean, asr = (x.requires_grad_() for x in pair())
    mutual_loss(clean, asr, "kl_clean_to_asr", "sum").backward()
    assert clean.grad is None
    expected = asr.softmax(-1) - clean.softmax(-1)  # of cross-entropy against a constant
    assert torch.allclose(asr.grad, expected, atol=1e-12)
    fixed = clean.detach()
    assert gradcheck(lambda q: mutual_loss(fixed, q, "kl_clean_to_asr"), asr)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.01, 300))
def test_js_is_symmetric_and_bounded(seed, n, spread):
    clean, asr = pair(seed, n, spread=spread)
    loss = mutual_loss(clean, asr).item()
    assert -1e-12 <= loss <= math.log(2) + 1e-12
    assert mutual_loss(asr, clean).item() == pytest.approx(loss, abs=1e-12)
    order = torch.randperm(n)
    assert mutual_loss(clean[order], asr[order]).item() == pytest.approx(loss, abs=1e-12)
    assert mutual_loss(clean + 7, asr - 3).item() == pytest.approx(loss, abs=1e-9)


def test_equal_and_disjoint_predictions():
    clean, _ = pair()
    assert mutual_loss(clean, clean).item() == pytest.approx(0, abs=1e-12)
    sure = 1e4 * torch.eye(2, requires_grad=True)  # p underflows to 0
    other = sure.detach().flip(0).requires_grad_()
    sure.retain_grad()
    loss = mutual_loss(sure, other)
    assert loss.item() == pytest.approx(math.log(2), abs=1e-6)
    loss.backward()
    assert sure.grad.isfinite().all() and other.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["js", "kl_clean_to_asr"])
def test_a_repeated_batch_leaves_the_mean_and_doubles_the_sum(kind):
    clean, asr = pair()
    twice = [torch.cat([x, x]) for x in (clean, asr)]
    mean, total = (mutual_loss(clean, asr, kind, r).item() for r in ("mean", "sum"))
    assert mutual_loss(*twice, kind).item() == pytest.approx(mean, abs=1e-12)
    assert mutual_loss(*twice, kind, "sum").item() == pytest.approx(2 * total, abs=1e-12)


def test_half_precision_is_computed_in_float32():
    clean, asr = (x.half() for x in pair(spread=8))
    loss = mutual_loss(clean, asr)
    assert loss.dtype == torch.float
    assert loss.item() == pytest.approx(loop(clean.double(), asr.double(), "js") / 4, abs=1e-5)


@pytest.mark.parametrize("options", [("jss", "mean"), ("js", "batchmean")])
def test_misuse(options):
    with pytest.raises(UsageError, match="mutual"):
        mutual_loss(*pair(), *options)
    with pytest.raises(ValueError, match="row"):
        mutual_loss(torch.ones(2, 3), torch.ones(3, 3))
