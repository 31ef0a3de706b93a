# SPDX-License-Identifier: Apache-2.0
"""Gaussian mixtures: likelihoods, EM, splitting, against loops and torch.distributions."""

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from espnet_ext.align.gmm import stats as gmm_stats
from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import GmmStats, accumulate
from espnet_ext.align.gmm.train import map_update, pdf_occ, split, split_targets, update
from espnet_ext.errors import DataError

SIZES = (3, 1, 2, 5, 1, 3)


def random_gmm(sizes=SIZES, dim=4, seed=0, spread=2.0, offset=0.0) -> Gmm:
    torch.manual_seed(seed)
    offsets = torch.tensor([0, *np.cumsum(sizes)])
    weights = torch.cat([torch.softmax(torch.randn(n), 0) for n in sizes])
    means = offset + spread * torch.randn(len(weights), dim)
    return Gmm(offsets, weights, means, 0.3 + torch.rand(len(weights), dim))


def component_scores(gmm, x, pdf) -> torch.Tensor:
    """``(T, C)`` log w N(x) by torch.distributions, float64."""
    own = slice(int(gmm.offsets[pdf]), int(gmm.offsets[pdf + 1]))
    mean, std = gmm.means[own].double(), gmm.variances[own].double().sqrt()
    normal = Independent(Normal(mean, std), 1)
    return normal.log_prob(x.double()[:, None]) + gmm.weights[own].double().log()


def sample(gmm, frames, seed=1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    pdfs = torch.randint(gmm.num_pdfs, (frames,))
    x = torch.empty(frames, gmm.dim)
    for k in range(gmm.num_pdfs):
        own = slice(int(gmm.offsets[k]), int(gmm.offsets[k + 1]))
        parts = Independent(Normal(gmm.means[own], gmm.variances[own].sqrt()), 1)
        mixture = MixtureSameFamily(Categorical(gmm.weights[own]), parts)
        x[pdfs == k] = mixture.sample((int((pdfs == k).sum()),))
    return x, pdfs


@pytest.mark.parametrize("how", ["max", "sum"])
@pytest.mark.parametrize("offset", [0.0, 300.0])  # far from 0, squares lose digits
def test_loglik_equals_the_densities(how, offset):
    gmm = random_gmm(offset=offset)
    x = offset + 3 * torch.randn(70, gmm.dim)
    pdfs = torch.tensor([4, 0, 3, 2, 0, 5])  # any order, one twice
    reduce = {"max": torch.amax, "sum": torch.logsumexp}[how]
    expected = torch.stack([reduce(component_scores(gmm, x, k), 1) for k in pdfs.tolist()], 1)
    scale = 1e-4 if not offset else 2e-3
    torch.testing.assert_close(gmm.loglik(x, pdfs, how).double(), expected, rtol=1e-5, atol=scale)


def test_loglik_in_chunks_and_empty(monkeypatch):
    gmm, x, pdfs = random_gmm(), torch.randn(300, 4), torch.arange(6)
    whole = gmm.loglik(x, pdfs)
    monkeypatch.setattr("espnet_ext.align.gmm.model.CHUNK_VALUES", {"cpu": 1})
    torch.testing.assert_close(gmm.loglik(x, pdfs), whole)
    assert bool((whole <= gmm.loglik(x, pdfs, "sum") + 1e-5).all())
    assert gmm.loglik(x[:0], pdfs).shape == (0, 6)
    assert gmm.loglik(x, pdfs[:0]).shape == (300, 0)


def naive_stats(gmm, x, pdfs):
    occ = torch.zeros(gmm.num_gauss, dtype=torch.float64)
    sx, sxx = torch.zeros((2, gmm.num_gauss, gmm.dim), dtype=torch.float64)
    loglik = 0.0
    for frame, pdf in zip(x.double(), pdfs.tolist(), strict=True):
        scores = component_scores(gmm, frame[None], pdf)[0]
        loglik += float(scores.logsumexp(0))
        for g, post in enumerate(scores.softmax(0), int(gmm.offsets[pdf])):
            occ[g] += post
            sx[g] += post * frame
            sxx[g] += post * frame**2
    return occ, sx, sxx, loglik


@pytest.mark.parametrize("chunk", [8192, 7, 1])
def test_accumulate_equals_a_loop(monkeypatch, chunk):
    monkeypatch.setattr(gmm_stats, "CHUNK_FRAMES", chunk)  # small: pdfs across blocks
    gmm = random_gmm(offset=20.0)
    x, pdfs = 20 + torch.randn(90, 4), torch.randint(6, (90,)) // 2 * 2  # odd pdfs without data
    stats = accumulate(gmm, x, pdfs)
    occ, sx, sxx, loglik = naive_stats(gmm, x, pdfs)
    for mine, naive in ((stats.occ, occ), (stats.sx, sx), (stats.sxx, sxx)):
        assert mine.dtype == torch.float64
        torch.testing.assert_close(mine, naive, rtol=1e-4, atol=1e-3)
    assert (stats.loglik, stats.frames) == (pytest.approx(loglik, rel=1e-5), 90)


def test_stats_of_shards_add_up_and_are_kept(tmp_path):
    gmm = random_gmm()
    x, pdfs = sample(gmm, 400)
    a, b = accumulate(gmm, x[:150], pdfs[:150]), accumulate(gmm, x[150:], pdfs[150:])
    a.save(tmp_path / "a.npz")
    total, whole = GmmStats.load(tmp_path / "a.npz") + b, accumulate(gmm, x, pdfs)
    torch.testing.assert_close(total.sxx, whole.sxx, rtol=1e-5, atol=1e-4)
    assert total.loglik == pytest.approx(whole.loglik) and total.frames == 400
    assert a.frames == 150  # `+` leaves its operands alone
    a += b
    assert torch.equal(a.sx, total.sx)
    with pytest.raises(DataError, match="do not add up"):
        a += GmmStats.zeros(3, 4)


def test_em_recovers_a_sampled_mixture():
    truth = random_gmm((2, 3), dim=2, spread=4.0, seed=3)
    x, pdfs = sample(truth, 6000)
    gmm = Gmm(truth.offsets, torch.tensor([0.5, 0.5, 0.4, 0.3, 0.3]),
              truth.means + 0.5, torch.ones(5, 2))  # fmt: skip
    logliks = []
    for _ in range(40):
        stats = accumulate(gmm, x, pdfs)
        logliks.append(stats.loglik / stats.frames)
        gmm = update(gmm, stats)
    assert min(np.diff(logliks)) > -1e-5 and logliks[-1] > logliks[0] + 0.1
    torch.testing.assert_close(gmm.weights, truth.weights, rtol=0, atol=0.03)
    torch.testing.assert_close(gmm.means, truth.means, rtol=0, atol=0.12)
    torch.testing.assert_close(gmm.variances, truth.variances, rtol=0.12, atol=0.02)


def test_update_with_few_data():
    gmm = random_gmm((3, 2, 2, 1), dim=2)
    occ = torch.tensor([30.0, 9, 60, 4, 5, 0, 0, 3], dtype=torch.float64)
    mean = torch.arange(16.0).view(8, 2).double()
    sxx = occ[:, None] * (mean**2 + torch.tensor([4.0, 1e-9]))
    new = update(gmm, GmmStats(occ, occ[:, None] * mean, sxx, 0.0, 111))
    # pdf 0 loses its second Gaussian, pdf 1 keeps the one of 5 frames as it was; pdf 2 has no
    # data and pdf 3 too few, both stay.
    assert new.offsets.tolist() == [0, 2, 3, 5, 6]
    kept = [4, 5, 6, 7]
    torch.testing.assert_close(new.means, torch.cat([mean[[0, 2]].float(), gmm.means[kept]]))
    torch.testing.assert_close(new.weights[:3], torch.tensor([1 / 3, 2 / 3, 1]))
    assert torch.equal(new.weights[3:], gmm.weights[[5, 6, 7]])
    torch.testing.assert_close(new.variances[:2], torch.tensor([[4.0, 1e-3]] * 2))
    floored = update(
        gmm, GmmStats(occ, occ[:, None] * mean, sxx), min_occ=0, var_floor=torch.tensor([5.0, 0.5])
    )
    assert floored.num_gauss == 8 and floored.variances[0].tolist() == [5.0, 0.5]


@pytest.mark.parametrize("tau", [1e-9, 30.0, 1e12])
def test_map_update_counts_the_prior_as_frames(tau):
    prior = random_gmm((2, 3), dim=2, seed=3)
    x, pdfs = sample(random_gmm((2, 3), dim=2, seed=4), 500)
    x, pdfs = x[pdfs == 0], pdfs[pdfs == 0]  # none of the second
    new = map_update(prior, accumulate(prior, x, pdfs), tau)
    for g, post in enumerate(component_scores(prior, x, 0).softmax(1).T):
        # As if tau more frames had been drawn from the prior.
        old_mean, old_var = prior.means[g].double(), prior.variances[g].double()
        total = post.sum() + tau
        mean = (post @ x.double() + tau * old_mean) / total
        spread = post @ (x.double() - mean) ** 2 + tau * (old_var + (old_mean - mean) ** 2)
        torch.testing.assert_close(new.means[g].double(), mean, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(new.variances[g].double(), spread / total, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(new.means[2:], prior.means[2:])
    torch.testing.assert_close(new.variances[2:], prior.variances[2:], rtol=1e-4, atol=1e-4)
    assert torch.equal(new.weights, prior.weights)
    with pytest.raises(DataError, match="GMM update"):
        map_update(prior, GmmStats.zeros(3, 2), tau)


def test_from_stats_and_single():
    x = torch.randn(50, 3)
    sums = torch.stack([x[:20].sum(0), torch.zeros(3), x[20:].sum(0)])
    squares = torch.stack([(x[:20] ** 2).sum(0), torch.zeros(3), (x[20:] ** 2).sum(0)])
    gmm = Gmm.from_stats([20, 0, 30], sums, squares)
    torch.testing.assert_close(gmm.means, torch.stack([x[:20].mean(0), x.mean(0), x[20:].mean(0)]))
    torch.testing.assert_close(gmm.variances[1], x.var(0, correction=0))
    single = Gmm.single(x.mean(0), x.var(0, correction=0), 4)
    scores = single.loglik(x, torch.arange(4))
    torch.testing.assert_close(scores, scores[:, :1].expand(-1, 4))
    with pytest.raises(DataError, match="no frames"):
        Gmm.from_stats([0, 0], sums[:2], squares[:2])


def test_split_shares_by_power_and_repeats_for_a_seed():
    gmm = Gmm.single(torch.zeros(3), torch.full((3,), 4.0), 4)
    occ = torch.tensor([1000.0, 16000, 50, 0])
    big = split(gmm, 12, occ, power=0.25, seed=7)
    assert big.num_gauss == 12 and big.offsets.diff().tolist() == [3, 6, 2, 1]
    per_pdf = [float(big.weights[a:b].sum()) for a, b in zip(big.offsets, big.offsets[1:])]  # noqa: B905
    assert per_pdf == pytest.approx([1, 1, 1, 1])
    two = split(gmm, 5, occ, power=1.0, perturb=0.1)
    first, second = two.means[two.offsets[1] : two.offsets[2]]
    torch.testing.assert_close(first, -second)  # both sides of the mean, 0
    assert 0 < float(first.abs().max()) < 0.1 * 2 * 5
    assert torch.equal(big.means, split(gmm, 12, occ, power=0.25, seed=7).means)
    assert not torch.equal(big.means, split(gmm, 12, occ, power=0.25, seed=8).means)
    assert split(big, 4, occ).num_gauss == 12  # never fewer


def test_split_halves_the_heaviest():
    weights = torch.tensor([0.1, 0.7, 0.2, 1.0])
    gmm = Gmm(torch.tensor([0, 3, 4]), weights, torch.randn(4, 2), torch.rand(4, 2) + 1)
    stats = accumulate(gmm, torch.randn(500, 2), torch.arange(500) % 10 // 9)
    occ = pdf_occ(gmm, stats)
    assert occ.tolist() == pytest.approx([450, 50])
    new = split(gmm, 6, occ, power=1.0)
    torch.testing.assert_close(new.weights, torch.tensor([0.1, 0.175, 0.2, 0.35, 0.175, 1.0]))
    assert torch.equal(new.means[[0, 2, 5]], gmm.means[[0, 2, 3]])
    assert torch.equal(new.variances, gmm.variances[[0, 1, 2, 1, 1, 3]])


def test_split_targets_stop_at_min_count():
    assert split_targets(np.array([100.0, 45.0]), 50, 0.2, 20).tolist() == [4, 2]
    shares = split_targets(np.array([1e4, 1e5, 1e6]), 300, 1.0, 20)
    assert shares.sum() == 300 and shares[2] / shares[1] == pytest.approx(10, rel=0.1)


def test_save_load_and_damage(tmp_path):
    gmm, path = random_gmm(), tmp_path / "final.npz"
    gmm.save(path)
    again = Gmm.load(path)
    for name in ("offsets", "weights", "means", "variances"):
        assert torch.equal(getattr(again, name), getattr(gmm, name))
    path.write_bytes(path.read_bytes()[:200])
    for broken in (path, tmp_path / "none.npz"):
        with pytest.raises(DataError, match="model file"):
            Gmm.load(broken)


def test_misuse_is_told():
    gmm = random_gmm()
    with pytest.raises(DataError, match="fit together"):
        Gmm(torch.tensor([0, 2, 2]), torch.ones(2), torch.ones(2, 3), torch.ones(2, 3))
    for pdfs in (torch.full((5,), 6), torch.full((5,), -1), torch.zeros(4)):
        with pytest.raises(DataError, match="fit together"):
            accumulate(gmm, torch.randn(5, 4), pdfs)
    for name in ("weights", "means", "variances"):
        bad = {"weights": gmm.weights, "means": gmm.means, "variances": gmm.variances}
        bad[name] = bad[name].clone()
        bad[name].view(-1)[3] = torch.nan
        with pytest.raises(DataError, match="not finite"):
            Gmm(gmm.offsets, **bad)
    with pytest.raises(DataError, match="pdfs, but counts"):
        split(gmm, 20, torch.ones(3))
    with pytest.raises(DataError, match="accumulate with the model"):
        update(gmm, GmmStats.zeros(3, 4))
