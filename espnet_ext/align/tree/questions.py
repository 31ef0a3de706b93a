# SPDX-License-Identifier: Apache-2.0
"""Sets of phones that a decision tree may ask for, found from data without linguistic input."""

from collections.abc import Sequence

import numpy as np

from espnet_ext.align.tree.stats import TriphoneStats, log_likelihood, sum_rows
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE_ID, STATES


def automatic_questions(
    stats: TriphoneStats,
    num_phones: int,
    *,
    states: Sequence[int] = (STATES // 2,),
    var_floor: float = 0.01,
) -> tuple[frozenset[int], ...]:
    """Cluster the phones by sound; every node of the cluster tree is a question.

    The two clusters whose pooling into one Gaussian (per HMM state) loses the least likelihood
    are joined until one is left. Silence is a question of its own and is not clustered. Phones
    without data are in no question: no context of the data has them, so none could be chosen.

    Args:
        stats: Triphone statistics; contexts are summed out.
        num_phones: Size of the phone set, silence included.
        states: HMM states that are compared; the middle one suffers least from the context.
        var_floor: Smallest variance as a share of the variance of all frames.

    Returns:
        Distinct sets of phone ids: {silence}, the single phones, then the clusters in the order
        of joining; the last cluster holds all phones but silence.

    Raises:
        DataError: There are no frames, or a phone id is not below ``num_phones``.

    Source:
        Model: cluster-phones of Kaldi, which clusters top-down instead.
    """
    floor = stats.variance_floor(var_floor)
    check_phones(stats, num_phones)
    stats = stats.merge()  # sorts: sums must not depend on the order of rows
    index = stats.keys[:, 1] * STATES + stats.keys[:, 3]
    packed = sum_rows(index, stats.packed(), num_phones * STATES)
    packed = packed.reshape(num_phones, STATES, -1)
    seen = np.flatnonzero(packed[:, :, 0].sum(1) > 0)
    seen = seen[seen != SILENCE_ID]
    clusters = [frozenset([int(p)]) for p in seen]
    questions = [frozenset([SILENCE_ID]), *clusters]
    for i, j in agglomerate(packed[seen][:, list(states)], floor):
        clusters[i] |= clusters[j]
        questions.append(clusters[i])
    return tuple(questions)


def check_phones(stats: TriphoneStats, num_phones: int) -> None:
    """Raise DataError unless all phone ids lie in ``[0, num_phones)``."""
    if len(stats.keys) and int(stats.keys[:, :3].max()) >= num_phones:
        raise DataError(
            f"the statistics have phone {int(stats.keys[:, :3].max())}, the phone set only "
            f"{num_phones} phones", "triphone statistics", "collect them with the same lexicon",
        )  # fmt: skip


def agglomerate(
    packed: np.ndarray, floor: np.ndarray, threshold: float = np.inf
) -> list[tuple[int, int]]:
    """Join clusters bottom-up while the loss of likelihood stays below a threshold.

    Args:
        packed: ``(N, S, 1 + 2 D)`` statistics of N items with S Gaussians each.
        floor: ``(D,)`` smallest variances.
        threshold: The first join that loses this much or more is not made.

    Returns:
        Joins in order as pairs ``i < j`` of item numbers: cluster i takes in cluster j, and j is
        gone. Of equal losses the first pair is taken.
    """
    packed = packed.copy()
    n = len(packed)
    own = log_likelihood(packed, floor).sum(-1)
    loss = np.full((n, n), np.inf)
    for i in range(n - 1):
        pooled = log_likelihood(packed[i] + packed[i + 1 :], floor).sum(-1)
        loss[i, i + 1 :] = own[i] + own[i + 1 :] - pooled
    joins = []
    for _ in range(n - 1):
        i, j = divmod(int(loss.argmin()), n)
        if not loss[i, j] < threshold:
            break
        joins.append((i, j))
        packed[i] += packed[j]
        own[i] = log_likelihood(packed[i], floor).sum(-1)
        loss[j, :] = loss[:, j] = np.inf
        new = own[i] + own - log_likelihood(packed[i] + packed, floor).sum(-1)
        # Absent pairs (lower triangle, gone clusters) stay infinite; i's own pairs are renewed.
        loss[i, :] = np.where(np.isfinite(loss[i, :]), new, np.inf)
        loss[:, i] = np.where(np.isfinite(loss[:, i]), new, np.inf)
    return joins
