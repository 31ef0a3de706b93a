# SPDX-License-Identifier: Apache-2.0
r"""Elastic weight consolidation: parameters that the first task needs are held near their values.

After the specialisation, with its parameters theta* and its loss l_i of utterance i::

    F     = mean_i (d l_i / d theta)^2                      diagonal, of each parameter
    L_ewc = weight / 2 * sum_j F_j (theta_j - theta*_j)^2   added to the loss of the SLU step

The square must be taken by utterance: that of a mean over a batch of b independent utterances is
smaller by about b. F grows with the square of the scale of l; :meth:`Fisher.finish` can divide by
its mean, so that ``weight`` means the same for every scale and size of model.

Source: arXiv 1612.00796 (Kirkpatrick et al.); here F is the empirical one, of a loss that is no
log-likelihood. One of the baselines against forgetting that arXiv 2406.12141 has no results of.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_path

Named = Mapping[str, Tensor]
VALUES, FISHER = "values.", "fisher."  # prefixes in the file


class Fisher:
    """Collect squared gradients, an utterance at a time.

    Args:
        parameters: By name, those to be held: as a rule the trainable ones of the encoder.

    Raises:
        UsageError: There is none.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]):
        if not parameters:
            raise UsageError("no parameter to be held", "elastic weight consolidation")
        self.parameters = dict(parameters)
        self.sums = {n: torch.zeros_like(p, dtype=torch.float32) for n, p in parameters.items()}
        self.utterances = 0

    def add(self, loss: Tensor, utt: str = "") -> None:
        """Count the gradient of one utterance's loss.

        Args:
            loss: Scalar; a parameter that it does not reach has gradient 0. Gradients in ``.grad``
                are left as they are.
            utt: Its id, for the error.

        Raises:
            DataError: A gradient is not finite.
        """
        tensors = list(self.parameters.values())
        found = torch.autograd.grad(loss, tensors, allow_unused=True)
        for name, gradient in zip(self.parameters, found, strict=True):
            if gradient is None:
                continue
            if not gradient.isfinite().all():
                where = utt or f"utterance {self.utterances}, counted from 0"
                raise DataError(f"the gradient of {name} is not finite", where)
            self.sums[name] += gradient.detach().float().square()
        self.utterances += 1

    def finish(self, normalise: bool = False) -> "Anchor":
        """Return the anchor: the parameters as they are now, and F.

        Args:
            normalise: Divide F by its mean over all parameters.

        Raises:
            DataError: No utterance was counted, or no gradient reached a parameter.
        """
        if not self.utterances:
            raise DataError("no utterance to measure the Fisher information on")
        fisher = {name: total / self.utterances for name, total in self.sums.items()}
        mean = _mean(fisher)
        if not mean > 0:
            raise DataError("the loss has no gradient: the Fisher information is 0 everywhere")
        if normalise:
            fisher = {name: f / mean for name, f in fisher.items()}
        values = {name: p.detach().clone() for name, p in self.parameters.items()}
        return Anchor(values, fisher)


def _mean(fisher: Named) -> float:
    """Return the mean over all entries of all tensors."""
    entries = sum(f.numel() for f in fisher.values())
    return sum(f.double().sum().item() for f in fisher.values()) / entries


class Anchor:
    """Where parameters are held, and how strongly.

    Args:
        values: theta* by name.
        fisher: F by name, 0 or more.

    Raises:
        DataError: The two do not go together, or F is not possible.
    """

    def __init__(self, values: Named, fisher: Named):
        _check_same(values, fisher, "anchor: values and Fisher information")
        for name, f in fisher.items():
            if not (f.isfinite().all() and (f >= 0).all()):
                raise DataError("Fisher information must be finite and not negative", name)
        self.values, self.fisher = dict(values), dict(fisher)

    def check(self, parameters: Named) -> None:
        """Check that these are the parameters that the anchor was made of.

        Raises:
            DataError: Names or shapes differ.
        """
        _check_same(self.values, parameters, "anchor and model")

    def penalty(self, parameters: Named, weight: float) -> Tensor:
        """Return L_ewc, scalar, float32.

        Args:
            parameters: By name, exactly those of the anchor.
            weight: 0 or more.

        Raises:
            DataError: Names or shapes differ.
        """
        self.check(parameters)
        total = torch.zeros((), device=next(iter(parameters.values())).device)
        for name, p in parameters.items():
            value, fisher = (x[name].to(p.device) for x in (self.values, self.fisher))
            total = total + (fisher * (p.float() - value.float()).square()).sum()
        return weight / 2 * total

    def to(self, device: torch.device | str) -> "Anchor":
        """Return it on a device, where the penalty of each step finds it."""
        moved = ({n: x.to(device) for n, x in y.items()} for y in (self.values, self.fisher))
        return Anchor(*moved)

    def save(self, path: Path | str) -> None:
        """Write a safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        tensors = {VALUES + n: x for n, x in self.values.items()}
        tensors |= {FISHER + n: x for n, x in self.fisher.items()}
        with atomic_path(path) as temporary:
            save_file({n: x.detach().cpu().contiguous() for n, x in tensors.items()}, temporary)

    @classmethod
    def load(cls, path: Path | str) -> "Anchor":
        """Read what :meth:`save` wrote.

        Raises:
            DataError: There is no such file, or it holds something else.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        how = "start the phase again from the specialised model"
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as e:
            raise DataError(f"the anchor cannot be read: {e}", path, how) from None
        if not all(name.startswith((VALUES, FISHER)) for name in tensors):
            raise DataError("this is no anchor of elastic weight consolidation", path, how)
        return cls(*(_below(tensors, prefix) for prefix in (VALUES, FISHER)))


def _below(tensors: Named, prefix: str) -> dict[str, Tensor]:
    """Return those whose name has the prefix, by the rest of the name."""
    return {n.removeprefix(prefix): x for n, x in tensors.items() if n.startswith(prefix)}


def _check_same(a: Named, b: Named, what: str) -> None:
    """Check that names and shapes are equal."""
    if not a:
        raise DataError("no parameters", what)
    if odd := sorted(a.keys() ^ b.keys()):
        missing = f"{len(odd)} parameters are on one side only: {', '.join(odd[:3])}"
        raise DataError(missing, what, "the same encoder, and the same layers frozen, in both")
    for name, x in a.items():
        if x.shape != b[name].shape:
            shapes = f"{tuple(x.shape)} and {tuple(b[name].shape)}"
            raise DataError(f"{name} has two shapes: {shapes}", what)
