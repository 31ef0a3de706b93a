# SPDX-License-Identifier: Apache-2.0
"""Two optimisers: each trainable tensor in exactly one, and it changes after a step."""

import pytest
import torch
from torch import nn

from espnet_ext.dual_task.dual_loss import dual_loss, slu_loss
from espnet_ext.dual_task.groups import check_optimizers, parameter_groups
from espnet_ext.dual_task.pooling import AttentivePooling
from espnet_ext.dual_task.samu_loss import samu_loss
from espnet_ext.dual_task.slu_head import SluHead
from espnet_ext.errors import UsageError


class Model(nn.Module):
    """Encoder and all heads of the dual task."""

    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(5, 8)
        self.pooling = AttentivePooling(8, 4)
        self.slu = SluHead(8, 1, 6, 1, 7)
        self.ctc = nn.Linear(7, 9)

    def loss(self, lambda_=10.0):
        """Return the dual loss of a batch of random numbers."""
        hidden = self.encoder(torch.randn(2, 11, 5)).tanh()
        lengths = torch.tensor([11, 8])
        samu, _ = samu_loss(self.pooling(hidden, lengths), torch.randn(2, 4), 50, "sum")
        logits = self.ctc(self.slu(hidden, lengths))
        targets = torch.tensor([[1, 2, 2], [3, 8, 0]])
        slu, _ = slu_loss(logits, lengths, targets, torch.tensor([3, 2]))
        return dual_loss(samu, slu, lambda_)


def optimisers(groups):
    """Return the paper's two."""
    return [
        torch.optim.Adam(groups["encoder"].values(), lr=1e-4),
        torch.optim.Adadelta(groups["other"].values(), lr=1.0, rho=0.95, eps=1e-8),
    ]


def test_disjoint_complete_and_every_tensor_changes_after_a_step():
    model = Model()
    groups = parameter_groups(model)
    assert {n.split(".")[0] for n in groups["encoder"]} == {"encoder"}
    assert {n.split(".")[0] for n in groups["other"]} == {"pooling", "slu", "ctc"}
    names = [n for group in groups.values() for n in group]
    assert sorted(names) == sorted(n for n, _ in model.named_parameters())
    both = optimisers(groups)
    check_optimizers(model, both)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    model.loss().backward()
    for optimiser in both:
        optimiser.step()
    same = {n for n, p in model.named_parameters() if p.equal(before[n])}
    # Attention weights do not depend on a number added to all scores.
    assert same <= {"pooling.score.bias"}


def test_lambda_0_leaves_the_slu_layers_without_gradient():
    model = Model()
    model.loss(0.0).backward()
    without = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None}
    assert without == {"slu", "ctc"}


def test_frozen_parameters_are_in_no_group():
    model = Model()
    model.encoder.weight.requires_grad_(False)
    groups = parameter_groups(model)
    assert list(groups["encoder"]) == ["encoder.bias"]
    check_optimizers(model, optimisers(groups))


def test_a_module_that_no_list_names_is_an_error():
    model = Model()
    model.adapter = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"this is in none\n.*adapter\.weight"):
        parameter_groups(model)
    model.adapter.requires_grad_(False)
    parameter_groups(model)
    with pytest.raises(UsageError, match="encoder and other"):
        parameter_groups(model, other=("pooling", "slu", "ctc", "encoder"))


def test_a_shared_tensor_is_in_one_group_once_or_an_error():
    model = Model()
    model.phone_head = nn.Linear(7, 9)
    model.phone_head.weight = model.ctc.weight
    assert "phone_head.weight" not in parameter_groups(model)["other"]
    check_optimizers(model, optimisers(parameter_groups(model)))
    model.phone_head.weight = model.encoder.weight
    with pytest.raises(UsageError, match=r"both optimisers\n.*encoder.weight and phone_head"):
        parameter_groups(model)


def test_what_the_optimisers_really_hold():
    model = Model()
    groups = parameter_groups(model)
    first, second = optimisers(groups)
    with pytest.raises(UsageError, match=r"in no optimiser.*\(2 such\)\n.*encoder"):
        check_optimizers(model, [second])
    with pytest.raises(UsageError, match="more than once"):
        check_optimizers(model, [first, second, torch.optim.SGD([model.encoder.bias], lr=1.0)])
    second.add_param_group({"params": [nn.Parameter(torch.zeros(1))]})
    with pytest.raises(UsageError, match="not in the model"):
        check_optimizers(model, [first, second])
