# SPDX-License-Identifier: Apache-2.0
"""Learning speed: how much training a system needs to get where its reference ends up.

The measure is that by which models are chosen where all runs tell it: the character error rate of
greedy CTC on the development set. Else it is the token accuracy there (with the right history, not
by free decoding), or that of classified utterances, after each epoch of the last training phase,
which costs nothing to record. Epochs are of any length, so it is told by passes over the labelled
data, and by updates, which count those on unlabelled data as well.
"""

import statistics
from collections.abc import Sequence

from espnet_ext.scoring.curve import ACCURACY, Measure, curve, measure_of, one_count
from espnet_ext.scoring.markdown import code, table
from espnet_ext.scoring.page import NONE, TEXT, Page, seeds_of

_RULE = (
    "{measure} on the development set after each epoch of the last phase{of}. Passes are those "
    "over the labelled training data, updates those on any data. To match: what is needed to "
    "match the best {best} of {first} (same seed), means over seeds; – where a run does not reach "
    "it, or where it was not counted."
)


def reaches(values: Sequence[float], goal: float, is_error: bool = False) -> int | None:
    """Return the first epoch, counted from 0, at which ``goal`` is reached, or None."""
    return next((i for i, v in enumerate(values) if (v <= goal if is_error else v >= goal)), None)


def learning_lines(page: Page) -> list[str]:
    """Return the table of learning speed; empty where the reference has no curve.

    The reference is that of the planned comparison, else the system that is best on the main set.
    """
    planned = [c.reference.group for c in page.compared.rows if c.planned]
    if not page.groups:
        return []
    first = next(iter([*planned, *page.groups]))
    measure = measure_of(r for runs in page.groups.values() for r in runs)
    best = min if measure.is_error else max
    told = [(r, c) for runs in page.groups.values() for r in runs if (c := curve(r, measure))]
    found = dict(zip([id(r) for r, _ in told], one_count([c for _, c in told]), strict=True))
    goals = {r.seed: best(c.values) for r in page.groups[first] if (c := found.get(id(r)))}
    rows = []
    for group, runs in page.groups.items():
        paired = [(r.seed, c) for r in runs if r.seed in goals and (c := found.get(id(r)))]
        if not paired:
            continue
        curves = [c for _, c in paired]
        reached = [(c, reaches(c.values, goals[seed], measure.is_error)) for seed, c in paired]
        rows.append(
            [
                group,
                seeds_of(seed for seed, _ in paired),
                f"{statistics.fmean(best(c.values) for c in curves):.4f}",
                _mean([c.passes and c.passes[-1] for c in curves], ".1f"),
                _mean([c.updates[-1] for c in curves], ",.0f"),
                _mean([_at(c.passes, i) for c, i in reached], ".1f"),
                _mean([_at(c.updates, i) for c, i in reached], ",.0f"),
            ]
        )
    if not rows:
        return []
    name = "accuracy" if measure == ACCURACY else "error rate"
    header = ["System", "Seeds", f"Best {name}", "Passes", "Updates"]
    header += ["Passes to match", "Updates to match"]
    return [_rule(measure, name, first), "", *table(header, rows, TEXT), ""]


def _rule(measure: Measure, name: str, first: str) -> str:
    of = " (of tokens with the right history, or of classified utterances)"
    of = of if measure == ACCURACY else ""
    return _RULE.format(measure=measure.title, of=of, best=name, first=code(first))


def _at(counts: Sequence[float] | None, epoch: int | None) -> float | None:
    return None if counts is None or epoch is None else counts[epoch]


def _mean(values: Sequence[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    return format(statistics.fmean(known), form) if len(known) == len(values) else NONE
