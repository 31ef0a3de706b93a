# SPDX-License-Identifier: Apache-2.0
r"""The distance polarization regularizer: no pair of transcripts is left half-way near.

With R = [h^p; h^q] ``(2N, D)``, the cosine s and borders 0 < d+ < d- < 1::

    D_ij  = (1 + s(R_i, R_j)) / 2      distance "paper", large for similar vectors
    D_ij  = (1 - s(R_i, R_j)) / 2      distance "true"
    L_reg = sum_{i != j} max( -(D_ij - d+) (D_ij - d-), 0 )

A pair inside (d+, d-) is driven to the nearer border: the penalty is ((d- - d+)/2)^2 half-way and
0 at the borders and beyond. For 0.2 and 0.5 that is s in (-0.6, 0) with "paper" and in (0, 0.6)
with "true". The paper's statement that distances lie below d+ within a class and above d- between
classes fits "true".

Pairs "all": every ordered pair of two different rows of R, 2N (2N - 1) of them. Pairs "cross": the
N^2 of a manual with an ASR transcript. The two transcripts of one utterance are a pair in both:
they are different rows of R, and the ones that the lower border is there for.

Source: arXiv 2311.11375; the regularizer is that of Chen et al., ICML 2021 (large-margin
contrastive learning with distance polarization). Letters: N utterances, D dimensions.
"""

import torch
from torch import Tensor

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.nt_xent_loss import (
    REDUCTIONS,
    check_one_of,
    check_pairs,
    cosine_matrix,
)

DISTANCES = ("paper", "true")
PAIRS = ("all", "cross")


def check_borders(low: float, high: float) -> None:
    """Check the borders d+ and d-.

    Raises:
        UsageError: Not 0 < low < high < 1.
    """
    if not 0 < low < high < 1:
        raise UsageError(
            f"the borders {low} and {high} enclose no distances", "d+ (low), d- (high)",
            "0 < low < high < 1; the method's are 0.2 and 0.5",
        )  # fmt: skip


def polarization_penalty(distance: Tensor, low: float = 0.2, high: float = 0.5) -> Tensor:
    """Return the penalty of each distance, in the shape of ``distance``."""
    return (-(distance - low) * (distance - high)).clamp(min=0)


def polarization_loss(
    manual: Tensor,
    asr: Tensor,
    low: float = 0.2,
    high: float = 0.5,
    distance: str = "paper",
    pairs: str = "all",
    reduction: str | None = None,
) -> Tensor:
    """Return L_reg.

    Args:
        manual: ``(N, D)`` representations of the manual transcripts.
        asr: ``(N, D)`` those of the ASR transcripts of the same utterances.
        low: d+.
        high: d-.
        distance: One of :data:`DISTANCES`.
        pairs: One of :data:`PAIRS`.
        reduction: ``sum``, or ``mean`` over the pairs. None: ``sum`` for ``paper``, whose band few
            pairs lie in, and ``mean`` for ``true``, whose band most pairs of texts lie in: the sum
            over them grows with the square of the batch, far above L_sc.

    Returns:
        Scalar.

    Raises:
        UsageError: An option is out of range.
        ValueError: The shapes differ.
    """
    check_borders(low, high)
    check_one_of(distance, DISTANCES, "distance")
    check_one_of(pairs, PAIRS, "pairs of the regularizer")
    reduction = reduction or ("sum" if distance == "paper" else "mean")
    check_one_of(reduction, REDUCTIONS, "reduction of the regularizer")
    check_pairs(manual, asr)
    rows, columns = manual, asr
    if pairs == "all":
        rows = columns = torch.cat([manual, asr])
    cosine = cosine_matrix(rows, columns)
    penalty = polarization_penalty(
        (1 + cosine if distance == "paper" else 1 - cosine) / 2, low, high
    )
    count = penalty.numel()
    if pairs == "all":
        diagonal = torch.eye(len(rows), dtype=torch.bool, device=rows.device)
        penalty, count = penalty.masked_fill(diagonal, 0.0), count - len(rows)
    return penalty.sum() if reduction == "sum" else penalty.sum() / count
