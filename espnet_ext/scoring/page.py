# SPDX-License-Identifier: Apache-2.0
"""What the sections of a results page share: which runs belong together, how numbers look."""

import statistics
from collections import defaultdict
from collections.abc import Iterable

from espnet_ext.scoring.comparison import reference_of
from espnet_ext.scoring.record import Decoded, Kind, Record

NONE = "–"
TEXT = {"System", "Set", "Decoding", "Seeds", "Verdict", "Run", "Phase", "Task"}  # set left


def decodings(records: Iterable[Record], kind: Kind) -> list[tuple[str, str]]:
    """Return the ``(set, method)`` pairs that any run has scored in this way, sorted."""
    return sorted(
        {
            (name, method)
            for r in records
            for name, methods in r.sets.items()
            for method, decoded in methods.items()
            if decoded.kind == kind
        }
    )


def by_group(records: Iterable[Record], first: str | None) -> dict[str, list[Record]]:
    """Return runs by group: the group ``first`` before all, then by name; runs by seed."""
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda r: (r.group != first, r.group, r.seed)):
        groups[record.group].append(record)
    return groups


def having(records: Iterable[Record], name: str, method: str, kind: Kind) -> list[Record]:
    """Return the runs that have scored this set and method in this way."""
    scored = ((r, r.sets.get(name, {}).get(method)) for r in records)
    return [r for r, decoded in scored if decoded is not None and decoded.kind == kind]


def by_reference(runs: Iterable[Record], name: str, method: str) -> list[tuple[str, list[Record]]]:
    """Return runs of one group apart by reference: a mean over different ones means nothing.

    Returns:
        ``(addition to the system's name, runs)``; the addition is empty for a single reference.
    """
    by_ref: dict[str, list[Record]] = defaultdict(list)
    for run in runs:
        by_ref[reference_of(run.sets[name][method])].append(run)
    return [
        (f" (reference {same[0].sets[name][method].ref_sha256[:12]})" if len(by_ref) > 1 else "",
         same)
        for same in by_ref.values()
    ]  # fmt: skip


def scores_of(runs: Iterable[Record], name: str, method: str) -> list[Decoded]:
    """Return the scores of runs that all have them."""
    return [r.sets[name][method] for r in runs]


def mean(values: Iterable[float]) -> str:
    """Return the mean, with the sample standard deviation where there are several values."""
    values = list(values)
    spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.2f}{spread}"


def signed(value: float, digits: int) -> str:
    """Return a number with its sign; 0 has none."""
    rounded = round(value, digits) + 0.0  # turns -0.0 into 0.0
    return f"{rounded:+.{digits}f}" if rounded else f"{rounded:.{digits}f}"


def seeds_of(seeds: Iterable[int]) -> str:
    """Return the seeds in order."""
    return ", ".join(str(s) for s in sorted(seeds)) or NONE
