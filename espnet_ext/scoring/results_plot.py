# SPDX-License-Identifier: Apache-2.0
"""The pictures of a results page: score by system, and how accuracy grew in training."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet_ext.scoring.curve import ACCURACY, Curve, Measure, curve, measure_of, one_count
from espnet_ext.scoring.page import Page, by_reference, name_of
from espnet_ext.scoring.plot import COLORS, STYLES, literal, new_figure, plain_axes, save
from espnet_ext.scoring.scored import Field

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURES = {"scores": "scores.png", "curves": "curves.png"}
_DPI = 100


def draw(page: Page, folder: Path) -> dict[str, str]:
    """Draw the pictures that a page has data for.

    Returns:
        File names below ``folder``, by the picture's name in :data:`PICTURES`.

    Raises:
        SetupError: matplotlib is not installed.
    """
    drawn = {}
    if page.main is not None:
        draw_scores(page, page.main, folder / PICTURES["scores"])
        drawn["scores"] = PICTURES["scores"]
    measure = measure_of(r for runs in page.groups.values() for r in runs)
    found = {group: [curve(r, measure) for r in runs] for group, runs in page.groups.items()}
    curves = {g: [c for c in seeds if c and len(c.values) > 1] for g, seeds in found.items()}
    if any(curves.values()):
        draw_curves(curves, folder / PICTURES["curves"], measure)
        drawn["curves"] = PICTURES["curves"]
    return drawn


def draw_scores(page: Page, field: Field, path: Path | str) -> Path:
    """Draw the systems of one set below each other: dots are seeds, lines 95 % intervals."""
    rows = []
    for system in page.scores.ranked(field):
        for addition, runs in by_reference(field, system):
            values = page.scores.of(field, runs, system.method).values
            interval = page.scores.interval(field, runs, system.method)
            rows.append((name_of(system, field.systems) + addition, values, interval))
    figure = new_figure(path, (6.8, 1.1 + 0.36 * len(rows)), _DPI)
    axes = figure.add_subplot()
    for y, (_, values, (low, high)) in enumerate(rows):
        axes.hlines(y, low, high, color=COLORS[0], linewidth=2, alpha=0.45)
        axes.plot(values.mean(), y, "D", color=COLORS[0], ms=7)
        spread = np.linspace(-0.16, 0.16, len(values)) if len(values) > 1 else [0.0]
        axes.plot(values, y + np.array(spread), "o", color=COLORS[1], ms=4, alpha=0.9)
        axes.annotate(
            f"{values.mean():.2f}", (max(high, values.max()), y), (7, 0),
            textcoords="offset points", va="center", fontsize=8, color=COLORS[0],
        )  # fmt: skip
    axes.set_yticks(range(len(rows)), [literal(name) for name, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)  # the best on top
    way = "lower" if field.metric.better == "lower" else "higher"
    axes.set_xlabel(literal(f"{field.metric.title} (%) on {field.set_name}, {way} is better"))
    axes.margins(x=0.09)  # room for the numbers
    plain_axes(axes)
    _legend_of_marks(axes)
    return save(figure, path)


MANY = 12  # systems; with more, lines of seeds hide one another


def draw_curves(
    curves: dict[str, list[Curve]], path: Path | str, measure: Measure = ACCURACY
) -> Path:
    """Draw the development score by passes over the labelled data, or else by updates.

    Thick lines are means over seeds, thin ones the seeds, which many systems do without.
    """
    shown = {group: seeds for group, seeds in curves.items() if seeds}
    figure = new_figure(path, (6.8, max(3.6, 0.6 + 0.19 * len(shown))), _DPI)  # for the legend
    axes = figure.add_subplot()
    alike = one_count([c for seeds in shown.values() for c in seeds])
    by_pass = all(c.passes is not None for c in alike)

    def where(c: Curve) -> np.ndarray:
        return np.array(c.passes if by_pass else c.updates)

    for i, (group, seeds) in enumerate(shown.items()):
        color = COLORS[i % len(COLORS)]
        for c in seeds if len(seeds) > 1 and len(shown) <= MANY else ():
            axes.plot(where(c), 100 * np.array(c.values), color=color, lw=0.7, alpha=0.35)
        shared = min(len(c.values) for c in seeds)
        mean = 100 * np.mean([c.values[:shared] for c in seeds], axis=0)
        x = np.mean([where(c)[:shared] for c in seeds], axis=0)
        marker = {"marker": "o", "ms": 3.5} if shared <= 12 else {}
        style = STYLES[(i // len(COLORS)) % len(STYLES)]
        axes.plot(x, mean, style, color=color, lw=1.8, label=literal(group), **marker)
    of = "Passes over the labelled data" if by_pass else "Updates"
    axes.set_xlabel(f"{of} in the last training phase")
    gap = "\n" if measure.is_error else " "  # of a long title
    axes.set_ylabel(f"{measure.title} (%){gap}on the development set")
    if measure.is_error:
        axes.set_ylim(0, min(100, axes.get_ylim()[1]))  # an untrained CTC may insert without end
    axes.xaxis.get_major_locator().set_params(integer=True)
    plain_axes(axes)
    figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return save(figure, path)


def _legend_of_marks(axes: "Axes") -> None:
    from matplotlib.lines import Line2D

    marks = [
        Line2D([], [], ls="", marker="D", color=COLORS[0], ms=6, label="mean"),
        Line2D([], [], color=COLORS[0], lw=2, alpha=0.45, label="95 % interval"),
        Line2D([], [], ls="", marker="o", color=COLORS[1], ms=4, label="a seed"),
    ]
    axes.figure.legend(handles=marks, loc="outside upper right", ncols=3, frameon=False, fontsize=8)
