# SPDX-License-Identifier: Apache-2.0
"""The figure of a summary: what each planned comparison changed, with its seeds and its verdict."""

from collections.abc import Sequence
from pathlib import Path

from espnet_ext.scoring.plot import COLORS, literal, new_figure, plain_axes, save
from espnet_ext.scoring.summary import Row

# Verdicts that claim something are filled; the colour of a claim that fell through is another.
_COLOR = {"better": COLORS[2], "worse": COLORS[1], "n.s.": COLORS[0]}
_OTHER = COLORS[5]


def draw_summary(rows: Sequence[Row], path: Path | str, note: str = "") -> Path:
    """Draw the changes of error below each other: dots are seeds, lines 95 % intervals.

    Where a higher score is better, the change is turned round, so that left is always better.

    Args:
        rows: Of the table; those without a comparison are left out.
        path: PNG file.
        note: Kept in the file, to tell later what it was drawn from.

    Raises:
        SetupError: matplotlib is not installed.
    """
    shown = [r for r in rows if r.comparison is not None and r.interval is not None]
    figure = new_figure(path, (8.2, 1.0 + 0.42 * len(shown)), 110)
    axes = figure.add_subplot()
    for y, row in enumerate(shown):
        c = row.comparison
        sign = 1 if row.field.metric.better == "lower" else -1
        color = _COLOR.get(c.verdict, _OTHER)
        axes.hlines(y, *(sign * x for x in row.interval), color=color, linewidth=2.5, alpha=0.45)
        changes = [sign * x for x in c.result.changes]
        axes.plot(changes, [y] * len(changes), "o", color=color, ms=4, alpha=0.75)
        claimed = c.verdict in ("better", "worse")
        axes.plot(sign * c.result.delta, y, "D", color=color, ms=7, mfc=color if claimed else "w")
        axes.annotate(
            c.verdict, (1.0, y), (8, 0), xycoords=("axes fraction", "data"),
            textcoords="offset points", va="center", fontsize=9, color=color,
        )  # fmt: skip
    axes.axvline(0, color="black", lw=0.9)
    names = [f"{r.recipe}\n{r.comparison.system.group} – {r.comparison.reference.group}"
             for r in shown]  # fmt: skip
    axes.set_yticks(range(len(shown)), [literal(n) for n in names], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("Change of the error in percentage points, left of 0 is better")
    plain_axes(axes)
    return save(figure, path, note)
