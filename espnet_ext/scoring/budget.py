# SPDX-License-Identifier: Apache-2.0
"""Budgets: what a training used, and whether runs that are compared used the same.

Methods that train on labelled and on unlabelled batches have no common measure in updates: a
joint update makes two forward-backward passes, an update of supervised training one. Where all
runs have counted their passes, these are the budget; how many of them went to labelled and how
many to unlabelled batches is the method's own choice, and is shown.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from espnet_ext.progress import duration
from espnet_ext.scoring.markdown import table
from espnet_ext.scoring.record import Phase, Record
from espnet_ext.scoring.spent import COUNTS, FACTS

TOLERANCE_PERCENT = 1  # whole epochs seldom end at the same number of passes
_NONE = "–"
_NOTE = (
    "All phases of training together: counts of each run, the mean time and the highest peak "
    "memory over seeds. A pass is one forward and backward pass of one batch, labelled or "
    f"unlabelled. Runs whose passes differ by at most {TOLERANCE_PERCENT} % have equal budgets; "
    "how they share them between labelled and unlabelled batches is the method's choice."
)


def judged_by_updates(runs: Iterable[Record]) -> bool:
    """Whether some runs have counted their passes and others have not."""
    return len({_passes(r) is None for r in runs}) == 2


def comparable_budgets(runs: Sequence[Record]) -> bool:
    """Whether the budgets of ``runs`` (at least one) can be held against each other.

    They can when all are counted in passes, equal or not (:func:`unequal_passes` says which), when
    updates are equal where only some runs have passes, and when the budgets are equal otherwise.
    """
    if judged_by_updates(runs):
        updates = {(r.budget or {}).get("updates") for r in runs}
        return len(updates) == 1 and None not in updates
    return _passes(runs[0]) is not None or all(r.budget == runs[0].budget for r in runs)


def unequal_passes(baseline: Sequence[Record], group: Sequence[Record]) -> str | None:
    """Return a sentence where the passes of any two of the runs differ; None where they are equal.

    None as well where not all runs have counted them.
    """
    of_baseline, of_group = ([_passes(r) for r in runs] for runs in (baseline, group))
    counts = [n for n in of_baseline + of_group if n is not None]
    if not counts or len(counts) < len(of_baseline + of_group):
        return None
    if 100 * (max(counts) - min(counts)) <= TOLERANCE_PERCENT * max(counts):
        return None
    return (
        f"unequal budget: {_range(of_group)} passes against {_range(of_baseline)} of the baseline"
    )


def unequal_means(baseline: Sequence[Record], group: Sequence[Record]) -> str | None:
    """Return a sentence where the groups' mean passes, or else updates, differ; None if equal.

    For methods of which one has a phase more than the other, or that stop early: there the budget
    is a part of what is compared, and is told beside the result.
    """
    for key in ("passes", "updates"):
        values = [[(r.budget or {}).get(key) for r in runs] for runs in (baseline, group)]
        known = [v for of_runs in values for v in of_runs if v is not None]
        if len(known) == len(baseline) + len(group):
            break
    else:
        return "unequal budget: not recorded in all runs" if known else None
    of_baseline, of_group = (statistics.fmean(of_runs) for of_runs in values)
    if 100 * abs(of_baseline - of_group) <= TOLERANCE_PERCENT * max(of_baseline, of_group):
        return None
    return f"unequal budget: {of_group:,.0f} {key} against {of_baseline:,.0f} of the baseline"


def budget_lines(groups: Mapping[str, Sequence[Record]]) -> list[str]:
    """Return the section of RESULTS.md on the groups' budgets; empty where no run counts passes."""
    if all(_passes(r) is None for runs in groups.values() for r in runs):
        return []
    header = [
        *("System", "Seeds", "Updates", *COUNTS.values(), "Training time"),
        *("Peak memory (MB)", "Peak GPU memory (MB)", *FACTS.values()),
    ]
    rows = []
    for group, runs in groups.items():
        phases = [p for r in runs for p in r.phases.values()]
        time_s = statistics.fmean(sum(p.train_wall_s for p in r.phases.values()) for r in runs)
        rows.append(
            [
                group,
                ", ".join(str(seed) for seed in sorted(r.seed for r in runs)),
                *(_range([(r.budget or {}).get(k) for r in runs]) for k in ("updates", *COUNTS)),
                duration(time_s) if phases else _NONE,
                _highest(phases, lambda p: p.peak_rss_mb),
                _highest(phases, lambda p: p.peak_gpu_mb),
                *(_fact(phases, key) for key in FACTS),
            ]
        )
    return ["## Budgets", "", _NOTE, "", *table(header, rows, {"System", "Seeds"}), ""]


def count_columns(phases: Iterable[Phase]) -> dict[str, str]:
    """Return those of :data:`COUNTS` that any phase has."""
    phases = list(phases)
    return {k: name for k, name in COUNTS.items() if any(getattr(p, k) is not None for p in phases)}


def count_cells(phase: Phase, columns: Iterable[str]) -> list[str]:
    """Return a phase's cells below :func:`count_columns`."""
    return [_range([getattr(phase, key)]) for key in columns]


def _passes(run: Record) -> int | None:
    passes = (run.budget or {}).get("passes")
    return passes if isinstance(passes, int) else None


def _range(values: Sequence[Any]) -> str:
    """Return ``6,300``, or ``6,290 to 6,310``; a dash where any run has no number."""
    if any(not isinstance(v, int | float) for v in values):
        return _NONE
    low, high = min(values), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _fact(phases: Sequence[Phase], key: str) -> str:
    known = sorted({v for p in phases if (v := getattr(p, key)) is not None})
    return " to ".join(f"{v:.3g}" for v in {known[0]: 0, known[-1]: 0}) if known else _NONE


def _highest(phases: Sequence[Phase], of: Callable[[Phase], float]) -> str:
    return f"{max(map(of, phases)):,.0f}" if phases else _NONE
