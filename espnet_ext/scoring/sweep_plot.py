# SPDX-License-Identifier: Apache-2.0
"""The picture of a sweep: a metric over one swept value, one curve with its interval per group.

Names have no distance between them: they get an axis of categories, and points without a line.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

# Okabe-Ito: told apart by colour-blind readers; the marker and line style tell in print.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS = "osD^vPX"
_STYLES = ("-", "--", "-.", ":")
_DODGE = 0.12  # of the distance of two categories, between groups
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
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise SetupError(
            "drawing a sweep needs matplotlib", path, "pip install 'espnet_ext[plot]' (or [dev])"
        ) from None

    # A bare Figure draws with Agg: no window system, no state shared with the caller's pyplot.
    figure = Figure(figsize=(6.4, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    if isinstance(points[0].x, str):
        lines = [
            _draw_names(axes, i, curve, [places[p.x] + _dodge(i, len(curves)) for p in curve])
            for i, curve in enumerate(curves.values())
        ]
        slant = {"rotation": 20, "ha": "right"} if len(places) > _LEVEL else {}
        axes.set_xticks(range(len(places)), [literal(name) for name in places], **slant)
    else:
        lines = [_draw(axes, i, curve) for i, curve in enumerate(curves.values())]
    axes.set_xlabel(literal(x_label), fontsize=12)
    axes.set_ylabel(literal(y_label), fontsize=12)
    axes.tick_params(labelsize=11)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if any(curves):
        axes.legend(lines, [literal(g) for g in curves], fontsize=11, frameon=False)
    with atomic_path(path) as tmp:
        # The temporary name does not end in .png, and the version tag would change the bytes.
        figure.savefig(tmp, format="png", metadata={"Software": None})
    return Path(path)


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
    color = _COLORS[number % len(_COLORS)]
    axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    # The band of a single point has no width; the bars show it.
    axes.vlines(x, low, high, color=color, alpha=0.5, linewidth=1)
    style = {"marker": _MARKERS[number % len(_MARKERS)], "ls": _STYLES[number % len(_STYLES)]}
    return axes.plot(x, mean, color=color, **style)[0]


def _dodge(number: int, count: int) -> float:
    """Return how far the points of a group stand from their name, so that groups do not overlap."""
    return _DODGE * (number - (count - 1) / 2)


def _draw_names(axes: "Axes", number: int, curve: list[SweepPoint], x: list[float]) -> "Line2D":
    color, marker = _COLORS[number % len(_COLORS)], _MARKERS[number % len(_MARKERS)]
    axes.vlines(x, [p.low for p in curve], [p.high for p in curve], color=color, alpha=0.5)
    return axes.plot(x, [p.mean for p in curve], color=color, marker=marker, ls="none")[0]


def literal(text: str) -> str:
    """Keep a dollar sign in a name from starting mathematical text."""
    return text.replace("$", r"\$")
