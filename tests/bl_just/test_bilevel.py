# SPDX-License-Identifier: Apache-2.0
"""The bilevel step on problems whose solution is known."""

import itertools
from pathlib import Path

import pytest
import torch

from espnet_ext.bl_just.bilevel import (
    clip_groups,
    fit,
    gradient_geometry,
    joint_loss,
    with_scaled_gradient,
)
from espnet_ext.bl_just.options import resolve
from espnet_ext.bl_just.schedule import make_schedule

ALL = itertools.repeat(None)
PAGE = Path(__file__).parents[2] / "espnet_ext/bl_just/README.md"


def minimiser(gamma, upper_level):
    theta = torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64))
    conf = resolve({
        "epochs": 400, "explore_steps": 0, "joint_steps": 1, "final_steps": 0,
        "gamma_ramp": "constant", "gamma_max": gamma, "upper_level": upper_level,
    })  # fmt: skip
    # The curvature of f + gamma g is 1 + gamma: this rate goes most of the way at once.
    optimiser = torch.optim.SGD([theta], lr=0.9 / (1 + gamma))
    f, g = (lambda _: (theta - 1) ** 2 / 2), (lambda _: (theta + 1) ** 2 / 2)
    for _ in fit(make_schedule(conf, 1, 1), f, g, [optimiser] * 3, ALL, ALL):
        pass
    return theta.item()


@pytest.mark.parametrize(("gamma", "expected"), [(0.0, 1.0), (1.0, 0.0), (9.0, -0.8)])
def test_levels_are_not_reversed(gamma, expected):
    """Self-test 3: the minimiser tends to that of g, the lower level, as gamma grows."""
    assert minimiser(gamma, "supervised") == pytest.approx(expected, abs=1e-9)
    assert minimiser(gamma, "unsupervised") == pytest.approx(-expected, abs=1e-9)


def test_one_joint_step_takes_all_gradients_at_the_old_point():
    """Self-test 6: f = (phi theta - 2)^2 / 2, g = (eta theta - 3)^2 / 2, computed by hand."""
    theta, phi, eta = (torch.nn.Parameter(torch.tensor(x)) for x in (1.0, 0.5, 2.0))
    conf = resolve({
        "epochs": 1, "explore_steps": 0, "joint_steps": 1, "final_steps": 0,
        "gamma_ramp": "constant", "gamma_max": 0.4,
    })  # fmt: skip
    optimiser = torch.optim.SGD([theta, phi, eta], lr=0.1)
    f, g = (lambda _: (phi * theta - 2) ** 2 / 2), (lambda _: (eta * theta - 3) ** 2 / 2)
    list(fit(make_schedule(conf, 1, 1), f, g, [optimiser] * 3, ALL, ALL))
    # residuals -1.5 and -1
    assert theta.item() == pytest.approx(1 - 0.1 * (0.5 * -1.5 + 0.4 * 2 * -1))
    assert phi.item() == pytest.approx(0.5 - 0.1 * (1 * -1.5))
    assert eta.item() == pytest.approx(2 - 0.1 * 0.4 * (1 * -1))


def test_a_head_is_left_alone_by_phases_that_are_not_its_own():
    theta, phi, eta = (torch.nn.Parameter(torch.ones(2)) for _ in range(3))
    conf = resolve({"epochs": 1, "explore_steps": 2, "joint_steps": 2, "final_steps": 2})
    optimisers = [
        torch.optim.AdamW(p, lr=0.1) for p in ([theta, phi, eta], [theta, eta], [theta, phi])
    ]
    f, g = (lambda _: (phi * theta - 2).square().sum()), (lambda _: (eta * theta).square().sum())
    seen = []
    for told in fit(make_schedule(conf, 1, 1), f, g, optimisers, ALL, ALL):
        seen.append((told, theta.detach().clone(), phi.detach().clone(), eta.detach().clone()))
    for i, told in enumerate(seen):
        _, before_theta, before_phi, before_eta = seen[i - 1] if i else (None, *[torch.ones(2)] * 3)
        assert not torch.equal(told[1], before_theta)
        assert torch.equal(told[2], before_phi) == (i < 2)  # exploration
        assert torch.equal(told[3], before_eta) == (i >= 2)  # gamma is 0, then the last phase
        assert (told[0]["g"] == told[0]["g"]) == (i < 2)


def test_nothing_of_the_lower_level_is_asked_for_at_gamma_zero():
    upper = torch.tensor(1.0)
    assert joint_loss(upper, None, 0.0) is upper
    for bad in (-0.1, 0.1):
        with pytest.raises(ValueError, match="gamma"):
            joint_loss(upper, None, bad)


def test_a_scaled_encoder_scales_theta_and_not_the_head():
    theta, eta = torch.nn.Linear(3, 4), torch.nn.Linear(4, 1)
    x, n = torch.randn(2, 5, 3), torch.tensor([5, 4])

    def grads(encoder):
        theta.zero_grad()
        eta.zero_grad()
        eta(encoder(x, n)[0]).square().mean().backward()
        return theta.weight.grad.clone(), eta.weight.grad.clone()

    def plain(x, n):
        return theta(x), n

    a, b = grads(plain), grads(with_scaled_gradient(plain, 0.3))
    assert torch.allclose(b[0], 0.3 * a[0], atol=1e-7) and torch.equal(b[1], a[1])


def test_geometry_of_the_gradients_and_what_it_leaves_behind():
    theta = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    idle = torch.nn.Parameter(torch.zeros(1))
    f, g = (theta * torch.tensor([3.0, 4.0])).sum(), 2 * theta[0]
    told = gradient_geometry(f, g, [theta, idle])
    assert {k: v.item() for k, v in told.items()} == pytest.approx(
        {"grad_norm_f": 5.0, "grad_norm_g": 2.0, "grad_cosine": 0.6}
    )
    assert theta.grad is None
    (f + g).backward()  # the graph is still there
    assert theta.grad.tolist() == [5.0, 4.0]


def test_groups_are_clipped_apart():
    big, small = (torch.nn.Parameter(torch.zeros(4)) for _ in range(2))
    big.grad, small.grad = torch.full((4,), 100.0), torch.full((4,), 0.1)
    clip_groups(torch.optim.SGD([{"params": [big]}, {"params": [small]}], lr=1), 1.0)
    assert big.grad.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert small.grad.tolist() == pytest.approx([0.1] * 4)


def test_the_example_of_the_page_runs(capsys):
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, str(PAGE), "exec"), {"__name__": "example"})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 * (3 + 2) + 5 * 2  # K (N1 + N2) + N3
    assert sum("nan" not in line for line in lines) == 2 * 2  # f and g where gamma is above 0
