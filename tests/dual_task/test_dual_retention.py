# SPDX-License-Identifier: Apache-2.0
"""Elastic weight consolidation and distillation: closed forms, masks, files, wrong parameters."""

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from espnet_ext.dual_task.distil_loss import embedding_distil_loss, frame_distil_loss
from espnet_ext.dual_task.ewc import Anchor, Fisher
from espnet_ext.errors import DataError, UsageError


def named(model):
    """Return its trainable parameters by name."""
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def fisher_of(parameters, losses, normalise=False):
    """Return the anchor from the loss of each utterance, as a training adds them up."""
    fisher = Fisher(parameters)
    for loss in losses:
        fisher.add(loss)
    return fisher.finish(normalise)


def test_fisher_of_a_line_in_closed_form():
    """Of l = (w x - y)^2: dl/dw = 2 x (w x - y)."""
    line = nn.Linear(1, 1, bias=False)
    nn.init.constant_(line.weight, 0.5)
    pairs = [(1.0, 0.0), (2.0, 0.0), (-1.0, 1.0)]
    gradients = [2 * x * (0.5 * x - y) for x, y in pairs]
    losses = ((line(torch.tensor([x])) - y).square().sum() for x, y in pairs)
    anchor = fisher_of(named(line), losses)
    mean_of_squares = sum(g * g for g in gradients) / 3
    assert anchor.fisher["weight"].item() == pytest.approx(mean_of_squares)
    assert mean_of_squares != pytest.approx((sum(gradients) / 3) ** 2)  # a batch of 3 at once
    nn.init.constant_(line.weight, 2.5)
    penalty = anchor.penalty(named(line), 3.0)
    assert penalty.item() == pytest.approx(3 / 2 * mean_of_squares * 2.0**2)
    penalty.backward()
    assert line.weight.grad.item() == pytest.approx(3 * mean_of_squares * 2.0)


def tiny(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def losses_of(model, scale=1.0):
    torch.manual_seed(1)
    return [scale * model(torch.randn(3)).square().sum() for _ in range(6)]


def test_fisher_in_a_naive_loop_leaves_gradients_and_model_alone():
    model = tiny()
    model[0].weight.grad = torch.ones(4, 3)
    anchor = fisher_of(named(model), losses_of(model))
    assert model[0].weight.grad.eq(1).all() and model[0].bias.grad is None
    assert anchor.penalty(named(model), 1e6).item() == 0
    expected = {n: torch.zeros_like(p) for n, p in named(model).items()}
    for loss in losses_of(model):
        model.zero_grad()
        loss.backward()
        for n, p in named(model).items():
            expected[n] += p.grad.square() / 6
    for n, f in anchor.fisher.items():
        assert torch.allclose(f, expected[n])
    copied = copy.deepcopy(model)
    with torch.no_grad():
        model[2].bias += 1
    assert torch.equal(anchor.values["2.bias"], copied[2].bias)  # it does not follow the model


def test_normalised_it_does_not_depend_on_the_scale_of_the_loss():
    model = tiny()
    one, fifty = (fisher_of(named(model), losses_of(model, s), True) for s in (1, 50))
    entries = torch.cat([f.flatten() for f in one.fisher.values()])
    assert entries.mean().item() == pytest.approx(1)
    for n, f in one.fisher.items():
        assert torch.allclose(f, fifty.fisher[n], rtol=1e-4)


def test_what_the_first_task_needs_is_held_and_the_rest_is_free():
    """The first task reads input 0 only; the second pulls both weights to 1."""
    ends = {}
    for weight in (0.0, 10.0):
        line = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(line.weight)
        anchor = fisher_of(named(line), [(line(torch.tensor([1.0, 0.0])) - 1).square().sum()])
        optimiser = torch.optim.SGD(line.parameters(), lr=0.04)
        for _ in range(200):
            optimiser.zero_grad()
            ((line.weight - 1).square().sum() + anchor.penalty(named(line), weight)).backward()
            optimiser.step()
        ends[weight] = line.weight[0].tolist()
    assert ends[0.0] == pytest.approx([1, 1], abs=0.01)
    # The minimum of (w - 1)^2 + 10/2 * 4 w^2 is 2 / (2 + 40).
    assert ends[10.0] == pytest.approx([2 / 42, 1], abs=0.001)


def test_an_anchor_is_the_same_from_its_file(tmp_path):
    model = tiny()
    anchor, path = fisher_of(named(model), losses_of(model)), tmp_path / "anchor.safetensors"
    anchor.save(path)
    other = named(tiny(5))
    assert torch.equal(Anchor.load(path).penalty(other, 2.0), anchor.penalty(other, 2.0))
    assert anchor.penalty(other, 2.0) > 0
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(DataError, match="cannot be read"):
        Anchor.load(path)
    with pytest.raises(DataError, match="cannot be read"):
        Anchor.load(tmp_path / "none")
    from safetensors.torch import save_file

    save_file({"weight": torch.ones(1)}, path)
    with pytest.raises(DataError, match="no anchor"):
        Anchor.load(path)


def test_another_set_of_parameters_is_an_error():
    model = tiny()
    anchor = fisher_of(named(model), losses_of(model))
    less = named(model)
    del less["2.bias"]
    more = named(model) | {"3.bias": nn.Parameter(torch.zeros(1))}
    for wrong, what in (
        (less, "one side only: 2.bias"),
        (more, "one side only: 3.bias"),
        (named(model) | {"2.bias": nn.Parameter(torch.zeros(1))}, r"2.bias has two shapes"),
        ({}, "one side only"),
    ):
        with pytest.raises(DataError, match=what):
            anchor.penalty(wrong, 1.0)
    with pytest.raises(DataError, match="one side only"):
        Anchor(anchor.values, {})
    with pytest.raises(DataError, match="not negative"):
        Anchor({"a": torch.ones(1)}, {"a": -torch.ones(1)})


def test_nothing_to_measure_is_told():
    model = tiny()
    with pytest.raises(UsageError, match="no parameter"):
        Fisher({})
    with pytest.raises(DataError, match="no utterance"):
        fisher_of(named(model), [])
    with pytest.raises(DataError, match="0 everywhere"):
        fisher_of(named(model), [0 * loss for loss in losses_of(model)])
    with pytest.raises(DataError, match=r"not finite\n.*utterance 0"):
        fisher_of(named(model), [math.inf * loss for loss in losses_of(model)])
    unused = Fisher(named(model))
    unused.add(model[0](torch.ones(3)).sum())  # the second layer is not reached
    assert unused.finish().fisher["2.bias"].eq(0).all()


def test_distillation_of_vectors_is_0_for_equal_directions_and_2_for_opposite_ones():
    e = torch.randn(3, 5)
    teacher = torch.stack([2 * e[0], -e[1], e[2]])
    loss, distance = embedding_distil_loss(e, teacher)
    assert distance.tolist() == pytest.approx([0, 2, 0], abs=1e-6)
    assert loss.item() == pytest.approx(2 / 3, abs=1e-6)


def test_distillation_of_frames_is_a_naive_mean_over_valid_frames():
    lengths = torch.tensor([2, 5])
    student, teacher = torch.randn(2, 2, 5, 3).double()
    expected = [
        [1 - torch.cosine_similarity(student[i, t], teacher[i, t], 0).item() for t in range(n)]
        for i, n in enumerate(lengths.tolist())
    ]
    loss, by_utterance = frame_distil_loss(student, teacher, lengths)
    assert loss.item() == pytest.approx(sum(itertools.chain(*expected)) / 7)
    assert by_utterance.tolist() == pytest.approx([sum(x) / len(x) for x in expected])
    assert torch.autograd.gradcheck(
        lambda x: frame_distil_loss(x, teacher, lengths), student.clone().requires_grad_()
    )
    for padding in (0.0, torch.inf, torch.nan):
        student[0, 2:] = teacher[0, 2:] = padding
        x = student.clone().requires_grad_()
        again, _ = frame_distil_loss(x, teacher.requires_grad_(), lengths)
        again.backward()
        assert again.item() == pytest.approx(loss.item())
        assert x.grad.isfinite().all() and x.grad[0, 2:].eq(0).all()
        assert teacher.grad is None
        teacher.requires_grad_(False)
    with pytest.raises(ValueError):
        frame_distil_loss(student, teacher[:, :4], lengths)
