# SPDX-License-Identifier: Apache-2.0
"""The BLSTM: learning, priors, the split, files; two rounds of the pass."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from espnet_ext.align.hybrid import train as hybrid
from espnet_ext.align.hybrid.network import Blstm
from espnet_ext.align.hybrid.train import PRIOR_COUNT, is_held_out, train
from espnet_ext.align.options import Hybrid, from_dict, pick_device
from espnet_ext.align.run import apply_aligner, save_model, train_aligner, write_pass
from espnet_ext.errors import DataError, SetupError

K, MEL = 5, 6
TINY = Hybrid(layers=1, units=12, epochs=8, lr=0.03, num_mel=MEL, held_out=0.2, device="cpu")


@pytest.fixture(scope="module")
def task():
    """Utterances whose frames tell their class: lengths, features, labels."""
    rng = np.random.default_rng(0)
    ys = {f"u{i:02d}": np.repeat(rng.integers(0, K, 6), rng.integers(2, 9, 6)) for i in range(20)}
    centres = rng.standard_normal((K, MEL)) * 2
    xs = {u: centres[y] + 0.3 * rng.standard_normal((len(y), MEL)) for u, y in ys.items()}
    return (
        {u: len(y) for u, y in ys.items()},
        {u: torch.tensor(x, dtype=torch.float32) for u, x in xs.items()},
        {u: torch.from_numpy(y.astype(np.int32)) for u, y in ys.items()},
    )


def fit(task, o=TINY, seed=1, say=lambda line: None):
    lengths, xs, ys = task
    return train(lengths, xs.__getitem__, ys.__getitem__, K, o, seed, say)


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_it_learns_a_small_set_and_keeps_the_best_epoch(task):
    lengths, xs, ys = task
    lines = []
    model, rows = fit(task, say=lines.append)
    right = sum(int((model(xs[u][None])[0].argmax(-1) == ys[u]).sum()) for u in xs)
    assert right / sum(lengths.values()) > 0.95 and rows[-1]["loss"] < rows[0]["loss"] / 2
    held = [u for u in xs if is_held_out(u, TINY.held_out)]
    assert 0 < len(held) < len(xs) and len(lines) == len(rows)
    best = max(r["held_out"] for r in rows)
    again = hybrid._epoch(model, hybrid._examples(lengths, TINY)[1], xs.get, ys.get, TINY, "cpu")
    assert again[1] == best and not model.training


def test_seeds_decide_and_the_global_generator_is_left_alone(task):
    o = replace(TINY, epochs=2, dropout=0.2, layers=2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a, b, c = fit(task, o)[0], fit(task, o)[0], fit(task, o, seed=2)[0]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


def test_priors_count_frames_and_scale_the_scores(task):
    _, xs, ys = task
    model, _ = fit(task, replace(TINY, epochs=1))
    counts = PRIOR_COUNT + np.bincount(np.concatenate(list(ys.values())), minlength=K)
    np.testing.assert_allclose(model.log_prior.exp(), counts / counts.sum(), rtol=1e-5)
    some = [xs["u03"], xs["u01"], xs["u02"]]
    plain, scaled = model.scores(some, 0.0), model.scores(some, 0.7)
    for x, p, s in zip(some, plain, scaled, strict=True):
        torch.testing.assert_close(p, model(x[None])[0], atol=1e-5, rtol=0)  # batch or alone
        torch.testing.assert_close(s, p - 0.7 * model.log_prior)


@pytest.mark.parametrize(("count", "share"), [(1, 0.05), (2, 1e-6), (2, 0.99), (9, 0.99)])
def test_something_is_trained_on_and_something_held_out(count, share):
    lengths = {f"u{i}": 450 for i in range(count)}
    train_set, held = hybrid._examples(lengths, replace(TINY, held_out=share))
    assert train_set and held
    assert count == 1 or not {e.utt for e in train_set} & {e.utt for e in held}
    spans = sorted((e.utt, e.start, e.end) for e in {*train_set, *held})
    assert all(e - s <= TINY.max_frames for _, s, e in spans)
    assert sum(e - s for _, s, e in spans) == 450 * count


def test_small_sets_have_several_updates_an_epoch(task):
    examples, _ = hybrid._examples(task[0], TINY)
    steps = []
    model = Blstm(MEL, 1, 4, K)
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    optimiser.register_step_post_hook(lambda *a: steps.append(1))
    rng = np.random.default_rng(0)
    hybrid._epoch(model, examples, task[1].get, task[2].get, TINY, "cpu", optimiser, rng)
    assert len(steps) >= hybrid.MIN_BATCHES > sum(task[0].values()) / TINY.batch_frames


def test_files(task, tmp_path):
    model, _ = fit(task, replace(TINY, epochs=1))
    path = tmp_path / "blstm.npz"
    model.save(path)
    loaded = Blstm.load(path)
    assert torch.equal(weights(loaded), weights(model))
    assert torch.equal(loaded.log_prior, model.log_prior) and not loaded.training
    whole = path.read_bytes()
    for content in (whole[:-300], whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"blstm\.npz"):
            Blstm.load(path)
    with pytest.raises(DataError):
        Blstm.load(tmp_path / "none.npz")
    model.output.bias.data[1] = torch.nan
    model.save(path)
    with pytest.raises(DataError, match="not finite"):
        Blstm.load(path)


def test_a_loss_that_is_not_finite_names_the_utterances_of_its_batch(task):
    lengths, xs, ys = task
    bad = {**xs, "u07": xs["u07"].clone()}
    bad["u07"][2, 1] = torch.nan
    with pytest.raises(DataError, match=r"the loss of the hybrid is nan") as e:
        fit((lengths, bad, ys), replace(TINY, batch_frames=1))
    assert str(e.value.where) == "u07" and "align.hybrid.lr" in str(e.value)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(SetupError, match="no GPU"):
        pick_device("cuda")


def test_two_rounds_and_a_warning_of_a_useless_model(trained, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(trained.root / "work", work)
    small = {**trained.given["hybrid"], "rounds": 2, "epochs": 1, "units": 4, "lr": 1e-5}
    o, lines = from_dict({**trained.given, "hybrid": small}), []
    session = train_aligner(trained.data, work, o, map, lines.append)
    assert session.reused == ["mono", "tri", "lda_mllt", "sat"]
    assert [r["iteration"] for r in session.reports[-1]["iterations"]] == [1, 2]
    assert any(line.strip().startswith("warning") and "Use the pass sat" in line for line in lines)
    model = save_model(session, tmp_path / "m", "hybrid", trained.data)
    a = write_pass(session, "hybrid", tmp_path / "a", trained.data)
    b, _ = apply_aligner(
        model, trained.data, tmp_path / "b", tmp_path / "w", map, lambda line: None
    )
    assert all(np.array_equal(a.labels(u), b.labels(u)) for u in a.utts)
