# SPDX-License-Identifier: Apache-2.0
"""The tables of a page: scores with seeds and intervals, costs of the phases, origins of runs."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from espnet_ext.progress import duration
from espnet_ext.report.experiments import Experiment
from espnet_ext.scoring.budget import count_columns
from espnet_ext.scoring.comparison import Comparison
from espnet_ext.scoring.page import (
    NONE,
    Page,
    bounds,
    by_reference,
    mean,
    name_of,
    seeds_of,
    signed,
)
from espnet_ext.scoring.results_compare import against, verdict
from espnet_ext.scoring.scored import Field, System


@dataclass(frozen=True)
class Cell:
    """A cell: its text, and the number that it is sorted by (None: by the text)."""

    text: str
    key: float | None = None


@dataclass(frozen=True)
class ScoreRow:
    """A system's score of one metric on one set.

    Attributes:
        system: Place of the system, for the colour.
        name: Of the system.
        seeds: Of its runs.
        value: Mean over seeds, percent.
        text: The mean, with the standard deviation over seeds.
        low: Lower end of the 95 % interval.
        high: Its upper end.
        runs: ``(name of the run, seed, value)``.
        parts: Further columns of the metric, and the speed of decoding.
        verdict: Of the main set: ``(against, change, its interval, verdict, remarks)``, or empty.
        picture: Places of the interval, the mean and the runs, in percent of the width.
    """

    system: int
    name: str
    seeds: str
    value: float
    text: str
    low: float
    high: float
    runs: list[tuple[str, int, float]]
    parts: list[str]
    verdict: tuple[str, ...]
    picture: dict[str, Any]


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one metric on one set."""

    set_name: str
    title: str
    note: str
    columns: list[str]
    rows: list[ScoreRow]
    judged: bool


def score_tables(page: Page, systems: dict[str, int]) -> list[ScoreTable]:
    """Return a table for each metric of each set, the main one first."""
    sets = [*page.sets, *([page.development] if page.development else [])]
    fields = [f for name in sets for f in page.scores.fields(name)]
    return [_table(page, f, systems) for f in fields]


def _table(page: Page, field: Field, systems: dict[str, int]) -> ScoreTable:
    parts = list(field.metric.columns)
    judged = field == page.main and any(against(page, s) for s in field.systems)
    found = []
    for system in page.scores.ranked(field):
        for addition, runs in by_reference(field, system):
            scored = [r.sets[field.set_name][system.method] for r in runs]
            values = [d.value(field.metric) for d in scored]
            interval = page.scores.interval(field, runs, system.method)
            shares = [
                statistics.fmean(field.metric.column(t, d.metrics[field.metric.name].totals)
                                 for d in scored) for t in parts
            ]  # fmt: skip
            speeds = [d.rtf for d in scored if d.rtf is not None]
            texts = [NONE if math.isnan(x) else f"{x:.2f}" for x in shares]
            texts.append(f"{statistics.fmean(speeds):.3f}" if speeds else NONE)
            name = name_of(system, field.systems) + addition
            found.append((system, name, runs, values, interval, texts))
    every = [v for *_, values, interval, _ in found for v in (*values, *interval)]
    about = f"{scored[0].utterances:,} utterances, {field.metric.better} is better"
    return ScoreTable(
        field.set_name,
        field.metric.title,
        f"{about}. {field.metric.note}".strip(),
        [*parts, "RTF"],
        [
            ScoreRow(
                systems[system.group], name, seeds_of(r.seed for r in runs),
                statistics.fmean(values), mean(values), *interval,
                [(r.name, r.seed, v) for r, v in zip(runs, values, strict=True)],
                texts, _verdict(page, system) if judged else (), _picture(values, interval, every),
            )
            for system, name, runs, values, interval, texts in found
        ],
        judged,
    )  # fmt: skip


def _picture(
    values: Sequence[float], interval: tuple[float, float], every: Sequence[float]
) -> dict[str, Any]:
    low, high = min(every), max(every)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(4 + 92 * (value - low) / span, 2)

    return {
        "low": place(interval[0]),
        "width": round(place(interval[1]) - place(interval[0]), 2),
        "mean": place(statistics.fmean(values)),
        "seeds": [place(v) for v in values] if len(values) > 1 else [],
    }


def _verdict(page: Page, system: System) -> tuple[str, ...]:
    c: Comparison | None = against(page, system)
    if c is None:
        return (NONE, NONE, "", "reference", "")
    change, interval = NONE, ""
    if c.result is not None:
        change = signed(c.result.delta, 2)
        interval = bounds(c.result.low, c.result.high)
    name = name_of(c.reference, page.main.systems)
    return (name, change, interval, verdict(c), "; ".join(c.remarks))


@dataclass(frozen=True)
class CostTable:
    """What the phases of each run cost."""

    columns: list[str]
    rows: list[list[Cell]]


def cost_table(experiments: Sequence[Experiment]) -> CostTable:
    """Return a row for each phase of each run; of a run that was not scored what is known."""
    recorded = [p for e in experiments if e.record for p in e.record.phases.values()]
    counts = count_columns(recorded)
    columns = ["Run", "Phase", "Task", "Time", "Peak memory", "GPU memory"]
    columns += ["Parameters", "Trained", "Epochs", "Updates", *counts.values(), "Device"]
    rows = [_cost(e, name, cost, [*counts]) for e in experiments for name, cost in e.costs.items()]
    return CostTable(columns, rows)


def _cost(e: Experiment, phase: str, cost: dict[str, Any], counts: list[str]) -> list[Cell]:
    wall = cost.get("train_wall_s")
    devices = cost.get("devices") or ([e.record.device] if e.record else [])
    return [
        Cell(e.name), Cell(phase), Cell(str(cost.get("task", NONE)).rpartition(":")[2]),
        Cell(NONE if wall is None else duration(wall), wall),
        _memory(cost.get("peak_rss_mb")), _memory(cost.get("peak_gpu_mb") or None),
        *(_count(cost.get(k)) for k in ("params", "params_trained", "epochs", "updates", *counts)),
        Cell("; ".join(devices) or NONE),
    ]  # fmt: skip


def _memory(mb: float | None) -> Cell:
    return Cell(NONE) if mb is None else Cell(f"{mb:,.0f} MB", mb)


def _count(value: float | None) -> Cell:
    if value is None:
        return Cell(NONE)
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:,.2f}", float(value))


def origins(experiments: Sequence[Experiment]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Return where each scored run comes from: ``(name, [(what, value)])``."""
    out = []
    for e in experiments:
        if (r := e.record) is None:
            continue
        state = " with uncommitted changes" if r.dirty else ""
        versions = ", ".join(f"{k} {v}" for k, v in sorted(r.versions.items()))
        facts = [
            ("recipe", f"{r.recipe}: {r.title}"),
            ("command", r.command),
            ("commit", r.commit + state),
            ("date", r.date),
            ("seed", str(r.seed)),
            ("trained on", r.device),
            ("versions", versions),
            ("configuration (SHA-256)", r.config_sha256),
            *((f"reference of {s} (SHA-256)", ", ".join(sorted({d.ref_sha256 for d in m.values()})))
              for s, m in sorted(r.sets.items())),
            *([("frame labels", ", ".join(f"{k} {v}" for k, v in r.alignment.items()))]
              if r.alignment else []),
            *([("text encoder", ", ".join(f"{k} {v}" for k, v in r.encoder.items()))]
              if r.encoder else []),
        ]  # fmt: skip
        out.append((e.name, facts))
    return out
