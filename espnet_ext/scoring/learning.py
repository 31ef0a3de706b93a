# SPDX-License-Identifier: Apache-2.0
"""Learning speed: how much training a system needs to get where its reference ends up.

The measure is the token accuracy on the development set (with the right history, not by free
decoding), or that of classified utterances, after each epoch of the last training phase, which
costs nothing to record. Epochs are of any length, so it is told by passes over the labelled data,
and by updates, which count those on unlabelled data as well.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from espnet_ext.scoring.markdown import code, table
from espnet_ext.scoring.page import NONE, TEXT, Page, last_phase, seeds_of
from espnet_ext.scoring.record import Record

_RULE = (
    "Accuracy on the development set after each epoch of the last phase (of tokens with the right "
    "history, or of classified utterances). Passes are those over the labelled training data, "
    "updates those on any data. To match: what is needed to match the best accuracy of {first} "
    "(same seed), means over seeds; – where a run does not reach it, or where it was not counted."
)


@dataclass(frozen=True)
class Curve:
    """Accuracy after each epoch of the last phase, and what had been done by then.

    Attributes:
        values: Accuracies, 0 to 1.
        updates: Of all kinds.
        passes: Over the labelled training data; None where a record does not tell.
    """

    values: Sequence[float]
    updates: Sequence[float]
    passes: Sequence[float] | None


def curve(record: Record) -> Curve | None:
    """Return the curve of the last phase; None where it was not recorded.

    Records of earlier releases count no updates by epoch: epochs are taken as equally long, and as
    one pass each where all batches are labelled.
    """
    phase = last_phase(record)
    if phase is None or not phase.valid_acc:
        return None
    count = len(phase.valid_acc)
    updates, passes = phase.valid_updates, phase.valid_passes
    if len(updates) != count:
        updates = [phase.updates * i / count for i in range(1, count + 1)]
        passes = range(1, count + 1) if phase.labelled_batches is None else []
    return Curve(phase.valid_acc, updates, passes if len(passes) == count else None)


def reaches(values: Sequence[float], goal: float) -> int | None:
    """Return the first epoch, counted from 0, at which ``goal`` is reached, or None."""
    return next((i for i, v in enumerate(values) if v >= goal), None)


def learning_lines(page: Page) -> list[str]:
    """Return the table of learning speed; empty where the reference has no curve.

    The reference is that of the planned comparison, else the system that is best on the main set.
    """
    planned = [c.reference.group for c in page.compared.rows if c.planned]
    if not page.groups:
        return []
    first = next(iter([*planned, *page.groups]))
    goals = {r.seed: max(c.values) for r in page.groups[first] if (c := curve(r))}
    rows = []
    for group, runs in page.groups.items():
        paired = [(r.seed, c) for r in runs if r.seed in goals and (c := curve(r))]
        if not paired:
            continue
        curves = [c for _, c in paired]
        reached = [(c, reaches(c.values, goals[seed])) for seed, c in paired]
        rows.append(
            [
                group,
                seeds_of(seed for seed, _ in paired),
                f"{statistics.fmean(max(c.values) for c in curves):.4f}",
                _mean([c.passes and c.passes[-1] for c in curves], ".1f"),
                _mean([c.updates[-1] for c in curves], ",.0f"),
                _mean([_at(c.passes, i) for c, i in reached], ".1f"),
                _mean([_at(c.updates, i) for c, i in reached], ",.0f"),
            ]
        )
    if not rows:
        return []
    header = ["System", "Seeds", "Best accuracy", "Passes", "Updates"]
    header += ["Passes to match", "Updates to match"]
    return [_RULE.format(first=code(first)), "", *table(header, rows, TEXT), ""]


def _at(counts: Sequence[float] | None, epoch: int | None) -> float | None:
    return None if counts is None or epoch is None else counts[epoch]


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    return format(statistics.fmean(known), form) if len(known) == len(values) else NONE
