# SPDX-License-Identifier: Apache-2.0
r"""The contrastive loss of stage 1: each transcript finds the other transcript of its utterance.

With R = [h^p; h^q] ``(2N, D)``, the partner i+ = (i + N) mod 2N and the cosine s::

    L_sc = -(1/2N) sum_{i=1..2N} log( exp(s(R_i, R_i+)/tau) / sum_{k != i} exp(s(R_i, R_k)/tau) )

All vectors equal: ln(2N - 1). Source: SimCLR's NT-Xent (arXiv 2002.05709), as SpokenCSE (Chang and
Chen, Interspeech 2022) uses it. Letters: N utterances, D dimensions.

The helpers above the loss serve the other losses as well.
"""

import torch
from torch import Tensor
from torch.nn import functional

from espnet_ext.errors import UsageError, nearest

REDUCTIONS = ("sum", "mean")
SMALLEST_NORM = 1e-8  # a shorter vector has no direction


def full_precision(x: Tensor) -> Tensor:
    """Return float64 as it is, anything else as float32: logarithms need more than half of it."""
    return x if x.dtype == torch.float64 else x.float()


def cosine_matrix(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of every row of ``a`` with every row of ``b``, autocast or not.

    A zero vector has cosine 0 with everything and receives no gradient: its true gradient has no
    bound, so one such row would ruin the update.

    Args:
        a: ``(M, D)``.
        b: ``(N, D)``.

    Returns:
        ``(M, N)`` float32, or float64 if the arguments are.
    """
    with torch.autocast(a.device.type, enabled=False):
        return _directions(a) @ _directions(b).T


def _directions(x: Tensor) -> Tensor:
    x = full_precision(x)
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    inverse = norm.clamp(min=SMALLEST_NORM).reciprocal()
    return x * torch.where(norm > SMALLEST_NORM, inverse, 0.0)


def without_self(logits: Tensor) -> Tensor:
    """Return logits whose diagonal takes no part in a softmax over a row.

    Args:
        logits: ``(N, N)``, N above 1: a row without others would have a NaN gradient.
    """
    diagonal = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    return logits.masked_fill(diagonal, -torch.inf)


def check_one_of(value: str, valid: tuple[str, ...], where: str) -> None:
    """Check the value of an option.

    Raises:
        UsageError: It is none of the valid ones.
    """
    if value not in valid:
        raise UsageError(f"no such value: {value!r}", where, nearest(str(value), valid))


def check_pairs(manual: Tensor, asr: Tensor) -> None:
    """Check that two matrices hold a row for each utterance.

    Raises:
        ValueError: They differ in shape, are no matrices or are empty.
    """
    if manual.shape != asr.shape or manual.dim() != 2 or len(manual) == 0:
        raise ValueError(f"not one row each: {tuple(manual.shape)} and {tuple(asr.shape)}")


def nt_xent_loss(manual: Tensor, asr: Tensor, temperature: float = 0.2) -> Tensor:
    """Return L_sc; both transcripts receive gradient, and the two may be exchanged.

    Args:
        manual: ``(N, D)`` representations of the manual transcripts.
        asr: ``(N, D)`` those of the ASR transcripts of the same utterances.
        temperature: tau.

    Returns:
        Scalar, nats; 0 for one utterance, which has nothing to be told from.

    Raises:
        ValueError: The shapes differ.
    """
    check_pairs(manual, asr)
    both = torch.cat([manual, asr])
    logits = without_self(cosine_matrix(both, both) / temperature)
    partner = torch.arange(len(both), device=both.device).roll(len(manual))
    return functional.cross_entropy(logits, partner)
