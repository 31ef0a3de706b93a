# SPDX-License-Identifier: Apache-2.0
"""A training whose numbers are no longer finite stops, names the batch, and keeps what was good."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch

from espnet_ext.espnet import checkpoint, finite, train
from espnet_ext.espnet.finite import FiniteGuard, NotFiniteError


def spoil(tiny_data, folder, part, utt):
    """Copy the data; ten samples of one file of the copy are NaN."""
    shutil.copytree(tiny_data, folder)
    for scp in folder.glob("*/wav.scp"):
        scp.write_text(scp.read_text().replace(str(tiny_data), str(folder)))
    path = folder / part / f"{utt}.wav"
    speech, rate = soundfile.read(path)
    speech[100:110] = np.nan
    soundfile.write(path, speech, rate, subtype="FLOAT")


def argv_of(tiny_argv, tiny_data, folder, out, *more):
    moved = [x.replace(str(tiny_data), str(folder)) for x in tiny_argv]
    return [*moved, "--output_dir", str(out), *more]


def test_nan_in_training_audio_stops_with_the_utterance(tiny_argv, tiny_data, tmp_path):
    out = tmp_path / "exp"
    train.run("asr", argv_of(tiny_argv, tiny_data, tiny_data, out, "--max_epoch", "1"))
    good = (out / checkpoint.CHECKPOINT).read_bytes()
    spoil(tiny_data, tmp_path / "data", "train", "train05")
    with pytest.raises(NotFiniteError, match=r"epoch 2, training batch \d") as e:
        train.run("asr", argv_of(tiny_argv, tiny_data, tmp_path / "data", out))
    assert "train05" in str(e.value) and "checkpoint of epoch 1 is kept" in str(e.value)
    assert e.value.exit_code == 1
    assert (out / checkpoint.CHECKPOINT).read_bytes() == good
    assert not (out / "2epoch.pth").exists()


def test_nan_in_validation_audio_stops_with_the_utterance(tiny_argv, tiny_data, tmp_path):
    spoil(tiny_data, tmp_path / "data", "valid", "valid02")
    with pytest.raises(NotFiniteError, match="validation batch") as e:
        train.run("asr", argv_of(tiny_argv, tiny_data, tmp_path / "data", tmp_path / "exp"))
    assert "valid02" in str(e.value) and not list((tmp_path / "exp").glob("*.pth"))


def test_a_diverged_training_publishes_nothing(tiny_argv, tiny_data, tmp_path):
    more = ["--optim_conf", "lr=1.0e+8", "--grad_clip", "inf"]
    with pytest.raises(NotFiniteError, match=r"optim_conf\.lr|learning rate"):
        train.run("asr", argv_of(tiny_argv, tiny_data, tiny_data, tmp_path / "exp", *more))
    assert not list((tmp_path / "exp").glob("*ave*"))
    assert not (tmp_path / "exp/phase.json").exists()


def test_a_start_from_broken_weights_is_refused(tiny_argv, tiny_data, tmp_path):
    first = argv_of(tiny_argv, tiny_data, tiny_data, tmp_path / "a", "--max_epoch", "1")
    train.run("asr", first)
    states = checkpoint.load(tmp_path / "a/1epoch.pth")
    states["ctc.ctc_lo.bias"][0] = float("inf")
    torch.save(states, tmp_path / "broken.pth")
    more = ["--init_param", str(tmp_path / "broken.pth")]
    with pytest.raises(NotFiniteError, match=r"ctc\.ctc_lo\.bias(.|\n)*before the first update"):
        train.run("asr", argv_of(tiny_argv, tiny_data, tiny_data, tmp_path / "b", *more))


class Toy(torch.nn.Module):
    """``loss`` is the batch's mean; its statistics see the batch first."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(1)

    def forward(self, x, hidden=None, **kwargs):
        self.norm(x if hidden is None else hidden)
        return x.mean(), {}, None


BATCHES = [(["a", "b"], {"x": torch.ones(2, 1)}), (["c", "d"], {"x": torch.ones(2, 1)})]


def run_toy(batches, every=1):
    model = Toy()
    with FiniteGuard(model, batches, "batch") as guard:
        for _, batch in guard:
            model(**batch)
    return guard


def test_fine_batches_pass():
    assert run_toy(BATCHES).forwards == len(BATCHES) == len(FiniteGuard(Toy(), BATCHES, "batch"))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_first_bad_batch_is_named_even_the_last_one(bad):
    worse = [*BATCHES, (["e", "f"], {"x": torch.tensor([[1.0], [bad]])})]
    with pytest.raises(NotFiniteError, match=r"the loss is(.|\n)*batch 3(.|\n)*e, f"):
        run_toy(worse)
    with pytest.raises(NotFiniteError, match="batch 3"):
        run_toy([*worse, *BATCHES])


def test_statistics_are_watched_though_the_loss_is_finite():
    nan = torch.tensor([[1.0], [float("nan")]])
    with pytest.raises(NotFiniteError, match=r"batch normalisation(.|\n)*a, b, u1"):
        run_toy([(["a", "b"], {"x": torch.ones(2, 1), "hidden": nan, "u_utt_id": ["u1"]})])


def test_flags_wait_on_the_device_until_there_are_enough(monkeypatch):
    """As on a GPU, where each look would make the host wait."""
    looks = []
    model, check = Toy(), FiniteGuard.check
    monkeypatch.setattr(finite.FiniteGuard, "check", lambda g: (looks.append(1), check(g)))
    monkeypatch.setattr(finite, "_on_gpu", lambda flag: True)
    monkeypatch.setattr(finite, "EVERY", 4)
    batches = [*BATCHES, (["e"], {"x": torch.full((2, 1), torch.inf)}), *BATCHES, *BATCHES]
    with (
        pytest.raises(NotFiniteError, match=r"batch 3(.|\n)*e\n"),
        FiniteGuard(model, batches, "batch") as guard,
    ):
        for _, batch in guard:
            model(**batch)
    assert guard.forwards == 4 and len(looks) == 1


def test_all_tensors_are_looked_at_but_those_allowed():
    model = Toy()
    model.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    assert finite.not_finite(model) == ["mask"]
    finite.check_weights(model, "now", "do", ["mask"])
    assert finite.infinite_by_design(model) == ["mask"]
    model.norm.running_var[0] = torch.nan
    assert finite.infinite_by_design(model) == ["mask"]
    with pytest.raises(NotFiniteError, match=r"norm\.running_var(.|\n)*now"):
        finite.check_weights(model, "now", "do", ["mask"])


def test_an_average_that_is_not_finite_is_deleted(tmp_path):
    for name, value in (("valid.acc.ave_2best.pth", 1.0), ("valid.loss.ave_2best.pth", torch.inf)):
        torch.save({"w": torch.tensor(value), "n": torch.tensor(3)}, tmp_path / name)
    with pytest.raises(NotFiniteError, match=r"valid\.loss\.ave_2best"):
        finite.check_averages(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["valid.acc.ave_2best.pth"]


def test_divergence_is_a_loss_a_thousand_times_the_first():
    finite.check_diverged(900.0, 0.1, 2)
    finite.check_diverged(9000.0, 20.0, 2)
    for loss, first in ((2000.0, 0.1), (30000.0, 20.0), (float("inf"), 1.0)):
        with pytest.raises(NotFiniteError, match="diverged"):
            finite.check_diverged(loss, first, 2)


def test_skipped_updates_are_not_counted(tiny_argv, tiny_data, tmp_path, monkeypatch):
    """ESPnet skips an update whose gradient is not finite; it is no update of the record."""
    from espnet2.train import trainer as stock

    norms = iter([float("inf"), 1.0] * 100)
    plain = torch.nn.utils.clip_grad_norm_

    def clip(*args, **kwargs):
        plain(*args, **kwargs)
        return torch.tensor(next(norms))

    monkeypatch.setattr(stock.torch.nn.utils, "clip_grad_norm_", clip)
    out = tmp_path / "exp"
    train.run("asr", argv_of(tiny_argv, tiny_data, tiny_data, out, "--max_epoch", "2"))
    record = json.loads((out / "phase.json").read_text())
    assert record["skipped"] == -(-record["batches"] // 2) > 0
    assert record["updates"] == record["batches"] - record["skipped"] > 0


def test_an_epoch_without_any_update_ends_the_training(tiny_argv, tiny_data, tmp_path, monkeypatch):
    plain = torch.nn.utils.clip_grad_norm_
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda *a, **k: plain(*a, **k) * torch.nan
    )
    with pytest.raises(NotFiniteError, match="no gradient was finite"):
        train.run("asr", argv_of(tiny_argv, tiny_data, tiny_data, tmp_path / "exp"))
