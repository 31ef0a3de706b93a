# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep: a metric over one swept value, one curve with its interval per group.

Names have no distance between them: they get an axis of categories, and points without a line.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from espnet_ext.errors import DataError
from espnet_ext.scoring.plot import COLORS, MARKERS, STYLES, literal, new_figure, plain_axes, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

_DODGE = 0.12  # of the distance of two categories, between groups
_FACTOR = 5  # a smaller range is readable on a linear axis
_LEVEL = 4  # more names than these are written aslant


class SweepPoint(NamedTuple):
    """One setting of a sweep.

    Attributes:
        x: The swept value: a number, or a name in all points.
        mean: Mean of the metric over seeds.
        low: Lower bound of its interval.
        high: Upper bound of its interval.
        group: The curve it belongs to; empty when there is one curve only.
    """

    x: float | str
    mean: float
    low: float
    high: float
    group: str = ""


def plot_sweep(points: Iterable[SweepPoint], x_label: str, y_label: str, path: Path | str) -> Path:
    """Draw the curves of a sweep to a PNG file; equal points give an equal picture.

    Args:
        points: In any order, each ``x`` once per group; the order in which names first come is
            that of the axis.
        x_label: Name and unit of the swept value.
        y_label: Name and unit of the metric.
        path: File to write.

    Returns:
        ``path``.

    Raises:
        DataError: There is no point, or a group has two points at one ``x``.
        SetupError: matplotlib is not installed.
    """
    points = list(points)
    places = _places(points)
    curves = _curves(points, places, x_label)
    figure = new_figure(path, (6.4, 4.2), 110)
    axes = figure.add_subplot()
    if isinstance(points[0].x, str):
        lines = [
            _draw_names(axes, i, curve, [places[p.x] + _dodge(i, len(curves)) for p in curve])
            for i, curve in enumerate(curves.values())
        ]
        slant = {"rotation": 20, "ha": "right"} if len(places) > _LEVEL else {}
        axes.set_xticks(range(len(places)), [literal(name) for name in places], **slant)
    else:
        if is_geometric(list(places)):
            _log_axis(axes, sorted(places))
        lines = [_draw(axes, i, curve) for i, curve in enumerate(curves.values())]
    axes.set_xlabel(literal(x_label), fontsize=12)
    axes.set_ylabel(literal(y_label), fontsize=12)
    axes.tick_params(labelsize=11)
    plain_axes(axes)
    if any(curves):
        axes.legend(lines, [literal(g) for g in curves], fontsize=11, frameon=False)
    return save(figure, path)


def is_geometric(values: Sequence[float]) -> bool:
    """Whether numbers are meant as a geometric grid: then a linear axis crowds most of them.

    At least three positive values whose ratios are more alike than their differences, over a
    factor of at least 5: 0.01, 0.1, 1 or 1e-4, 3e-4, 1e-3, but not 0.1, 0.2, 0.3.
    """
    ordered = sorted(values)
    if len(ordered) < 3 or ordered[0] <= 0 or ordered[-1] < _FACTOR * ordered[0]:
        return False
    steps = [b - a for a, b in pairwise(ordered)]
    ratios = [math.log(b / a) for a, b in pairwise(ordered)]
    return max(ratios) / min(ratios) < max(steps) / min(steps)


def _log_axis(axes: "Axes", values: Sequence[float]) -> None:
    """A logarithmic axis, marked at the swept values."""
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_xticks(values, [f"{v:g}" for v in values])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _places(points: list[SweepPoint]) -> dict[float | str, float]:
    """Return where each value stands on the axis: a number at itself, names at 0, 1, ..."""
    values = dict.fromkeys(p.x for p in points)
    return {x: i if isinstance(x, str) else x for i, x in enumerate(values)}


def _curves(
    points: list[SweepPoint], places: dict[float | str, float], x_label: str
) -> dict[str, list[SweepPoint]]:
    """Return the points by group, both in ascending order."""
    curves: dict[str, list[SweepPoint]] = defaultdict(list)
    for point in sorted(points, key=lambda p: (p.group, places[p.x])):
        curve = curves[point.group]
        if curve and curve[-1].x == point.x:
            raise DataError(
                f"two points at {x_label} = {point.x}",
                f"group '{point.group}'",
                "average over seeds before drawing",
            )
        curve.append(point)
    if not curves:
        raise DataError("the sweep has no point to draw", None, "run the sweep first")
    return curves


def _draw(axes: "Axes", number: int, curve: list[SweepPoint]) -> "Line2D":
    x, mean, low, high, _ = zip(*curve, strict=True)
    color = COLORS[number % len(COLORS)]
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    # The band of a single point has no width; the bars show it.
    axes.vlines(x, low, high, color=color, alpha=0.5, linewidth=1)
    style = {"marker": MARKERS[number % len(MARKERS)], "ls": STYLES[number % len(STYLES)]}
    return axes.plot(x, mean, color=color, **style)[0]


def _dodge(number: int, count: int) -> float:
    """Return how far the points of a group stand from their name, so that groups do not overlap."""
    return _DODGE * (number - (count - 1) / 2)


def _draw_names(axes: "Axes", number: int, curve: list[SweepPoint], x: list[float]) -> "Line2D":
    color, marker = COLORS[number % len(COLORS)], MARKERS[number % len(MARKERS)]
    axes.vlines(x, [p.low for p in curve], [p.high for p in curve], color=color, alpha=0.5)
    return axes.plot(x, [p.mean for p in curve], color=color, marker=marker, ls="none")[0]
