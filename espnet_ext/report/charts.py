# SPDX-License-Identifier: Apache-2.0
"""Curves of the training phases and intervals of scores, as shapes in the units of a drawing."""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from espnet_ext.report.experiments import Experiment
from espnet_ext.scoring.curve import PHASES

WIDTH, HEIGHT = 520, 260
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 34  # margins
MAIN = ("loss", "acc", "cer_ctc")  # what comes first; the other measures are folded away
TITLES = {
    "loss": "Loss",
    "acc": "Accuracy",
    "cer_ctc": "Character error rate of greedy CTC",
    "optim0_lr0": "Learning rate",
}
HIDDEN = {"clip", "loss_scale"}  # settings rather than measures
PARTS = {"train": "training", "valid": "development"}


@dataclass(frozen=True)
class Line:
    """One measure of one run.

    Attributes:
        system: Place of its system, for the colour.
        label: What a reader calls it.
        part: ``train`` or ``valid``.
        path: Of SVG.
        points: JSON of ``[x, y, text]`` for each epoch, x and y in units of the drawing.
    """

    system: int
    label: str
    part: str
    path: str
    points: str


@dataclass(frozen=True)
class Chart:
    """A picture of one measure; ticks are ``(place, label)``."""

    title: str
    x_label: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]

    @property
    def has_both(self) -> bool:
        """Whether curves of training and of development data are told apart."""
        return len({line.part for line in self.lines}) > 1


@dataclass(frozen=True)
class Phase:
    """The charts of one training phase: the main ones, and the others."""

    name: str
    main: list[Chart]
    more: list[Chart]


Series = tuple[Experiment, str, list[tuple[float, float, int]]]  # run, part, (x, y, epoch)


def phases(experiments: Sequence[Experiment], systems: Mapping[str, int]) -> list[Phase]:
    """Return the charts of every phase that any run has, a chart for each measure.

    Args:
        experiments: The runs.
        systems: Place of each system by its name.
    """
    out = []
    known = {p for e in experiments for p in e.curves}
    for name in [*(p for p in PHASES if p in known), *sorted(known - {*PHASES})]:
        runs = [e for e in experiments if name in e.curves]
        found = {
            m
            for e in runs
            for epoch in e.curves[name]
            for part in PARTS
            for m in epoch.get(part, {})
        } - HIDDEN
        others = sorted(found - {*MAIN}, key=lambda m: (m not in TITLES, m))
        charts = {m: _chart(runs, name, m, systems) for m in (*MAIN, *others) if m in found}
        first = [c for m, c in charts.items() if m in MAIN]
        rest = [c for m, c in charts.items() if m not in MAIN]
        out.append(Phase(name, first or rest[:2], rest if first else rest[2:]))
    return out


def _chart(
    runs: Sequence[Experiment], phase: str, measure: str, systems: Mapping[str, int]
) -> Chart:
    by_update = all(x.get("updates") is not None for e in runs for x in e.curves[phase])
    series: list[Series] = []
    for e in runs:
        for part in PARTS:
            points = [
                (float(x["updates"] if by_update else n), float(x[part][measure]), n)
                for n, x in enumerate(e.curves[phase], 1)
                if measure in x.get(part, {})
            ]
            if points:
                series.append((e, part, points))
    every = [p for *_, points in series for p in points]
    x_ticks, to_x = axis([p[0] for p in every], LEFT, WIDTH - RIGHT, whole=True)
    y_ticks, to_y = axis([p[1] for p in every], HEIGHT - BOTTOM, TOP)
    lines = []
    for e, part, points in series:
        at = [(round(to_x(x), 1), round(to_y(y), 1)) for x, y, _ in points]
        told = [
            f"epoch {n}" + (f", {x:,.0f} updates" if by_update else "") + f": {_number(y)}"
            for x, y, n in points
        ]
        label = f"{e.name}, {PARTS[part]}"
        path = "M" + "L".join(f"{x} {y}" for x, y in at)
        shapes = json.dumps([[*xy, text] for xy, text in zip(at, told, strict=True)])
        lines.append(Line(systems[e.group], label, part, path, shapes))
    return Chart(
        TITLES.get(measure, measure.replace("_", " ")),
        "updates" if by_update else "epoch",
        lines,
        x_ticks,
        y_ticks,
    )


def axis(
    values: Iterable[float], start: float, end: float, whole: bool = False
) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Return ticks ``(place, label)``, and a function from a value to its place.

    Args:
        values: All that are drawn, finite.
        start: Place of the least.
        end: Place of the greatest.
        whole: Whether they are counts, so that the axis begins at 0 and has no broken numbers.
    """
    values = list(values)
    low, high = min(values), max(values)
    if whole or (low > 0 and low < 0.35 * high):
        low = min(low, 0.0)
    if low == high and whole:
        high = low + 1
    elif low == high:
        low, high = low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2
    step = nice(high - low)
    if whole:
        step = max(1.0, step)
    low = math.floor(low / step + 1e-9) * step
    high = high if whole else math.ceil(high / step - 1e-9) * step

    def place(value: float) -> float:
        return start + (value - low) / (high - low) * (end - start)

    count = int((high - low) / step + 1e-6)
    ticks = [low + i * step for i in range(count + 1)]
    return [(round(place(t), 1), _number(t)) for t in ticks], place


def nice(span: float, count: int = 5) -> float:
    """Return a step of 1, 2 or 5 times a power of ten, with which a span has some ``count``."""
    raw = span / count
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)


def _number(value: float) -> str:
    """Return a number as a reader wants it: four digits that count, no trailing zeros."""
    rounded = float(f"{value:.4g}") + 0.0
    if rounded and not 1e-4 <= abs(rounded) < 1e7:
        return f"{rounded:.3g}"
    return f"{rounded:,.6f}".rstrip("0").rstrip(".")
