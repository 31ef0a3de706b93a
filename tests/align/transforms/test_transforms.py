# SPDX-License-Identifier: Apache-2.0
"""LDA, MLLT and fMLLR against loops, scipy and known distortions."""

import numpy as np
import pytest
import scipy.linalg
import torch

from espnet_ext.align.gmm.model import Gmm
from espnet_ext.align.gmm.stats import accumulate
from espnet_ext.align.gmm.train import update
from espnet_ext.align.transforms import stats as adapt
from espnet_ext.align.transforms.fmllr import FmllrStats, estimate_fmllr, fmllr_objective
from espnet_ext.align.transforms.lda import LdaStats, estimate_lda
from espnet_ext.align.transforms.mllt import MlltStats, estimate_mllt, mllt_objective, transform_gmm
from espnet_ext.align.transforms.stats import apply_affine, replace_row
from espnet_ext.errors import DataError, UsageError

DIM = 3


def model(num_pdfs=8, seed=0, offset=0.0) -> Gmm:
    """Pdfs of one, two and three Gaussians in turn."""
    torch.manual_seed(seed)
    sizes = torch.arange(num_pdfs) % 3 + 1
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sizes.cumsum(0)])
    gauss = int(offsets[-1])
    weights = 1 / sizes.repeat_interleave(sizes)
    means = offset + 3 * torch.randn(gauss, DIM)
    return Gmm(offsets, weights, means, 0.2 + torch.rand(gauss, DIM))


def draw(gmm: Gmm, frames: int, seed=1) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    gauss = torch.randint(gmm.num_gauss, (frames,))
    x = gmm.means[gauss] + gmm.variances[gauss].sqrt() * torch.randn(frames, DIM)
    return x, torch.bucketize(gauss, gmm.offsets[1:], right=True)


def naive(gmm: Gmm, x: torch.Tensor, pdfs: torch.Tensor):
    """Yield ``(frame, posterior, mean, variance)`` of each frame and Gaussian, float64."""
    for frame, pdf in zip(x.double(), pdfs.tolist(), strict=True):
        own = slice(int(gmm.offsets[pdf]), int(gmm.offsets[pdf + 1]))
        mean, var = gmm.means[own].double(), gmm.variances[own].double()
        score = gmm.weights[own].double().log() - (
            (frame - mean) ** 2 / var + var.log()
        ).sum(1) / 2  # fmt: skip
        for item in zip(score.softmax(0), mean, var, strict=True):
            yield frame.numpy(), *(t.numpy() for t in item)


def loglik(gmm: Gmm, x: torch.Tensor, pdfs: torch.Tensor, matrix: torch.Tensor) -> float:
    """Per frame of the unadapted space, the Jacobian included."""
    stats = accumulate(gmm, apply_affine(x, matrix), pdfs)
    return stats.loglik / stats.frames + float(torch.linalg.slogdet(matrix[:, :DIM])[1])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(adapt, "BLOCK_FRAMES", 64)


def test_lda_equals_the_generalised_eigenvectors(tmp_path):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 5, 4000)
    mix = rng.normal(size=(6, 6))
    centres = np.zeros((5, 6))
    centres[:, :2] = 4 * rng.normal(size=(5, 2))  # only two dimensions tell the classes apart
    x = (centres[classes] + rng.normal(size=(4000, 6))) @ mix.T + 7
    stats = LdaStats.zeros(6, 6)  # the last class without frames
    stats.accumulate(torch.from_numpy(x[:1000]), torch.from_numpy(classes[:1000]))
    rest = LdaStats.zeros(6, 6)
    rest.accumulate(torch.from_numpy(x[1000:]), torch.from_numpy(classes[1000:]))
    rest.save(tmp_path / "lda.npz")
    stats += LdaStats.load(tmp_path / "lda.npz")
    matrix = estimate_lda(stats, 2).numpy()

    means = np.stack([x[classes == k].mean(0) for k in range(5)])[classes]
    within = (x - means).T @ (x - means) / 4000
    between = (means - x.mean(0)).T @ (means - x.mean(0)) / 4000
    _, vectors = scipy.linalg.eigh(between, within)
    expected = vectors[:, ::-1][:, :2].T
    signs = np.sign((matrix * expected).sum(1, keepdims=True))
    np.testing.assert_allclose(matrix, signs * expected, rtol=1e-6, atol=1e-8)
    largest = np.abs(matrix).argmax(1)
    assert (matrix[[0, 1], largest] > 0).all()
    removed = estimate_lda(stats, 2, remove_mean=True)
    np.testing.assert_allclose(apply_affine(torch.from_numpy(x), removed).mean(0), 0, atol=1e-9)


def test_lda_misuse_is_told():
    x = torch.randn(100, 3)
    stats = LdaStats.zeros(2, 4)
    with pytest.raises(DataError, match="labels"):
        stats.accumulate(x, torch.zeros(99))
    stats.accumulate(torch.cat([x, x[:, :1]], 1), torch.arange(100) % 2)
    with pytest.raises(UsageError, match="cannot keep 5"):
        estimate_lda(stats, 5)
    with pytest.raises(DataError, match="singular"):
        estimate_lda(stats, 2)


def test_mllt_statistics_equal_a_loop(tmp_path):
    gmm = model(offset=10.0)
    x, pdfs = draw(gmm, 200)
    half = MlltStats.zeros(DIM)
    half.accumulate(x[:90], pdfs[:90], gmm)
    half.save(tmp_path / "mllt.npz")
    stats = MlltStats.zeros(DIM)
    stats.accumulate(x[90:], pdfs[90:], gmm)
    stats += MlltStats.load(tmp_path / "mllt.npz")
    expected = np.zeros((DIM, DIM, DIM))
    for frame, post, mean, var in naive(gmm, x, pdfs):
        diff = frame - mean
        expected += (post / var)[:, None, None] * np.outer(diff, diff)
    np.testing.assert_allclose(stats.scatter, expected, rtol=1e-4, atol=1e-2)
    assert stats.count == 200


def test_mllt_undoes_a_rotation():
    torch.manual_seed(0)
    rotation = torch.linalg.qr(torch.randn(DIM, DIM))[0] @ torch.diag(torch.tensor([3.0, 1, 0.4]))
    # Per class another diagonal covariance, else any whitening transform would be as good.
    std = 0.2 + 2 * torch.rand(6, DIM)
    pdfs = torch.arange(12000) % 6
    means = 5 * torch.randn(6, DIM)
    x = (means[pdfs] + std[pdfs] * torch.randn(12000, DIM)) @ rotation.T

    def fit(frames: torch.Tensor) -> tuple[Gmm, float]:
        gmm = Gmm.single(frames.mean(0), frames.var(0), 6)
        gmm = update(gmm, accumulate(gmm, frames, pdfs))
        return gmm, accumulate(gmm, frames, pdfs).loglik / len(frames)

    gmm, before = fit(x)
    total = torch.eye(DIM, dtype=torch.float64)
    for _ in range(12):
        frames = apply_affine(x, total)
        stats = MlltStats.zeros(DIM)
        stats.accumulate(frames, pdfs, gmm)
        matrix, gain = estimate_mllt(stats)
        identity = mllt_objective(stats, np.eye(DIM))
        assert gain >= 0 and gain == pytest.approx(mllt_objective(stats, matrix) - identity)
        total = matrix @ total
        moved = transform_gmm(gmm, matrix)
        gmm, loglik_ = fit(apply_affine(x, total))
        torch.testing.assert_close(moved.means, gmm.means, rtol=1e-3, atol=1e-3)
        assert float((gmm.variances / moved.variances).mean()) == pytest.approx(1, abs=0.1)
    assert loglik_ + float(torch.linalg.slogdet(total)[1]) > before + 0.2
    mixing = (total @ rotation.double()).abs()  # one source for each row, up to order and scale
    rest = mixing / mixing.amax(1, keepdim=True)
    assert sorted(rest.argmax(1).tolist()) == [0, 1, 2]
    assert float(rest.topk(2, 1).values[:, 1].max()) < 0.05


def test_mllt_of_too_few_frames_is_told():
    gmm, stats = model(), MlltStats.zeros(DIM)
    with pytest.raises(DataError, match="too few frames"):
        estimate_mllt(stats)
    stats.accumulate(torch.randn(DIM - 1, DIM), torch.zeros(DIM - 1), gmm)  # of one Gaussian
    with pytest.raises(DataError, match="too few frames"):
        estimate_mllt(stats)


def test_fmllr_statistics_equal_a_loop(tmp_path):
    gmm = model(offset=10.0)
    x, pdfs = draw(gmm, 200)
    half = FmllrStats.zeros(DIM)
    half.accumulate(x[:90], pdfs[:90], gmm)
    half.save(tmp_path / "fmllr.npz")
    stats = FmllrStats.zeros(DIM)
    stats.accumulate(x[90:], pdfs[90:], gmm)
    stats += FmllrStats.load(tmp_path / "fmllr.npz")
    quadratic, linear = np.zeros((DIM, DIM + 1, DIM + 1)), np.zeros((DIM, DIM + 1))
    for frame, post, mean, var in naive(gmm, x, pdfs):
        extended = np.append(frame, 1)
        quadratic += (post / var)[:, None, None] * np.outer(extended, extended)
        linear += (post * mean / var)[:, None] * extended
    np.testing.assert_allclose(stats.quadratic, quadratic, rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(stats.linear, linear, rtol=1e-5, atol=1e-2)
    # With a transform the posteriors are those of the transformed frames.
    matrix = torch.cat([0.9 * torch.eye(DIM), torch.full((DIM, 1), 0.5)], 1)
    seen, plain = FmllrStats.zeros(DIM), FmllrStats.zeros(DIM)
    seen.accumulate(x, pdfs, gmm, matrix)
    plain.accumulate(apply_affine(x, matrix), pdfs, gmm)
    np.testing.assert_allclose(seen.linear[:, -1], plain.linear[:, -1], rtol=1e-5)
    np.testing.assert_allclose(
        matrix.numpy() @ seen.linear[0], np.append(plain.linear[0], 0)[:DIM], rtol=1e-4, atol=1e-2
    )


def test_fmllr_recovers_a_known_distortion():
    gmm = model(num_pdfs=20)
    clean, pdfs = draw(gmm, 8000)
    truth = torch.cat([torch.eye(DIM) + 0.2 * torch.randn(DIM, DIM), torch.randn(DIM, 1)], 1)
    x = torch.linalg.solve(truth[:, :DIM], (clean - truth[:, DIM]).T).T
    matrix, values = None, []
    identity = torch.eye(DIM, DIM + 1)
    values = [loglik(gmm, x, pdfs, identity)]
    for _ in range(8):
        stats = FmllrStats.zeros(DIM)
        stats.accumulate(x, pdfs, gmm, matrix)
        steps = [estimate_fmllr(stats, iters=n, tolerance=0) for n in (1, 2, 4)]
        objectives = [fmllr_objective(stats, m) for m in (identity, *steps)]
        assert min(np.diff(objectives)) >= 0
        matrix = estimate_fmllr(stats)
        values.append(loglik(gmm, x, pdfs, matrix))
    assert min(np.diff(values)) > -1e-4 and values[-1] > values[0] + 0.5
    assert values[-1] == pytest.approx(loglik(gmm, x, pdfs, truth), abs=2e-3)
    torch.testing.assert_close(matrix.float(), truth, rtol=0, atol=0.03)


def test_fmllr_optimum_has_no_gradient():
    gmm = model()
    x, pdfs = draw(gmm, 2000)
    stats = FmllrStats.zeros(DIM)
    stats.accumulate(1.3 * x + 1, pdfs, gmm)
    best = estimate_fmllr(stats, iters=200, tolerance=0).numpy()
    for step in 1e-3 * np.eye(DIM * (DIM + 1)).reshape(-1, DIM, DIM + 1):
        assert fmllr_objective(stats, best) > fmllr_objective(stats, best + step)
        assert fmllr_objective(stats, best) > fmllr_objective(stats, best - step)


def test_fmllr_of_few_or_degenerate_frames_is_the_identity():
    gmm = model()
    x, pdfs = draw(gmm, 499)
    stats = FmllrStats.zeros(DIM)
    assert torch.equal(estimate_fmllr(stats, min_count=0), torch.eye(DIM, DIM + 1).double())
    stats.accumulate(x + 5, pdfs, gmm)
    assert torch.equal(estimate_fmllr(stats), torch.eye(DIM, DIM + 1).double())
    assert not torch.equal(estimate_fmllr(stats, min_count=499), torch.eye(DIM, DIM + 1).double())
    constant = FmllrStats.zeros(DIM)
    constant.accumulate(torch.zeros(600, DIM), torch.zeros(600), gmm)
    assert torch.equal(estimate_fmllr(constant), torch.eye(DIM, DIM + 1).double())


def test_apply_affine_and_replace_row():
    x, matrix = torch.randn(5, 3), torch.randn(2, 4, dtype=torch.float64)
    expected = x.double() @ matrix[:, :3].T + matrix[:, 3]
    out = apply_affine(x, matrix)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(apply_affine(x.double(), matrix[:, :3]), expected - matrix[:, 3])
    square = np.random.default_rng(0).normal(size=(4, 4))
    inverse = np.linalg.inv(square)
    replace_row(square, inverse, 2, np.arange(4.0))
    np.testing.assert_allclose(inverse @ square, np.eye(4), atol=1e-9)
