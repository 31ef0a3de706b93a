# SPDX-License-Identifier: Apache-2.0
"""MAE and CLR: closed forms, naive loops, gradients, two processes as one."""

import math

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn import functional as F

from espnet_ext.multistage.clr_loss import ClrLoss, retrieval
from espnet_ext.multistage.mae_loss import mae_loss, mean_error

B, N, P, E = 3, 5, 4, 8


def tokens(seed):
    return torch.randn(B, N, P, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("normalise", [False, True])
def test_mae_is_the_mean_over_scored_tokens(normalise):
    target, predicted, scored = tokens(0), tokens(1), tokens(2).sum(-1) > 0
    errors = []
    for b in range(B):
        for n in range(N):
            x = target[b, n].tolist()
            if normalise:
                mean = sum(x) / P
                spread = math.sqrt(sum((v - mean) ** 2 for v in x) / (P - 1) + 1e-6)
                x = [(v - mean) / spread for v in x]
            if scored[b, n]:
                pairs = zip(x, predicted[b, n].tolist(), strict=True)
                errors.append(sum((v - w) ** 2 for v, w in pairs) / P)
    expected = sum(errors) / len(errors)
    assert float(mae_loss(target, predicted, scored, normalise)) == pytest.approx(
        expected, rel=1e-5
    )


def test_mae_looks_at_scored_tokens_alone():
    target, predicted, scored = tokens(0), tokens(1).requires_grad_(), tokens(2).sum(-1) > 0
    mae_loss(target, predicted, scored).backward()
    assert (predicted.grad.abs().sum(-1) > 0).equal(scored)
    other = torch.where(scored[..., None], target, 1e6)
    assert mae_loss(other, predicted, scored) == mae_loss(target, predicted, scored)
    assert mae_loss(target, target, scored) == 0
    assert mae_loss(target, predicted, torch.zeros_like(scored)) == 0


def test_the_mean_predictor_has_the_variance_of_the_targets():
    target, scored = tokens(0), torch.ones(B, N, dtype=torch.bool)
    expected = target.flatten(0, 1).var(0, unbiased=False).mean()
    assert float(mean_error(target, scored)) == pytest.approx(float(expected), rel=1e-5)
    # Nothing that is constant is better.
    assert mean_error(target, scored) < mae_loss(target, torch.full_like(target, 0.3), scored)


@pytest.mark.parametrize("tau", [0.05, 0.1, 1.0])
def test_orthonormal_pairs_and_equal_ones(tau):
    pairs = torch.eye(B, E, dtype=torch.float64)
    expected = math.log(1 + (B - 1) * math.exp(-1 / tau))
    assert float(ClrLoss(tau)(pairs, 7 * pairs)) == pytest.approx(expected, rel=1e-5, abs=1e-7)
    equal = torch.ones(B, E)
    assert float(ClrLoss(tau)(equal, equal)) == pytest.approx(math.log(B), rel=1e-5)
    assert retrieval(pairs, pairs) == 1 and retrieval(pairs, pairs.roll(1, 0)) == 0


def test_clr_by_a_loop_over_both_directions():
    a, v = (torch.randn(B, E, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    s = [[float(F.cosine_similarity(x, y, dim=0)) / 0.2 for y in v] for x in a]
    loss = 0.0
    for i in range(B):
        row = math.log(sum(math.exp(s[i][j]) for j in range(B))) - s[i][i]
        column = math.log(sum(math.exp(s[j][i]) for j in range(B))) - s[i][i]
        loss += (row + column) / 2 / B
    assert float(ClrLoss(0.2)(a, v)) == pytest.approx(loss, rel=1e-5)
    order = torch.tensor([2, 0, 1])  # of the pairs in the batch: no matter
    assert ClrLoss(0.2)(a[order], v[order]) == pytest.approx(float(ClrLoss(0.2)(a, v)), rel=1e-5)
    assert ClrLoss(0.2)(a, a) < ClrLoss(0.2)(a, a.roll(1, 0))


def test_both_sides_learn_from_both_directions():
    a, v = (torch.randn(B, E, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    a, v = a.requires_grad_(), v.requires_grad_()
    s = F.cosine_similarity(a[:, None], v[None], dim=-1) / 0.2
    plain = -(s.log_softmax(0) + s.log_softmax(1)).diagonal().mean() / 2
    expected = torch.autograd.grad(plain, (a, v))
    found = torch.autograd.grad(ClrLoss(0.2)(a, v), (a, v))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_rounds_no_similarity(dtype):
    """Pairs that are alike but for a thousandth: rounded similarities could not tell them apart."""
    a = 1 + 0.03 * torch.randn(16, E, generator=torch.Generator().manual_seed(0))
    clr = ClrLoss(0.01)
    expected = clr(a, a), retrieval(a, a)
    with torch.autocast("cpu", dtype):
        torch.testing.assert_close((clr(a, a), retrieval(a, a)), expected)
    assert expected[1] == 1


def test_a_learned_temperature_starts_at_its_value_and_is_capped():
    loss = ClrLoss()
    assert 1 / float(loss.scale.detach()) == pytest.approx(0.07)
    with torch.no_grad():
        loss.log_scale.fill_(20.0)
    assert float(loss.scale.detach()) == pytest.approx(100)
    assert [n for n, _ in loss.named_parameters()] == ["log_scale"]
    assert not list(ClrLoss(0.1).parameters())


def _joined(rank, sizes, file, x, y):
    """Compare this process's gradients with those of the joined batch."""
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=len(sizes))
    weight = torch.eye(E).requires_grad_()
    start = sum(sizes[:rank])
    own = slice(start, start + sizes[rank])
    clr = ClrLoss()
    loss = clr(x[own] @ weight, y[own] @ weight) * sizes[rank] / sum(sizes)
    loss.backward()  # the sum over processes is what DDP and ESPnet's weights make of it
    gradients = [weight.grad, clr.log_scale.grad, loss.detach()]
    for g in gradients:
        dist.all_reduce(g)
    dist.destroy_process_group()
    weight, clr = torch.eye(E).requires_grad_(), ClrLoss()
    whole = clr(x @ weight, y @ weight)
    whole.backward()
    for got, expected in zip(gradients, [weight.grad, clr.log_scale.grad, whole], strict=True):
        torch.testing.assert_close(got, expected.detach(), rtol=1e-4, atol=1e-5)


def test_several_processes_equal_the_joined_batch(tmp_path):
    """Uneven as the last batch of an epoch is; one has a single clip, so no contrast of its own."""
    x, y = (torch.randn(5, E, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    mp.spawn(_joined, ([4, 1], str(tmp_path / "meet"), x, y), nprocs=2)
