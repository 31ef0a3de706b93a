# SPDX-License-Identifier: Apache-2.0
"""The polarization regularizer against a loop and by hand, and where it drives pairs."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.polarization_loss import polarization_loss, polarization_penalty

ALL = [(d, p, r) for d in ("paper", "true") for p in ("all", "cross") for r in ("sum", "mean")]


def pair(seed=0, n=4, d=6):
    torch.manual_seed(seed)
    return torch.randn(n, d, dtype=torch.double), torch.randn(n, d, dtype=torch.double)


def loop(manual, asr, low, high, distance, pairs, reduction):
    rows = [*manual, *asr]
    n, total, count = len(manual), 0.0, 0
    for i in range(2 * n):
        for j in range(2 * n):
            if i == j or (pairs == "cross" and not (i < n <= j)):
                continue
            s = (rows[i] @ rows[j] / rows[i].norm() / rows[j].norm()).item()
            d = (1 + s) / 2 if distance == "paper" else (1 - s) / 2
            total += max(-(d - low) * (d - high), 0.0)
            count += 1
    return total if reduction == "sum" else total / count


def at(distance, d):
    """Return two rows with the given D."""
    s = 2 * d - 1 if distance == "paper" else 1 - 2 * d
    rows = torch.tensor([[1.0, 0.0], [s, math.sqrt(1 - s * s)]], dtype=torch.double)
    return rows[:1], rows[1:]


@pytest.mark.parametrize(("distance", "pairs", "reduction"), ALL)
def test_equals_the_loop_and_has_its_gradient(distance, pairs, reduction):
    manual, asr = pair()
    options = (0.3, 0.7, distance, pairs, reduction)
    expected = loop(manual, asr, *options)
    assert expected > 0
    assert polarization_loss(manual, asr, *options).item() == pytest.approx(expected, abs=1e-12)
    manual.requires_grad_(), asr.requires_grad_()
    assert gradcheck(lambda p, q: polarization_loss(p, q, *options), (manual, asr))


@pytest.mark.parametrize(("distance", "reduction"), [("paper", "sum"), ("true", "mean")])
def test_the_reduction_follows_the_distance(distance, reduction):
    rows, borders = pair(n=6), (0.3, 0.7, distance, "all")
    assert polarization_loss(*rows, *borders) == polarization_loss(*rows, *borders, reduction)


@pytest.mark.parametrize("distance", ["paper", "true"])
@pytest.mark.parametrize(
    ("d", "penalty"), [(0.35, 0.0225), (0.2, 0), (0.5, 0), (0.1, 0), (0.9, 0), (0.3, 0.02)]
)
def test_one_pair_by_hand(distance, d, penalty):
    rows = at(distance, d)
    assert polarization_penalty(torch.tensor(d)).item() == pytest.approx(penalty, abs=1e-7)
    for pairs, count in (("all", 2), ("cross", 1)):  # all has the pair in both orders
        options = {"distance": distance, "pairs": pairs}
        total = polarization_loss(*rows, **options, reduction="sum").item()
        mean = polarization_loss(*rows, **options, reduction="mean").item()
        assert total == pytest.approx(count * penalty, abs=1e-12)
        assert mean == pytest.approx(penalty, abs=1e-12)


@pytest.mark.parametrize("distance", ["paper", "true"])
@pytest.mark.parametrize(("d", "falls"), [(0.3, True), (0.4, False)])
def test_descent_drives_a_pair_to_the_nearer_border(distance, d, falls):
    manual, asr = at(distance, d)
    asr = asr.clone().requires_grad_()
    polarization_loss(manual, asr, distance=distance).backward()
    with torch.no_grad():
        s = torch.cosine_similarity(manual, asr - 0.01 * asr.grad).item()
    after = (1 + s) / 2 if distance == "paper" else (1 - s) / 2
    assert after != pytest.approx(d, abs=1e-6)
    assert (after < d) is falls


def test_the_band_of_each_distance():
    """0.2 and 0.5 penalise cosines in (-0.6, 0) by "paper" and in (0, 0.6) by "true"."""
    for s, paper, true in ((-0.61, 0, 0), (-0.3, 1, 0), (-0.01, 1, 0), (0.01, 0, 1), (0.61, 0, 0)):
        rows = at("paper", (1 + s) / 2)
        assert (polarization_loss(*rows, distance="paper").item() > 0) == paper
        assert (polarization_loss(*rows, distance="true").item() > 0) == true


def test_the_diagonal_never_counts():
    """A zero vector has D = 0.5 with itself, which these borders penalise."""
    zero = torch.zeros(1, 3, dtype=torch.double, requires_grad=True)
    one = torch.ones(1, 3, dtype=torch.double, requires_grad=True)
    loss = polarization_loss(zero, one, 0.3, 0.7)
    assert loss.item() == pytest.approx(2 * 0.04)
    loss.backward()
    assert not zero.grad.any() and one.grad.isfinite().all()


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from(ALL))
def test_order_scale_and_sides_do_not_matter_and_mean_is_the_share(seed, n, options):
    manual, asr = pair(seed, n)
    distance, pairs, _ = options

    def loss(p, q, reduction="sum"):
        return polarization_loss(p, q, 0.2, 0.6, distance, pairs, reduction).item()

    total = loss(manual, asr)
    order, scale = torch.randperm(n), 10 ** (4 * torch.rand(n, 1, dtype=torch.double) - 2)
    assert loss(manual[order], asr[order]) == pytest.approx(total, abs=1e-10)
    assert loss(manual * scale, asr) == pytest.approx(total, abs=1e-9)
    assert loss(asr, manual) == pytest.approx(total, abs=1e-10)
    count = 2 * n * (2 * n - 1) if pairs == "all" else n * n
    assert loss(manual, asr, "mean") * count == pytest.approx(total, abs=1e-10)
    assert 0 <= total <= count * 0.04 + 1e-12


def test_autocast_computes_in_float32():
    manual, asr = (x.float() for x in pair(n=8, d=64))
    with torch.autocast("cpu", torch.bfloat16):
        inside = polarization_loss(manual, asr)
    assert torch.equal(inside, polarization_loss(manual, asr))


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.2), (0.2, 0.2), (0.0, 0.5), (0.2, 1.0)])
def test_borders_that_enclose_nothing(low, high):
    with pytest.raises(UsageError, match="0 < low < high < 1"):
        polarization_loss(*pair(), low, high)


@pytest.mark.parametrize(
    ("option", "value"), [("distance", "papr"), ("pairs", "al"), ("reduction", "none")]
)
def test_unknown_options(option, value):
    with pytest.raises(UsageError, match=option):
        polarization_loss(*pair(), **{option: value})
