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
from espnet_ext.scoring.budget_ratio import TOLERANCE_PERCENT, number
from espnet_ext.scoring.markdown import table
from espnet_ext.scoring.record import Phase, Record
from espnet_ext.scoring.spent import COUNTS, FACTS

_NONE = "–"
_NOTE = (
    "All phases of training together: counts of each run, the mean time and the highest peak "
    "memory over seeds. A pass is one forward and backward pass of one batch, labelled or "
    f"unlabelled. Runs whose passes differ by at most {TOLERANCE_PERCENT} % have equal budgets; "
    "how they share them between labelled and unlabelled batches is the method's choice."
)


def budget_lines(groups: Mapping[str, Sequence[Record]]) -> list[str]:
    """Return the table of the groups' budgets; empty where no run counts passes."""
    if all(number(r, "passes") is None for runs in groups.values() for r in runs):
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
    return [_NOTE, "", *table(header, rows, {"System", "Seeds"}), ""]


def count_columns(phases: Iterable[Phase]) -> dict[str, str]:
    """Return those of :data:`COUNTS` that any phase has."""
    phases = list(phases)
    return {k: name for k, name in COUNTS.items() if any(getattr(p, k) is not None for p in phases)}


def count_cells(phase: Phase, columns: Iterable[str]) -> list[str]:
    """Return a phase's cells below :func:`count_columns`."""
    return [_range([getattr(phase, key)]) for key in columns]


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
