# SPDX-License-Identifier: Apache-2.0
"""Two optimisers: which parameters are the encoder's, and which the other parts'.

Each trainable tensor must be in exactly one of them. A public recipe of this kind leaves out its
pooling head, which then stays random while the loss still falls; so a module that neither list
names is an error here, and :func:`check_optimizers` looks at what the optimisers really hold.
"""

from collections.abc import Iterable

from torch import nn
from torch.optim import Optimizer

from espnet_ext.errors import UsageError

# Modules of the model, by the first part of a parameter's name.
ENCODER = ("frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder")
OTHER = ("pooling", "slu", "ctc", "phone_head")


def parameter_groups(
    model: nn.Module,
    encoder: Iterable[str] = ENCODER,
    other: Iterable[str] = OTHER,
) -> dict[str, dict[str, nn.Parameter]]:
    """Return ``{"encoder": {name: parameter}, "other": {...}}`` of all trainable parameters.

    Args:
        model: Its modules have names of both lists; it need not have all of them.
        encoder: Modules of the encoder's group.
        other: Modules of the other group.

    Raises:
        UsageError: A trainable parameter is in a module of neither list or of both, or one tensor
            is in both groups.
    """
    lists = {"encoder": set(encoder), "other": set(other)}
    groups: dict[str, dict[str, nn.Parameter]] = {name: {} for name in lists}
    owner: dict[int, tuple[str, str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            continue
        found = [group for group, modules in lists.items() if name.split(".")[0] in modules]
        if len(found) != 1:
            have = " and ".join(found) or "none"
            how = "name its module in one of the lists of espnet_ext/dual_task/groups.py"
            raise UsageError(f"a parameter must be in one optimiser, this is in {have}", name, how)
        first, group = owner.setdefault(id(parameter), (name, found[0]))
        if group != found[0]:
            raise UsageError("one tensor is in both optimisers", f"{first} and {name}")
        if first == name:
            groups[group][name] = parameter
    return groups


def check_optimizers(model: nn.Module, optimizers: Iterable[Optimizer]) -> None:
    """Check that each trainable tensor is in exactly one parameter group.

    Raises:
        UsageError: One is in none, in several, or a group holds a tensor that is not the model's.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    held: dict[int, int] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for p in group["params"]:
                held[id(p)] = held.get(id(p), 0) + 1
    trainable = {id(p): n for n, p in model.named_parameters() if p.requires_grad}
    for what, wrong in (
        ("is in no optimiser: it would not be trained", trainable.keys() - held.keys()),
        ("is in an optimiser more than once", {k for k, n in held.items() if n > 1}),
        ("is in an optimiser but not in the model", held.keys() - names.keys()),
    ):
        if wrong:
            where = ", ".join(sorted(names.get(k, "unknown tensor") for k in wrong)[:5])
            raise UsageError(f"a parameter {what} ({len(wrong)} such)", where)
