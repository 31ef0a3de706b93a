# SPDX-License-Identifier: Apache-2.0
r"""Both tasks in one loss, and the SLU loss by utterance.

With L_samu of ``samu_loss`` and the CTC loss l_i = -ln P(target_i | speech_i), blank 0, of the
tagged transcripts, U_i symbols long::

    L_slu = mean_i l_i / max(U_i, 1)        reduce "label"
          = mean_i l_i                      reduce "utterance", as ESPnet's ASR model has it
    L     = L_samu + lambda L_slu

L_slu is a mean over the batch; L_samu is a sum where its reduction is ``sum``. What is reported,
d_i and l_i by utterance, does not depend on the batch size.

Source: arXiv 2406.12141, which calls the second loss the greedy loss and tunes lambda from 1 to 20.
Letters: B utterances, T frames, V symbols, U symbols of a target.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from espnet_ext.dual_task.masks import full_precision
from espnet_ext.errors import UsageError, nearest

REDUCTIONS = ("label", "utterance")
BLANK = 0


def dual_loss(samu: Tensor, slu: Tensor, lambda_: float) -> Tensor:
    """Return L; without ``slu`` altogether where lambda is 0, so that it leaves no gradient.

    Args:
        samu: Scalar L_samu.
        slu: Scalar L_slu.
        lambda_: Weight of the SLU loss, 0 or more.

    Raises:
        UsageError: lambda is negative or not finite.
    """
    if not 0 <= lambda_ < math.inf:
        raise UsageError(f"lambda is {lambda_}", "lambda", "0 or more; the paper tuned 1 to 20")
    return samu + lambda_ * slu if lambda_ else samu


def slu_loss(
    logits: Tensor,
    lengths: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    reduce: str = "label",
    zero_infinity: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the SLU loss and the CTC loss of each utterance.

    Args:
        logits: ``(B, T, V)`` before the softmax, which is computed in float32 or better.
        lengths: ``(B,)`` valid frames.
        targets: ``(B, U)`` symbols from 1; the padding may be anything.
        target_lengths: ``(B,)`` symbols of each target.
        reduce: One of :data:`REDUCTIONS`.
        zero_infinity: A target that does not fit counts as 0, without a gradient.

    Returns:
        L_slu, scalar, and l ``(B,)`` in nats; infinite where a target does not fit into its frames
        (see :func:`frames_needed`).

    Raises:
        UsageError: There is no such reduction.
    """
    with torch.autocast(logits.device.type, enabled=False):
        log_p = full_precision(logits).log_softmax(-1).transpose(0, 1)
        losses = functional.ctc_loss(
            log_p,
            targets,
            lengths,
            target_lengths,
            blank=BLANK,
            reduction="none",
            zero_infinity=zero_infinity,
        )
    return mean_of(losses, target_lengths, reduce), losses


def mean_of(losses: Tensor, target_lengths: Tensor, reduce: str) -> Tensor:
    """Return L_slu of the losses ``(B,)`` of utterances with so many symbols ``(B,)``.

    Raises:
        UsageError: There is no such reduction.
    """
    if reduce not in REDUCTIONS:
        how = nearest(str(reduce), REDUCTIONS)
        raise UsageError(f"there is no reduction '{reduce}' of L_slu", "slu_reduce", how)
    if reduce == "label":
        losses = losses / target_lengths.to(losses.device).clamp_min(1)
    return losses.mean()
