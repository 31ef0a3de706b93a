# SPDX-License-Identifier: Apache-2.0
"""Learning speed: how many epochs a system needs to get where its reference ends up.

The measure is the token accuracy on the development set (with the right history, not by free
decoding), or that of classified utterances, after each epoch of the last training phase, which
costs nothing to record.
"""

import statistics

from espnet_ext.scoring.markdown import code, table
from espnet_ext.scoring.page import NONE, TEXT, Page, last_phase, seeds_of
from espnet_ext.scoring.record import Record

_RULE = (
    "Accuracy on the development set after each epoch of the last phase (of tokens with the right "
    "history, or of classified utterances). Epochs to match: epochs needed to match the best "
    "accuracy of {first} (same seed), means over seeds; – where a run does not reach it."
)


def curve(record: Record) -> list[float]:
    """Return the accuracy after each epoch of the last phase; empty where it was not recorded."""
    phase = last_phase(record)
    return phase.valid_acc if phase else []


def epochs_to(values: list[float], goal: float) -> int | None:
    """Return the number of epochs until ``goal`` is reached, or None."""
    return next((i for i, v in enumerate(values, 1) if v >= goal), None)


def learning_lines(page: Page) -> list[str]:
    """Return the table of learning speed; empty where the reference has no curve.

    The reference is that of the planned comparison, else the system that is best on the main set.
    """
    planned = [c.reference.group for c in page.compared.rows if c.planned]
    if not page.groups:
        return []
    first = next(iter([*planned, *page.groups]))
    goals = {r.seed: max(curve(r)) for r in page.groups[first] if curve(r)}
    rows = []
    for group, runs in page.groups.items():
        paired = [r for r in runs if r.seed in goals and curve(r)]
        if not paired:
            continue
        epochs = [epochs_to(curve(r), goals[r.seed]) for r in paired]
        own = statistics.fmean(len(curve(r)) for r in paired)
        reached = None not in epochs
        rows.append(
            [
                group,
                seeds_of(r.seed for r in paired),
                f"{statistics.fmean(max(curve(r)) for r in paired):.4f}",
                f"{own:.0f}",
                f"{statistics.fmean(e or 0 for e in epochs):.1f}" if reached else NONE,
            ]
        )
    if not rows:
        return []
    header = ["System", "Seeds", "Best accuracy", "Epochs", "Epochs to match"]
    return [_RULE.format(first=code(first)), "", *table(header, rows, TEXT), ""]
