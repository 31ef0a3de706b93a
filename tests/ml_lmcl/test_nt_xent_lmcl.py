# SPDX-License-Identifier: Apache-2.0
"""NT-Xent against the written-out sums, closed forms, gradients and invariances."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from espnet_ext.ml_lmcl.nt_xent_loss import cosine_matrix, nt_xent_loss


def pair(seed=0, n=5, d=7, dtype=torch.double):
    torch.manual_seed(seed)
    return torch.randn(n, d, dtype=dtype), torch.randn(n, d, dtype=dtype)


def cosine(a, b):
    return (a @ b / max(a.norm(), 1e-8) / max(b.norm(), 1e-8)).item()


def loop(manual, asr, tau):
    """The sum over 2N anchors, each term -log(exp / sum of exps) as published."""
    n, rows = len(manual), [*manual, *asr]
    total = 0.0
    for i, row in enumerate(rows):
        e = [math.exp(cosine(row, other) / tau) for other in rows]
        others = sum(x for k, x in enumerate(e) if k != i)
        total -= math.log(e[(i + n) % (2 * n)] / others)
    return total / (2 * n)


@pytest.mark.parametrize(("n", "tau"), [(1, 0.2), (2, 0.2), (5, 0.05), (6, 1.0)])
def test_equals_the_loop_and_has_its_gradient(n, tau):
    manual, asr = pair(n=n)
    assert nt_xent_loss(manual, asr, tau).item() == pytest.approx(loop(manual, asr, tau), abs=1e-12)
    assert gradcheck(
        lambda p, q: nt_xent_loss(p, q, tau), (manual.requires_grad_(), asr.requires_grad_())
    )


@pytest.mark.parametrize("n", [2, 3, 17])
def test_equal_vectors_give_the_log_of_the_others(n):
    h = torch.randn(1, 8).expand(n, 8)
    assert nt_xent_loss(h, h).item() == pytest.approx(math.log(2 * n - 1), abs=1e-6)
    if n == 2:
        assert nt_xent_loss(h, h).item() == pytest.approx(1.098612, abs=1e-6)


def test_equal_positives_and_orthogonal_others():
    h = torch.eye(2, dtype=torch.double)
    expected = math.log(1 + 2 * math.exp(-5))
    assert nt_xent_loss(h, h, 0.2).item() == pytest.approx(expected, abs=1e-12)
    assert expected == pytest.approx(0.013386, abs=1e-6)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(2, 6))
def test_order_scale_and_sides_do_not_matter(seed, n):
    manual, asr = pair(seed, n)
    loss = nt_xent_loss(manual, asr).item()
    order, scale = torch.randperm(n), 10 ** (4 * torch.rand(n, 1, dtype=torch.double) - 2)
    assert nt_xent_loss(manual[order], asr[order]).item() == pytest.approx(loss, abs=1e-10)
    assert nt_xent_loss(manual * scale, asr * scale.flip(0)).item() == pytest.approx(loss, abs=1e-9)
    assert nt_xent_loss(asr, manual).item() == pytest.approx(loss, abs=1e-10)


def test_exchanged_partners_cost_more():
    manual, _ = pair()
    assert nt_xent_loss(manual, manual) < nt_xent_loss(manual, manual.roll(1, 0))


def test_zero_vectors_have_cosine_zero_and_no_gradient():
    manual, asr = pair(dtype=torch.float)
    manual[0], asr[2] = 0, 0
    manual.requires_grad_(), asr.requires_grad_()
    loss = nt_xent_loss(manual, asr)
    loss.backward()
    expected = loop(manual.detach().double(), asr.detach().double(), 0.2)
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    assert manual.grad.isfinite().all() and asr.grad.isfinite().all()
    assert not manual.grad[0].any() and not asr.grad[2].any()
    assert manual.grad[1:].any(1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_compute_in_float32(dtype):
    manual, asr = pair(n=16, d=64, dtype=torch.float)
    with torch.autocast("cpu", torch.bfloat16):
        inside = nt_xent_loss(manual, asr, 0.01)
    assert inside.dtype == torch.float and torch.equal(inside, nt_xent_loss(manual, asr, 0.01))
    half = manual.to(dtype).requires_grad_()
    loss = nt_xent_loss(half, asr.to(dtype), 0.01)
    assert loss.item() == pytest.approx(
        loop(half.detach().double(), asr.to(dtype).double(), 0.01), rel=1e-4
    )
    loss.backward()
    assert half.grad.dtype == dtype and half.grad.isfinite().all()


def test_cosines_are_those_of_torch():
    a, b = pair()
    expected = torch.nn.functional.cosine_similarity(a.unsqueeze(1), b.unsqueeze(0), dim=-1)
    assert torch.allclose(cosine_matrix(a, b), expected, atol=1e-12)


@pytest.mark.parametrize("shapes", [((3, 4), (2, 4)), ((0, 4), (0, 4)), ((4,), (4,))])
def test_shapes_that_are_no_pairs(shapes):
    with pytest.raises(ValueError, match="row"):
        nt_xent_loss(*(torch.ones(s) for s in shapes))
