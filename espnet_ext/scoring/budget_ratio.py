# SPDX-License-Identifier: Apache-2.0
"""The budget of one system relative to that of another.

Where unlabelled batches stand beside labelled ones, the labelled batches are the budget: with equal
ones, what a method gains, it gains from unlabelled data. All passes are shown beside, and a second
table compares at equal passes.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from espnet_ext.scoring.record import Record

TOLERANCE_PERCENT = 1  # whole epochs seldom end at the same number of passes


class Ratio(NamedTuple):
    """Budget of a system relative to its reference's, mean over paired seeds.

    Attributes:
        ratio: 1 for equal budgets.
        more: Whether the system had more than its reference, by more than the tolerance.
        less: Whether it had less.
        note: How the budgets were counted, where that needs saying.
        unit: What was counted: a key of the budget; empty where whole budgets were compared.
        passes: The same ratio of all passes, where ``unit`` is labelled batches.
    """

    ratio: float
    more: bool
    less: bool
    note: str = ""
    unit: str = ""
    passes: float | None = None


def count_labels(records: Iterable[Record], unlabelled: Collection[str]) -> list[Record]:
    """Return the records with labelled and unlabelled batches, where no phase has counted them.

    Args:
        records: Of one recipe.
        unlabelled: Phases that read no label of the task; an update of another phase is a labelled
            batch. Empty: the records as they are.
    """
    return [_counted(r, unlabelled) if unlabelled else r for r in records]


def _counted(record: Record, unlabelled: Collection[str]) -> Record:
    phases = record.phases
    if record.budget is None or any(p.labelled_batches is not None for p in phases.values()):
        return record
    every = sum(p.updates for p in phases.values())
    free = sum(p.updates for name, p in phases.items() if name in unlabelled)
    counts = {"labelled_batches": every - free, "unlabelled_batches": free}
    budget = {"passes": every, **record.budget, **counts}
    return record.model_copy(update={"budget": budget})


def budget_ratio(
    reference: Sequence[Record], system: Sequence[Record], labelled: bool = True
) -> Ratio | None:
    """Return the budget of a system relative to that of its reference, runs paired by seed.

    Labelled batches are compared where all runs have counted them and any has unlabelled ones,
    else passes where all have these, else updates, else whole budgets, which are equal or not
    comparable.

    Args:
        reference: Its runs.
        system: Its runs, of the same seeds.
        labelled: Whether labelled batches may be the budget; if not, passes are.

    Returns:
        ``None`` where the budgets cannot be held against each other.
    """
    runs = [*reference, *system]
    beside = labelled and any(number(r, "unlabelled_batches") for r in runs)
    for key in (*(["labelled_batches"] if beside else []), "passes", "updates"):
        if all(number(r, key) for r in runs):
            total, base = (sum(number(r, key) for r in side) for side in (system, reference))
            slack = TOLERANCE_PERCENT * max(total, base)
            counted = any(number(r, "passes") for r in runs)
            note = "compared in updates: not all runs counted passes"
            passes = None
            if key == "labelled_batches":
                known = budget_ratio(reference, system, labelled=False)
                passes = known.ratio if known and known.unit == "passes" else None
            return Ratio(
                total / base, 100 * (total - base) > slack, 100 * (base - total) > slack,
                note if key == "updates" and counted else "", key, passes,
            )  # fmt: skip
    equal = runs[0].budget is not None and all(r.budget == runs[0].budget for r in runs)
    return Ratio(1.0, False, False) if equal else None


def number(run: Record, key: str) -> int | None:
    """Return a count of a run's budget; None where it was not recorded."""
    found = (run.budget or {}).get(key)
    return found if isinstance(found, int) else None
