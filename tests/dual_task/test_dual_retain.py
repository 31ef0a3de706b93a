# SPDX-License-Identifier: Apache-2.0
"""The baselines against forgetting on a model: what they start from, add to the loss and keep."""

import multiprocessing

import pytest
import torch
import torch.distributed as dist
from torch import nn

from espnet_ext.dual_task import retention
from espnet_ext.dual_task.ewc import Anchor
from espnet_ext.dual_task.pooling import AttentivePooling
from espnet_ext.dual_task.samu_loss import samu_loss
from espnet_ext.errors import DataError, UsageError


class Model(nn.Module):
    """Frames of 4 samples; dropout tells training from evaluation."""

    def __init__(self, pooling=True):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Dropout(0.5))
        self.pooling = AttentivePooling(6, 3) if pooling else None

    def encode(self, speech, lengths):
        frames = speech.shape[1] // 4
        return self.encoder(speech[:, : 4 * frames].unflatten(1, (frames, 4))), lengths // 4

    def embed(self, hidden, lengths):
        return self.pooling(hidden, lengths)


@pytest.fixture
def batches():
    """Two batches of 3 and 2 utterances of different lengths; noise in the padding."""
    out = []
    for number, lengths in enumerate(([12, 40, 21], [16, 8])):
        data = {
            "speech": torch.randn(len(lengths), max(lengths)),
            "speech_lengths": torch.tensor(lengths),
            "sentence": torch.randn(len(lengths), 3),
        }
        out.append(([f"u{number}{i}" for i in range(len(lengths))], data))
    return out


def told(model, penalty, batch, stats):
    speech, lengths = batch["speech"], batch["speech_lengths"]
    return penalty(model, *model.encode(speech, lengths), speech, lengths, stats)


def test_fisher_is_that_of_each_utterance_alone_without_dropout(batches, tmp_path):
    model = Model().train()
    expected = {n: torch.zeros_like(p) for n, p in model.encoder.named_parameters()}
    model.eval()
    for _, data in batches:
        for i, n in enumerate(data["speech_lengths"].tolist()):
            hidden = model.encode(data["speech"][i : i + 1, :n], torch.tensor([n]))
            loss, _ = samu_loss(model.embed(*hidden), data["sentence"][i : i + 1], 1, "mean")
            found = torch.autograd.grad(loss, list(model.encoder.parameters()))
            for (name, total), g in zip(expected.items(), found, strict=True):
                expected[name] = total + g.square()
    model.train()
    mean = torch.cat([e.flatten() for e in expected.values()]).mean()
    ewc = retention.make("ewc", 2.0, model, tmp_path, lambda: batches)
    assert model.training and not any(p.grad is not None for p in model.parameters())
    assert ewc.anchor.fisher.keys() == {f"encoder.{n}" for n in expected}
    for name, e in expected.items():
        assert torch.allclose(ewc.anchor.fisher[f"encoder.{name}"], e / mean, rtol=1e-4, atol=1e-7)
    stats = {}
    assert told(model, ewc, batches[0][1], stats).item() == 0
    with torch.no_grad():
        model.encoder[0].bias += 0.1
    penalty = told(model, ewc, batches[0][1], stats)
    assert penalty.item() == pytest.approx(
        0.01 * (expected["0.bias"] / mean).sum().item(), rel=1e-4
    )
    assert stats["retain"] == penalty


def test_an_anchor_is_measured_once_for_one_start(batches, tmp_path):
    model, asked = Model(), []

    def count():
        asked.append(1)
        return batches

    first = retention.make("ewc", 1.0, model, tmp_path, count).anchor
    again = retention.make("ewc", 1.0, model, tmp_path, count).anchor  # a resumed training
    assert len(asked) == 1
    assert all(torch.equal(f, again.fisher[n]) for n, f in first.fisher.items())
    with torch.no_grad():
        model.encoder[0].bias += 1
    other = retention.make("ewc", 1.0, model, tmp_path, count).anchor  # another start
    assert len(asked) == 2
    assert torch.equal(other.values["encoder.0.bias"], model.encoder[0].bias)
    model.encoder[0].bias.requires_grad_(False)  # a frozen tensor needs no hold
    anchor = retention.make("ewc", 1.0, model, tmp_path, count).anchor
    assert anchor.values.keys() == {"encoder.0.weight"} and len(asked) == 3
    assert Anchor.load(tmp_path / retention.FILE).values.keys() == anchor.values.keys()


def test_what_ewc_lacks_is_told(batches, tmp_path):
    with pytest.raises(UsageError, match="needs a pooling head"):
        retention.make("ewc", 1.0, Model(pooling=False), tmp_path, lambda: batches)
    lost = [(u, {k: v for k, v in b.items() if k != "sentence"}) for u, b in batches]
    with pytest.raises(UsageError, match="needs sentence vectors"):
        retention.make("ewc", 1.0, Model(), tmp_path, lambda: lost)
    batches[1][1]["speech"][0] = torch.nan
    with pytest.raises(DataError, match=r"not finite\n.*u10"):
        retention.make("ewc", 1.0, Model(), tmp_path, lambda: batches)
    ewc = retention.Ewc(Anchor({"gone": torch.ones(1)}, {"gone": torch.ones(1)}), 1.0)
    with pytest.raises(DataError, match="no parameter gone"):
        told(Model(), ewc, batches[0][1], {})


def measure(rank, folder, batches):
    """Measure a part of the batches in a process of its own; write what it found."""
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(4)
    anchor = retention.anchor_of(Model(), folder / "two.safetensors", lambda: batches[rank::2])
    torch.save(anchor.fisher, folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_measure_what_one_does(batches, tmp_path):
    torch.manual_seed(4)
    one = retention.anchor_of(Model(), tmp_path / "one.safetensors", lambda: batches)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=measure, args=(r, tmp_path, batches)) for r in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
    assert [p.exitcode for p in both] == [0, 0]
    saved = Anchor.load(tmp_path / "two.safetensors").fisher
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        for name, f in one.fisher.items():
            assert torch.allclose(found[name], f, rtol=1e-5)
            assert torch.equal(found[name], saved[name])


@pytest.mark.parametrize("pooling", [True, False])
def test_distillation_keeps_to_the_model_it_began_with(pooling, batches, tmp_path):
    model, data, stats = Model(pooling), batches[0][1], {}
    distil = retention.make("distil", 3.0, model, tmp_path, lambda: 1 / 0)
    model.eval()
    before = {n: p.clone() for n, p in distil.teacher.named_parameters()}
    assert told(model, distil, data, stats).item() == pytest.approx(0, abs=1e-5)
    nn.init.normal_(model.encoder[0].weight)
    penalty = told(model, distil, data, stats)
    assert penalty.item() == pytest.approx(3 * stats["retain"].item()) and penalty > 0.01
    penalty.backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0
    model.train()
    assert not distil.teacher.training  # its dropout stays off
    for n, p in distil.teacher.named_parameters():
        assert p.grad is None and torch.equal(p, before[n])


def test_none_adds_nothing(tmp_path):
    assert retention.make("none", 1.0, Model(), tmp_path, lambda: 1 / 0) is None
    assert not [*tmp_path.iterdir()]
