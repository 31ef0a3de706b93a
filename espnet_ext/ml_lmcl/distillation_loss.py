# SPDX-License-Identifier: Apache-2.0
r"""Self-distillation: a model keeps to what it said of an utterance one epoch before.

With logits z, the teacher's distribution P of each utterance (a constant) and temperature tau::

    L_d = (tau^2 / N) sum_i KL( P_i || softmax(z_i / tau) ),      0 log 0 = 0

    teacher_kind       P_i
    logits             softmax(t_i / tau)
    probabilities      t_i as it is, e.g. the one-hot label
    published          softmax(t_i / tau) of probabilities t_i, the one-hot label too: the fault of
                       SpokenCSE's code, whose teacher is close to uniform

An utterance without a teacher adds 0 and counts in N. A one-hot label is not softened by tau, so
its L_d is large: at z = 0 its gradient is tau times that of cross-entropy, and it still pushes
where the margin is wide.

Source: arXiv 2311.11375; SpokenCSE (Chang and Chen, Interspeech 2022). Letters: N utterances, C
classes.
"""

import torch
from torch import Tensor

from espnet_ext.ml_lmcl.nt_xent_loss import check_one_of, check_pairs, full_precision

TEACHER_KINDS = ("logits", "probabilities", "published")


def distillation_loss(
    logits: Tensor,
    teacher: Tensor,
    temperature: float = 5.0,
    teacher_kind: str = "logits",
    is_probability: Tensor | None = None,
    has_teacher: Tensor | None = None,
) -> Tensor:
    """Return L_d.

    Args:
        logits: ``(N, C)`` z.
        teacher: ``(N, C)`` t; no gradient flows into it.
        temperature: tau.
        teacher_kind: One of :data:`TEACHER_KINDS`: what the rows of ``teacher`` are.
        is_probability: ``(N,)`` bool, with ``logits`` only: rows that are probabilities all the
            same, of utterances whose teacher is still their label. None for no row.
        has_teacher: ``(N,)`` bool: rows that have a teacher. None for all.

    Returns:
        Scalar, nats.

    Raises:
        UsageError: There is no such kind of teacher.
        ValueError: The shapes differ, or ``is_probability`` is given with another kind.
    """
    check_one_of(teacher_kind, TEACHER_KINDS, "teacher_kind")
    check_pairs(logits, teacher)
    if is_probability is not None and teacher_kind != "logits":
        raise ValueError(f"is_probability has no meaning for a teacher of {teacher_kind}")
    target = full_precision(teacher.detach())
    if teacher_kind != "probabilities":
        softened = (target / temperature).softmax(-1)
        if is_probability is not None:
            softened = torch.where(is_probability.unsqueeze(-1), target, softened)
        target = softened
    log_q = (full_precision(logits) / temperature).log_softmax(-1)
    divergence = (torch.xlogy(target, target) - target * log_q).sum(-1)
    if has_teacher is not None:
        divergence = divergence * has_teacher
    return temperature**2 * divergence.mean()
