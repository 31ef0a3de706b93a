# SPDX-License-Identifier: Apache-2.0
r"""Mutual learning: the classifiers of manual and of ASR transcripts agree on each utterance.

With P^p = softmax(z^p) of the clean and P^q = softmax(z^q) of the ASR model::

    js                 mean_i [ KL(P^p_i || M_i)/2 + KL(P^q_i || M_i)/2 ],  M = (P^p + P^q)/2
    kl_clean_to_asr    mean_i   KL(P^p_i || P^q_i), P^p a constant

The Jensen-Shannon divergence is symmetric, at most ln 2, and its gradient reaches both models; the
one-way form is distillation from the clean model. Source: arXiv 2311.11375.
Letters: N utterances, C classes.
"""

import math

import torch
from torch import Tensor

from espnet_ext.ml_lmcl.nt_xent_loss import (
    REDUCTIONS,
    check_one_of,
    check_pairs,
    full_precision,
)

KINDS = ("js", "kl_clean_to_asr")


def mutual_loss(clean: Tensor, asr: Tensor, kind: str = "js", reduction: str = "mean") -> Tensor:
    """Return L_mut.

    Args:
        clean: ``(N, C)`` finite logits of the clean model.
        asr: ``(N, C)`` those of the ASR model for the same utterances.
        kind: One of :data:`KINDS`.
        reduction: ``mean`` over the utterances, which the batch size leaves unchanged, or ``sum``.

    Returns:
        Scalar, nats.

    Raises:
        UsageError: There is no such kind or reduction.
        ValueError: The shapes differ.
    """
    check_one_of(kind, KINDS, "mutual")
    check_one_of(reduction, REDUCTIONS, "reduction of the mutual loss")
    check_pairs(clean, asr)
    log_p = full_precision(clean).log_softmax(-1)
    log_q = full_precision(asr).log_softmax(-1)
    if kind == "js":
        log_m = torch.logaddexp(log_p, log_q) - math.log(2)
        losses = (_divergence(log_p, log_m) + _divergence(log_q, log_m)) / 2
    else:
        losses = _divergence(log_p.detach(), log_q)
    return losses.mean() if reduction == "mean" else losses.sum()


def _divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) of each row, ``(N,)``."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)
