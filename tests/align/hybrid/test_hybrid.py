# SPDX-License-Identifier: Apache-2.0
"""Networks on tied states: learning, priors, edges, files; two rounds of the pass."""

import copy
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from espnet_ext import precision
from espnet_ext.align import model as model_files
from espnet_ext.align.formats.header import Header
from espnet_ext.align.hybrid import pieces as pieces_module
from espnet_ext.align.hybrid.files import load_network, make_network
from espnet_ext.align.hybrid.pieces import (
    MIN_BATCHES,
    Epochs,
    Frames,
    Pieces,
    batches,
    held_out,
    read_batches,
    split,
)
from espnet_ext.align.hybrid.train import PRIOR_COUNT, train
from espnet_ext.align.options import Hybrid, from_dict, pick_device
from espnet_ext.align.run import apply_aligner, save_model, train_aligner, write_pass
from espnet_ext.errors import DataError, SetupError

K, MEL = 5, 6
TINY = Hybrid(layers=2, units=12, epochs=8, lr=0.03, num_mel=MEL, held_out=0.2, device="cpu",
              batch_frames=8000, precision="float32")  # fmt: skip
both = pytest.mark.parametrize("network", ["tdnn", "blstm"])


def frames_of(xs, ys):
    """Return arrays by utterance as the training sees them, ends repeated."""

    def read(utt, start, end):
        return xs[utt][np.arange(start, end).clip(0, len(xs[utt]) - 1)]

    counts = np.bincount(np.concatenate(list(ys.values())), minlength=K)
    lengths = {u: len(y) for u, y in ys.items()}
    return Frames(lengths, read, lambda u, a, b: ys[u][a:b], counts)


@pytest.fixture(scope="module")
def task():
    """Utterances whose frames tell their class: features, labels."""
    rng = np.random.default_rng(0)
    ys = {f"u{i:02d}": np.repeat(rng.integers(0, K, 6), rng.integers(2, 9, 6)) for i in range(20)}
    centres = rng.standard_normal((K, MEL)) * 2
    xs = {u: centres[y] + 0.3 * rng.standard_normal((len(y), MEL)) for u, y in ys.items()}
    return (
        {u: x.astype(np.float32) for u, x in xs.items()},
        {u: y.astype(np.int32) for u, y in ys.items()},
    )


def fit(task, o=TINY, seed=1, say=lambda line: None):
    return train(frames_of(*task), o, seed, say)


def whole(model, task, utt):
    """Return an utterance with the frames that the model wants beyond its ends."""
    c, data = model.context, frames_of(*task)
    return torch.from_numpy(data.read(utt, -c, data.lengths[utt] + c))


def weights(model):
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@both
def test_it_learns_a_small_set_and_keeps_the_best_epoch(task, network):
    xs, ys = task
    lines = []
    model, rows = fit(task, replace(TINY, network=network), say=lines.append)

    def share(utts):
        right = sum(int((model([whole(model, task, u)]).argmax(-1).numpy() == ys[u]).sum())
                    for u in utts)  # fmt: skip
        return right / sum(len(ys[u]) for u in utts)

    assert share(xs) > 0.95 and rows[-1]["loss"] < rows[0]["loss"] / 2
    held = held_out({u: len(y) for u, y in ys.items()}, TINY.held_out)
    assert 0 < len(held) < len(xs) and len(lines) == len(rows)
    assert share(held) == max(r["held_out"] for r in rows) and not model.training


@both
def test_it_goes_on_from_a_network_and_keeps_it_where_no_epoch_is_better(task, network):
    o = replace(TINY, network=network)
    begun, _ = fit(task, replace(o, epochs=2))
    kept, prior = copy.deepcopy(begun), begun.log_prior.clone()
    xs, ys = task
    moved = {u: x + 0.5 for u, x in xs.items()}, {u: y for u, y in ys.items() if u < "u10"}
    lines = []
    better, rows = train(frames_of(*moved), o, 1, lines.append, copy.deepcopy(begun))
    before = float(lines[0].rpartition(" ")[2].rstrip("%")) / 100
    assert max(r["held_out"] for r in rows) > before
    assert torch.equal(better.log_prior, prior)  # of more data than these
    same, rows = train(frames_of(*task), replace(o, lr=10.0), 1, str, begun)
    assert torch.equal(weights(same), weights(kept)) and len(rows) == o.patience


def test_seeds_decide_and_the_global_generator_is_left_alone(task):
    o = replace(TINY, epochs=2, dropout=0.2)
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    a, b, c = fit(task, o)[0], fit(task, o)[0], fit(task, o, seed=2)[0]
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(weights(a), weights(b)) and not torch.equal(weights(a), weights(c))


@both
def test_priors_count_frames_and_scale_the_scores(task, network):
    model, _ = fit(task, replace(TINY, epochs=1, network=network))
    counts = PRIOR_COUNT + frames_of(*task).counts
    np.testing.assert_allclose(model.log_prior.exp(), counts / counts.sum(), rtol=1e-5)
    some = [whole(model, task, u) for u in ("u03", "u01", "u02")]
    plain, scaled = model.scores(some, 0.0), model.scores(some, 0.7)
    few = model.scores(some, 0.0, [torch.tensor([3, 1])] * 3)
    for x, p, s, f in zip(some, plain, scaled, few, strict=True):
        alone = model([x]).log_softmax(-1)
        torch.testing.assert_close(p, alone, atol=1e-5, rtol=0)  # batch or alone
        torch.testing.assert_close(s, p - 0.7 * model.log_prior)
        torch.testing.assert_close(f, p[:, [3, 1]])


def test_a_tdnn_sees_in_a_cut_piece_what_it_sees_in_the_utterance(task):
    model = make_network(replace(TINY, layers=0), K).eval()
    assert model.context == 13 and model.shape == (MEL, 4, 12, K)
    data, c, frames = frames_of(*task), 13, frames_of(*task).lengths["u03"]
    cut = [torch.from_numpy(data.read("u03", a - c, b + c)) for a, b in [(0, 9), (9, frames)]]
    parts = torch.cat([model([x]) for x in cut])
    torch.testing.assert_close(model(cut), parts)
    torch.testing.assert_close(model([whole(model, task, "u03")]), parts)


@pytest.mark.parametrize(("count", "share"), [(1, 0.05), (2, 1e-6), (2, 0.99), (9, 0.99)])
def test_something_is_trained_on_and_something_held_out(count, share):
    lengths = {f"u{i}": 450 for i in range(count)}
    parts = split(lengths, replace(TINY, held_out=share))
    spans = [list(p.of(np.arange(len(p.utt)))) for p in parts]
    assert all(spans)
    assert count == 1 or not {u for u, *_ in spans[0]} & {u for u, *_ in spans[1]}
    every = {*spans[0], *spans[1]}
    assert all(e - s <= TINY.max_frames for _, s, e in every)
    assert sum(e - s for _, s, e in every) == 450 * count


def test_of_a_large_corpus_an_hour_is_held_out(monkeypatch):
    monkeypatch.setattr(pieces_module, "HELD_OUT_FRAMES", 1000)
    lengths = {f"u{i}": 400 for i in range(100)}
    held = held_out(lengths, 0.5)
    assert len(held) == 3
    training, _ = split(lengths, replace(TINY, held_out=0.5))
    assert training.frames.sum() == 97 * 400


@both
def test_small_sets_have_several_updates_an_epoch(task, network):
    o = replace(TINY, epochs=1, network=network)
    data = frames_of(*task)
    training, _ = split(data.lengths, o)
    epochs = Epochs(training, o, np.random.default_rng(0), network == "blstm")
    found = list(epochs.next())
    assert len(found) >= MIN_BATCHES > training.frames.sum() / o.batch_frames
    assert sorted(np.concatenate(found)) == list(range(len(training.utt)))


@pytest.mark.parametrize("padded", [False, True])
def test_batches_hold_every_piece_once_and_no_more_than_the_limit(padded):
    rng = np.random.default_rng(4)
    frames = rng.integers(1, 60, 200)
    pieces = Pieces(["u"], np.zeros(200, int), np.zeros(200, int), frames)
    found = list(batches(pieces, np.arange(200), 100, rng, padded))
    assert sorted(np.concatenate(found)) == list(range(200))
    for rows in found:
        own = frames[rows]
        assert len(own) == 1 or (own.max() * len(own) if padded else own.sum()) <= 100
    assert len(found) < 1.6 * sum(frames) / 100


def test_epochs_of_a_large_corpus_go_through_it_in_turn(monkeypatch):
    monkeypatch.setattr(pieces_module, "CHUNK_FRAMES", 400)
    monkeypatch.setattr(pieces_module, "BLOCK_FRAMES", 800)
    training, _ = split({f"u{i:02d}": 200 for i in range(41)}, TINY)
    total, o = int(training.frames.sum()), replace(TINY, epoch_frames=2000)
    epochs = Epochs(training, o, np.random.default_rng(0), False)
    seen = [np.concatenate(list(epochs.next())) for _ in range(5)]
    for rows in seen:
        assert 2000 <= training.frames[rows].sum() < 2400 < total
    once = np.concatenate(seen)[: len(training.utt)]
    assert len(set(once.tolist())) == len(once)  # none again before all were there
    all_of_it = Epochs(training, replace(o, epoch_frames=0), np.random.default_rng(0), False)
    assert sorted(np.concatenate(list(all_of_it.next()))) == list(range(len(training.utt)))


def test_batches_are_read_ahead_and_an_error_arrives(task):
    data, o = frames_of(*task), TINY
    training, _ = split(data.lengths, o)
    rows = [np.array([0, 2]), np.array([1])]
    got = list(read_batches(data, training, rows, 3))
    assert [lengths for _, lengths, _ in got] == [
        [int(n) + 6 for n in training.frames[r]] for r in rows
    ]
    for (x, lengths, y), own in zip(got, rows, strict=True):
        assert len(x) == sum(lengths) and len(y) == training.frames[own].sum()

    def broken(*of):
        raise DataError("damaged", "feats.0.f32")

    with pytest.raises(DataError, match="damaged"):
        list(read_batches(replace(data, read=broken), training, rows, 3))


@both
def test_files(task, tmp_path, network):
    model, _ = fit(task, replace(TINY, epochs=1, network=network))
    path = tmp_path / "hybrid.npz"
    model.save(path)
    loaded = load_network(path)
    assert torch.equal(weights(loaded), weights(model))
    assert str(loaded) == f"{network} 2 x 12, trained in float32"
    assert torch.equal(loaded.log_prior, model.log_prior) and not loaded.training
    content = path.read_bytes()
    for part in (content[:-300], content[: len(content) // 2], b""):
        path.write_bytes(part)
        with pytest.raises(DataError, match=r"hybrid\.npz"):
            load_network(path)
    with pytest.raises(DataError):
        load_network(tmp_path / "none.npz")
    model.output.bias.data[1] = torch.nan
    model.save(path)
    with pytest.raises(DataError, match="not finite"):
        load_network(path)


@both
def test_a_loss_that_is_not_finite_names_the_utterances_of_its_batch(task, network):
    xs, ys = task
    bad = {**xs, "u07": xs["u07"].copy()}
    bad["u07"][2, 1] = np.nan
    with pytest.raises(DataError, match=r"the loss of the hybrid is nan") as e:
        fit((bad, ys), replace(TINY, batch_frames=1, network=network))
    assert str(e.value.where) == "u07" and "align.hybrid.lr" in str(e.value)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == "cpu"
    with pytest.raises(SetupError, match="no GPU"):
        pick_device("cuda")


def test_bfloat16_is_chosen_where_the_processor_has_it_and_is_recorded(task, monkeypatch):
    auto, picked = replace(TINY, precision="auto"), []
    for has in (False, True):
        monkeypatch.setattr(precision, "has_bfloat16", lambda device, has=has: has)
        picked += [precision.resolve(p, "cpu") for p in precision.PRECISIONS]
    assert picked == ["float32", "float32", "bfloat16", "bfloat16", "float32", "bfloat16"]
    assert fit(task, replace(auto, network="blstm", epochs=1))[0].precision == "float32"
    model, rows = fit(task, auto)
    assert str(model).endswith("trained in bfloat16") and rows[-1]["held_out"] > 0.9
    assert weights(model).dtype == torch.float32


def test_two_rounds_and_a_warning_of_a_useless_model(trained, tmp_path):
    work = tmp_path / "work"
    shutil.copytree(trained.root / "work", work)
    small = {
        **trained.given["hybrid"],
        "rounds": 2,
        "epochs": 1,
        "units": 4,
        "lr": 1e-5,
        "network": "blstm",
    }
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
    for x in "ab":
        assert "hybrid (blstm 2 x 4, trained in float32)" in Header.read(tmp_path / x).source
    _make_old(tmp_path / "m")
    old = model_files.load(tmp_path / "m")
    assert old.options.hybrid.network == "blstm"
    c, _ = apply_aligner(old, trained.data, tmp_path / "c", tmp_path / "w", map, lambda line: None)
    assert all(np.array_equal(b.labels(u), c.labels(u)) for u in b.utts)


def _make_old(folder):
    """Change a model's folder to what versions wrote that had the BLSTM only."""
    with np.load(folder / "hybrid.npz") as z:
        arrays = {k: z[k] for k in z.files if k not in ("network", "precision")}
    np.savez(folder / "blstm.npz", **arrays)
    (folder / "hybrid.npz").unlink()
    about = json.loads((folder / "model.json").read_text())
    about["files"] = [f.replace("hybrid.npz", "blstm.npz") for f in about["files"]]
    for key in ("network", "precision", "epoch_frames"):
        del about["options"]["hybrid"][key]
    (folder / "model.json").write_text(json.dumps(about))
