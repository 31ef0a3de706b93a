# SPDX-License-Identifier: Apache-2.0
"""Penalty-based bilevel descent, in plain torch.

    min_{theta, phi} f(theta, phi)   subject to   theta in argmin_{theta', eta} g(theta', eta)

becomes, with v = min g a constant,

    F_gamma(theta, phi, eta) = f(theta, phi) + gamma (g(theta, eta) - v)

so a joint step is one gradient step on f + gamma g: all gradients are taken at the old point.
theta is the shared encoder, phi the supervised head, eta the unsupervised one.
Source: arXiv 2412.08548, section III and Algorithm 1.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_ext.bl_just.schedule import OPTIMISER, Schedule

Encoder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class _ScaleGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.factor * grad, None


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x``; its gradient is multiplied by ``factor``."""
    return _ScaleGradient.apply(x, factor)


def with_scaled_gradient(encoder: Encoder, factor: float) -> Encoder:
    """Return the encoder with the gradient of its output, thus of theta, multiplied.

    A loss on it gives its own head the plain gradient: ``eta_scale: one``.
    """

    def encode(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        h, h_lengths = encoder(x, lengths)
        return scale_gradient(h, factor), h_lengths

    return encode


def joint_loss(
    upper: Tensor, lower: Tensor | None, gamma: float, lower_is_scaled: bool = False
) -> Tensor:
    """Return the loss of a joint step, a scalar.

    Args:
        upper: Loss of the upper level, scalar.
        lower: Loss of the lower level, scalar; None where gamma is 0: then nothing of the lower
            level may be computed, for it would draw random numbers and move batch normalisation.
        gamma: Penalty, 0 or more.
        lower_is_scaled: Whether the encoder's gradient of ``lower`` holds gamma already.

    Raises:
        ValueError: gamma is negative, or above 0 without a lower loss.
    """
    if gamma < 0 or (gamma > 0 and lower is None):
        raise ValueError(f"gamma is {gamma}, and the lower loss is {lower}")
    if lower is None:
        return upper
    return upper + (lower if lower_is_scaled else gamma * lower)


def gradient_geometry(f: Tensor, g: Tensor, theta: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return norms of the gradients of f and g with respect to theta, and their cosine.

    Args:
        f: Scalar, its graph is kept.
        g: Scalar, its graph is kept.
        theta: Shared parameters.

    Returns:
        ``grad_norm_f``, ``grad_norm_g``, ``grad_cosine``, scalars.
    """
    grads = [torch.autograd.grad(x, theta, retain_graph=True, allow_unused=True) for x in (f, g)]
    pairs = [(a, b) for a, b in zip(*grads, strict=True)]
    norms = [_norm(a for a, _ in pairs), _norm(b for _, b in pairs)]
    dot = sum((a * b).sum() for a, b in pairs if a is not None and b is not None)
    cosine = dot / (norms[0] * norms[1]).clamp(min=1e-20)
    return {"grad_norm_f": norms[0], "grad_norm_g": norms[1], "grad_cosine": cosine}


def _norm(grads: Iterable[Tensor | None]) -> Tensor:
    norms = [torch.linalg.vector_norm(x) for x in grads if x is not None]
    return torch.linalg.vector_norm(torch.stack(norms)) if norms else torch.tensor(0.0)


def fit(
    schedule: Schedule,
    f: Callable[[Any], Tensor],
    g: Callable[[Any], Tensor],
    optimisers: Sequence[torch.optim.Optimizer],
    labelled: Iterator[Any],
    unlabelled: Iterator[Any],
    clip: float | None = None,
) -> Iterator[dict[str, float]]:
    """Carry a schedule out on any two losses that share parameters; without ESPnet.

    Args:
        schedule: Of :func:`espnet_ext.bl_just.schedule.make_schedule`; ``pseudo`` has no meaning
            here.
        f: Supervised loss of a labelled batch, a scalar.
        g: Unsupervised loss of an unlabelled batch, a scalar.
        optimisers: Of the joint phase (theta, phi, eta), the exploration (theta and the lower
            level's head), the last phase (theta, phi).
        labelled: Endless batches.
        unlabelled: Endless batches.
        clip: Greatest norm of the gradient of each parameter group.

    Yields:
        ``gamma``, ``f`` and ``g`` of each update, NaN where a loss is not computed.
    """
    nan = float("nan")
    for epoch in range(1, len(schedule.epochs) + 1):
        for step in schedule.steps(epoch):
            sup = f(next(labelled)) if step.labelled else None
            unsup = g(next(unlabelled)) if step.unlabelled else None
            levels = (unsup, sup) if schedule.lower_labelled else (sup, unsup)
            if step.kind == "joint":
                loss = joint_loss(*levels, step.gamma)
            else:
                loss = levels[1] if step.kind == "explore" else sup
            optimiser = optimisers[OPTIMISER[step.kind]]
            optimiser.zero_grad()
            loss.backward()
            if clip is not None:
                clip_groups(optimiser, clip)
            optimiser.step()
            told = {"f": sup, "g": unsup}
            yield {
                "gamma": step.gamma,
                **{k: nan if v is None else float(v.detach()) for k, v in told.items()},
            }


def clip_groups(optimiser: torch.optim.Optimizer, max_norm: float, norm_type: float = 2.0) -> None:
    """Clip the gradient of each parameter group apart, so that no head hides another's."""
    for group in optimiser.param_groups:
        nn.utils.clip_grad_norm_(group["params"], max_norm, norm_type=norm_type)
