# SPDX-License-Identifier: Apache-2.0
"""What the sections of a results page share: the page's data, and how numbers look."""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from espnet_ext.scoring.pairs import Compared
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.scored import Field, Scores, System, reference_of

NONE = "–"
TEXT = {"System", "Set", "Decoding", "Seeds", "Verdict", "Run", "Phase", "Task",
        "Against", "Remarks", "Phases", "Source", "Metric", "Trained out"}  # set left  # fmt: skip


@dataclass(frozen=True)
class Page:
    """What a page is made of.

    Attributes:
        scores: Scores of all runs.
        groups: Runs by group, the best group first; runs by seed.
        main: What the first table and the first figure show; ``None`` without scores.
        sets: Names of the sets that are compared, the main one first.
        development: The development set, if any run has scores of it.
        compared: All comparisons.
        sweeps: Scores of the runs of sweeps, which are shown apart and not compared.
    """

    scores: Scores
    groups: dict[str, list[Record]]
    main: Field | None
    sets: tuple[str, ...]
    development: str | None
    compared: Compared
    sweeps: Scores

    @property
    def records(self) -> list[Record]:
        """All runs, those of sweeps last."""
        return [*self.scores.records, *self.sweeps.records]


def by_group(records: Iterable[Record], order: Sequence[str]) -> dict[str, list[Record]]:
    """Return runs by group: those of ``order`` first, the others by name; runs by seed."""
    place = {group: i for i, group in enumerate(order)}

    def key(r: Record) -> tuple[int, str, int]:
        return place.get(r.group, len(place)), r.group, r.seed

    groups: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=key):
        groups[record.group].append(record)
    return dict(groups)


def by_reference(field: Field, system: System) -> list[tuple[str, list[Record]]]:
    """Return the runs of a system by reference: a mean over different ones means nothing.

    Returns:
        ``(addition to the system's name, runs)``; the addition is empty for a single reference.
    """
    by_ref: dict[str, list[Record]] = defaultdict(list)
    for run, decoded in zip(field.systems[system], field.decoded(system), strict=True):
        by_ref[reference_of(decoded)].append(run)
    shown = {
        ref: runs[0].sets[field.set_name][system.method].ref_sha256[:12]
        for ref, runs in by_ref.items()
    }
    return [
        (f" (reference {shown[ref]})" if len(by_ref) > 1 else "", runs)
        for ref, runs in by_ref.items()
    ]


def name_of(system: System, among: Iterable[System]) -> str:
    """Return a system's name; with its decoding where the group has several, or an unusual one."""
    among = list(among)
    usual, _ = Counter(s.method for s in among).most_common(1)[0]
    several = len({s.method for s in among if s.group == system.group}) > 1
    shown = several or system.method != usual
    return f"{system.group} ({system.method})" if shown else system.group


def folded(summary: str, lines: Sequence[str]) -> list[str]:
    """Return lines that a reader opens; none for none."""
    if not lines:
        return []
    return [f"<details><summary>{summary}</summary>", "", *lines, "</details>", ""]


def mean(values: Iterable[float]) -> str:
    """Return the mean, with the sample standard deviation where there are several values."""
    values = list(values)
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; 0 has none."""
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:+.{digits}f}" if rounded else f"{rounded:.{digits}f}"


def bounds(low: float | None, high: float | None, digits: int = 2) -> str:
    """Return an interval of a change; a dash where there is none."""
    if low is None or high is None:
        return NONE
    return f"{signed(low, digits)} to {signed(high, digits)}"


def seeds_of(seeds: Iterable[int]) -> str:
    """Return the seeds in order, ``1-5`` for a run of them."""
    ordered = sorted(set(seeds))
    if len(ordered) > 2 and ordered[-1] - ordered[0] == len(ordered) - 1:
        return f"{ordered[0]}-{ordered[-1]}"
    return ", ".join(str(s) for s in ordered) or NONE
