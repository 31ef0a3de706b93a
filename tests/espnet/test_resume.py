# SPDX-License-Identifier: Apache-2.0
"""A training killed by -9 anywhere and started again ends in the same bits."""

import json
import os
import signal
from types import SimpleNamespace

import pytest
import torch
from children import in_child
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.espnet import checkpoint, train, trainer
from espnet_ext.espnet.checkpoint import CHECKPOINT, PREVIOUS
from espnet_ext.espnet.nbest import Kept


def _weights(folder, name="valid.acc.ave.pth"):
    return checkpoint.load(folder / name)


def _same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def _train(argv, out, *more):
    train.run("asr", [*argv, "--output_dir", str(out), *more])


def _killed_after_batches(argv, out, count):
    class Killer(trainer.WaitTimer):
        left = count

        def __iter__(self):
            for item in super().__iter__():
                Killer.left -= 1
                if Killer.left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield item

    trainer.WaitTimer = Killer
    _train(argv, out)


def _killed_at_save(argv, out, name, moment, nth):
    """Die before, in the middle of, or right after the ``nth`` time that ``name`` is written."""
    write = checkpoint._plain_save
    seen = []

    def save(obj, path, *args, **kwargs):
        if name in os.path.basename(os.fspath(path)):
            seen.append(path)
            if len(seen) == nth:
                if moment == "middle":
                    with open(path, "wb") as f:
                        f.write(b"half")
                if moment == "after":
                    write(obj, path, *args, **kwargs)
                os.kill(os.getpid(), signal.SIGKILL)
        write(obj, path, *args, **kwargs)

    checkpoint._plain_save = save
    _train(argv, out)


@pytest.fixture(scope="module")
def reference(tiny_argv, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "exp"
    assert in_child(_train, tiny_argv, out) == 0
    return out


def test_seeds_matter(reference, tiny_argv, tmp_path):
    """Otherwise the comparisons below would prove nothing."""
    assert in_child(_train, tiny_argv, tmp_path / "exp", "--seed", "4") == 0
    assert not _same(_weights(reference), _weights(tmp_path / "exp"))


@pytest.mark.parametrize("batches", [0, 2, 7, 11])
def test_killed_in_an_epoch(reference, tiny_argv, tmp_path, batches):
    out = tmp_path / "exp"
    assert in_child(_killed_after_batches, tiny_argv, out, batches) == -signal.SIGKILL
    assert not (out / "valid.acc.ave.pth").exists()
    assert in_child(_train, tiny_argv, out) == 0
    for name in ("valid.acc.ave.pth", "3epoch.pth"):
        assert _same(_weights(reference, name), _weights(out, name))


@pytest.mark.parametrize("name", ["checkpoint.pth", "2epoch.pth"])
@pytest.mark.parametrize("moment", ["before", "middle", "after"])
def test_killed_while_saving(reference, tiny_argv, tmp_path, name, moment):
    out = tmp_path / "exp"
    nth = 2 if name == "checkpoint.pth" else 1  # in the second epoch
    killed = in_child(_killed_at_save, tiny_argv, out, name, moment, nth)
    assert killed == -signal.SIGKILL
    assert in_child(_train, tiny_argv, out) == 0
    assert _same(_weights(reference), _weights(out))
    assert (out / "latest.pth").resolve().name == "3epoch.pth"
    best = [(folder / "valid.acc.best.pth").resolve().name for folder in (out, reference)]
    assert best[0] == best[1]
    _same_costs(out, reference)


@pytest.mark.parametrize("before", ["1epoch.pth", None])
def test_killed_before_the_link_to_the_best_epoch(tmp_path, before):
    """ESPnet sets it in that epoch only, after the checkpoint that says the epoch is done."""
    for name in ("1epoch.pth", "2epoch.pth"):
        (tmp_path / name).touch()
    if before:
        (tmp_path / "valid.acc.best.pth").symlink_to(before)
    has = lambda part, key: key == "acc"  # noqa: E731
    reporter = SimpleNamespace(has=has, get_best_epoch=lambda part, key, mode: 2)
    criteria = [("valid", "acc", "max"), ("valid", "wer", "min")]
    checkpoint.repair_best_links(tmp_path, reporter, criteria)
    assert (tmp_path / "valid.acc.best.pth").resolve().name == "2epoch.pth"
    assert not (tmp_path / "valid.wer.best.pth").exists()


def test_more_epochs_later_equal_more_epochs_at_once(reference, tiny_argv, tmp_path):
    out = tmp_path / "exp"
    assert in_child(_train, tiny_argv, out, "--max_epoch", "1") == 0
    assert in_child(_train, tiny_argv, out) == 0
    assert _same(_weights(reference), _weights(out))


def test_an_early_stop_is_not_undone_by_a_restart(tiny_argv, tmp_path):
    out = tmp_path / "exp"
    stop = ["--max_epoch", "9", "--patience", "0", "--optim_conf", "lr=0.0"]
    assert in_child(_train, tiny_argv, out, *stop) == 0
    last = (out / "latest.pth").resolve().name
    assert last != "9epoch.pth"
    assert in_child(_train, tiny_argv, out, *stop) == 0
    assert (out / "latest.pth").resolve().name == last


def test_unreadable_checkpoint_falls_back_with_one_warning(reference, tmp_path, caplog):
    good = (reference / PREVIOUS).read_bytes()
    (tmp_path / PREVIOUS).write_bytes(good)
    (tmp_path / CHECKPOINT).write_bytes(good[: len(good) // 2])
    path, states = checkpoint.usable(tmp_path / CHECKPOINT)
    assert path.name == PREVIOUS and "optimizers" in states
    assert len(caplog.records) == 1 and PREVIOUS in caplog.text
    checkpoint.atomic_save({"x": 1}, tmp_path / CHECKPOINT)  # keeps the good one, not the broken
    assert (tmp_path / PREVIOUS).read_bytes() == good
    assert (tmp_path / checkpoint.BROKEN).exists()


def test_missing_checkpoint_is_restored(reference, tmp_path):
    (tmp_path / PREVIOUS).write_bytes((reference / PREVIOUS).read_bytes())
    checkpoint.restore_missing(tmp_path)
    assert checkpoint.load(tmp_path / CHECKPOINT)["reporter"]


def test_the_previous_checkpoint_is_that_of_the_epoch_before(reference):
    epochs = [checkpoint.load(reference / n)["reporter"]["epoch"] for n in (CHECKPOINT, PREVIOUS)]
    assert epochs == [3, 2]


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_atomic_save_leaves_one_whole_file(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("save")
    for value in values:
        checkpoint.atomic_save({"x": torch.tensor(value)}, folder / CHECKPOINT)
    assert checkpoint.load(folder / CHECKPOINT)["x"] == values[-1]
    expected = {CHECKPOINT} | ({PREVIOUS} if len(values) > 1 else set())
    assert {p.name for p in folder.iterdir()} == expected


def test_torch_save_is_put_back_even_after_an_error():
    plain = torch.save
    with pytest.raises(ZeroDivisionError), checkpoint.atomic_saves():
        assert torch.save is checkpoint.atomic_save
        raise ZeroDivisionError
    assert torch.save is plain


def test_pickles_are_refused(tmp_path):
    import pathlib

    torch.save({"x": pathlib.PurePosixPath("evil")}, tmp_path / "x.pth")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        checkpoint.load(tmp_path / "x.pth")


def _same_costs(out, reference):
    ours, whole = (json.loads((p / "phase.json").read_text()) for p in (out, reference))
    for key in ("epochs", "batches", "updates", "params", "params_trained"):
        assert ours[key] == whole[key] > 0
    (device,) = whole["devices"]
    assert ours["devices"] == [device] and device.startswith("CPU ")


def test_costs_are_those_of_all_runs(tiny_argv, tmp_path, reference):
    out = tmp_path / "exp"
    in_child(_killed_after_batches, tiny_argv, out, 7)
    in_child(_train, tiny_argv, out)
    _same_costs(out, reference)


def test_early_stopping_counts_from_its_own_best_epoch(tmp_path):
    """A model that is gone is none to average, and still the best by loss."""
    for epoch in (9, 10):
        (tmp_path / f"{epoch}epoch.pth").touch()
    order = {"loss": [(3, 1.0), (10, 2.0), (9, 3.0)], "acc": [(10, 0.9), (9, 0.8), (3, 0.1)]}
    reporter = SimpleNamespace(
        has=lambda part, key: True, sort_epochs_and_values=lambda part, key, mode: order[key]
    )
    kept = Kept(tmp_path, [5], [["valid", "acc", "max"]])
    kept.watch(reporter)
    assert [e for e, _ in reporter.sort_epochs_and_values("valid", "acc", "max")] == [10, 9]
    assert reporter.sort_epochs_and_values("valid", "loss", "min")[0] == (3, 1.0)
