# SPDX-License-Identifier: Apache-2.0
"""One row a recipe: the comparison that its recipe.yaml planned, as its RESULTS.md judges it.

A recipe that planned none shows its best system. :mod:`~.summary_page` writes the rows into a page.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.scoring.budget_ratio import count_labels
from espnet_ext.scoring.comparison import Comparison, judge
from espnet_ext.scoring.markdown import cell, table
from espnet_ext.scoring.page import NONE, bounds, signed
from espnet_ext.scoring.pairs import planned_comparison
from espnet_ext.scoring.record import load_records
from espnet_ext.scoring.record_base import SWEEP
from espnet_ext.scoring.results import sets_of
from espnet_ext.scoring.scored import Field, Scores
from espnet_ext.scoring.settings import read_settings

_HEADER = (
    *("Recipe", "Metric", "Baseline", "Method", "Change", "95 % interval", "Seeds", "Budget"),
    "Verdict",
)
_TEXT = {"Recipe", "Metric", "Verdict"}


@dataclass(frozen=True)
class Row:
    """What the summary shows of a recipe.

    Attributes:
        recipe: ``corpus/method``.
        page: Its RESULTS.md, relative to the summary's page.
        field: The metric and the set, with the systems.
        comparison: The planned comparison, judged; None where the recipe planned none.
        best: Score of its best system, percent.
        system: The name of the best system.
    """

    recipe: str
    page: str
    field: Field
    comparison: Comparison | None
    best: float
    system: str

    @property
    def interval(self) -> tuple[float, float] | None:
        """The union of both 95 % intervals of the change, as a verdict needs both to exclude 0."""
        r = None if self.comparison is None else self.comparison.result
        if r is None:
            return None
        return (
            min(x for x in (r.low, r.t_low) if x is not None),
            max(x for x in (r.high, r.t_high) if x is not None),
        )


def read_rows(root: Path, recipes: Sequence[str]) -> list[Row]:
    """Read the records of recipes, given by their folders below ``root``.

    Raises:
        DataError: A recipe has no usable record; names it.
    """
    return [_row(root, name) for name in recipes]


def _row(root: Path, name: str) -> Row:
    folder = root / name
    settings = read_settings(folder / "recipe.yaml")
    records = [r for r in load_records(folder / "results") if not r.group.startswith(SWEEP)]
    if planned := settings.planned:
        records = [r for r in records if r.group in (planned.system, planned.against)]
    scores = Scores(count_labels(records, settings.unlabelled), settings.metrics)
    _, sets = sets_of(records, settings)
    field = next((f for s in sets for f in scores.fields(s)), None)
    if field is None:
        raise DataError("the recipe has no scores to show", folder / "results", "run the recipe")
    comparison = None
    if planned:
        comparison, missing = planned_comparison(scores, sets, planned)
        if comparison is None:
            how = "run the two systems, or change results.planned of recipe.yaml"
            raise DataError(f"the planned comparison lacks records: {missing}", folder, how)
        comparison = judge([comparison])[0]
        field = next(f for f in scores.fields(comparison.set_name) if f.metric == comparison.metric)
    best = scores.ranked(field)[0]
    return Row(
        "/".join(Path(name).parts[-2:]), f"{name}/RESULTS.md", field, comparison,
        float(scores.values(field, best).mean()), best.group,
    )  # fmt: skip


def summary_lines(rows: Sequence[Row], figure: str | None = None) -> list[str]:
    """Return the lines of the table, of its legend, and of the figure."""
    lines = ["", *table(_HEADER, [_cells(r) for r in rows], _TEXT), ""]
    judged = Counter(r.comparison.verdict for r in rows if r.comparison)
    if judged:
        order = ("better", "n.s.", "half-trained", "not comparable", "worse")
        counts = ", ".join(f"{judged[v]} {v}" for v in order if judged[v] or v == "better")
        lines += [
            f"Verdicts of the planned comparisons: {counts}. Percent; means over the seeds "
            "that both systems have. The interval covers the two-level bootstrap and the t "
            "interval. Budget: training of the method divided by the baseline's. **n.s.**: no "
            "difference shown; **half-trained**: the weaker system was still learning; **not "
            "comparable**: the winner had the larger budget.",
            "",
        ]
    if figure:
        lines += [
            f"![Change of the error against the baseline, planned comparisons]({figure})",
            "",
        ]
    return lines


def _cells(row: Row) -> list[str]:
    metric = row.field.metric
    up = ", higher is better" if metric.better == "higher" else ""
    head = [f"[{cell(row.recipe)}]({row.page})", f"{metric.title} on {row.field.set_name}{up}"]
    c = row.comparison
    if c is None:
        seeds = max(len(runs) for runs in row.field.systems.values())
        return [*head, NONE, f"{row.best:.2f} ({row.system})", *[NONE] * 2, str(seeds), NONE, NONE]
    budget = NONE if c.budget is None else f"{c.budget.ratio:.2f}x"
    if c.result is None:
        return [*head, c.reference.group, c.system.group, *[NONE] * 3, budget, c.verdict]
    scores = (c.score_reference, c.reference.group), (c.score, c.system.group)
    numbers = [signed(c.result.delta, 2), bounds(*row.interval), str(len(c.seeds)), budget]
    verdict = "**better**" if c.verdict == "better" else c.verdict
    return [*head, *(f"{score:.2f} ({name})" for score, name in scores), *numbers, verdict]
