# SPDX-License-Identifier: Apache-2.0
"""What the final training phase changed, by the metrics that were taken before it as well."""

from collections.abc import Sequence

from espnet_ext.scoring.markdown import cell, table
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.page import NONE, TEXT, Page, mean, name_of, seeds_of, signed
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.scored import System


def before_lines(page: Page) -> list[str]:
    """Return a table of systems and sets; empty where no run has a score of both times."""
    known = page.scores.metrics
    earlier = {m.before: m for m in known.values() if m.before}
    pairs = [(earlier[name], m) for name, m in known.items() if name in earlier]
    rows, shown = [], set()
    for set_name in page.sets:
        for system, runs in _systems(page, set_name).items():
            cells = [_cell(runs, set_name, system, pair) for pair in pairs]
            shown |= {i for i, text in enumerate(cells) if text != NONE}
            if any(text != NONE for text in cells):
                seeds = seeds_of(r.seed for r in runs)
                rows.append((set_name, name_of(system, _systems(page, set_name)), seeds, cells))
    if not rows:
        return []
    titles = [after.title for i, (_, after) in enumerate(pairs) if i in shown]
    notes = " ".join(after.note for i, (_, after) in enumerate(pairs) if i in shown)
    return [
        "## Before and after the final training phase", "",
        "Before → after (change ± standard deviation over seeds), percent; the model before is the "
        f"one that the final phase started from. {cell(notes)}", "",
        *table(
            ["Set", "System", "Seeds", *titles],
            [[*row, *(c for i, c in enumerate(cells) if i in shown)] for *row, cells in rows],
            TEXT,
        ), "",
    ]  # fmt: skip


def _systems(page: Page, set_name: str) -> dict[System, list[Record]]:
    """Return the runs of each system on a set: in the order of the page, then by method."""
    systems: dict[System, list[Record]] = {}
    for group, runs in page.groups.items():
        for run in runs:
            for method in run.sets.get(set_name, {}):
                systems.setdefault(System(group, method), []).append(run)
    return systems


def _cell(
    runs: Sequence[Record], set_name: str, system: System, pair: tuple[Metric, Metric]
) -> str:
    """Return one metric before and after; a dash unless all runs have both."""
    scored = [run.sets[set_name][system.method] for run in runs]
    if any(metric.name not in d.metrics for d in scored for metric in pair):
        return NONE
    before, after = ([d.value(metric) for d in scored] for metric in pair)
    changes = [b - a for a, b in zip(before, after, strict=True)]
    spread = mean(changes).partition(" ± ")[2]
    change = signed(sum(changes) / len(changes), 2) + (f" ± {spread}" if spread else "")
    return f"{sum(before) / len(before):.2f} → {sum(after) / len(after):.2f} ({change})"
