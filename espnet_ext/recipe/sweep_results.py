# SPDX-License-Identifier: Apache-2.0
"""The curve and the table of a finished sweep, from its run records only."""

import statistics
from itertools import groupby
from pathlib import Path

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.recipe.console import say
from espnet_ext.recipe.steps.record import write_page
from espnet_ext.recipe.sweep_grid import Run, Sweep
from espnet_ext.scoring.markdown import table
from espnet_ext.scoring.metrics import Metric, find
from espnet_ext.scoring.record import Decoded, load_record
from espnet_ext.scoring.scored import reference_of
from espnet_ext.scoring.significance import interval as resampled_interval
from espnet_ext.scoring.significance import resample
from espnet_ext.scoring.sweep_plot import SweepPoint, plot_sweep


def report(sweep: Sweep, runs: list[Run], draw: bool = True) -> list[Path]:
    """Print a table and draw a curve for each metric of a sweep; write the page, which shows them.

    Args:
        sweep: With ``set``, ``method`` and ``x_label`` filled in.
        runs: All runs of the sweep, those that differ by their seed only next to each other.
        draw: Whether to draw; else there are tables only.

    Returns:
        The pictures, in the order of the metrics.

    Raises:
        DataError: A run has no record, none of this set and method, or another reference.
        SetupError: matplotlib is not installed.
    """
    pictures = []
    for metric in map(find, (sweep.metric, *sweep.also)):
        points, band = _told(sweep, runs, metric)
        if draw:
            pictures.append(_draw(sweep, points, metric, band))
    write_page()
    return pictures


def _told(sweep: Sweep, runs: list[Run], metric: Metric) -> tuple[list[SweepPoint], str]:
    """Print the table of a metric; return its points, and what their band is."""
    rows, points, references, resampled = [], [], {}, True
    curves = list(dict.fromkeys(run.curve for run in runs))
    by_curve = sorted(runs, key=lambda run: curves.index(run.curve))
    for _, same in groupby(by_curve, key=lambda run: run.group):
        seeds = list(same)
        first, scores = seeds[0], [_scored(sweep, run, metric) for run in seeds]
        references.update({reference_of(d): r.record for d, r in zip(scores, seeds, strict=True)})
        if len(references) > 1:
            raise DataError(
                "the runs were scored on different references",
                " and ".join(map(str, references.values())),
                "a swept key must not change the set that is scored",
            )
        rates = [d.value(metric) for d in scores]
        mean, (low, high) = statistics.fmean(rates), interval(metric, scores)
        resampled &= all(d.counts(metric) is not None for d in scores)
        points.append(SweepPoint(first.value, mean, low, high, first.curve))
        spread = f" ± {statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
        listed = ", ".join(str(r.seed) for r in seeds)
        shown = [first.value, f"{mean:.2f}{spread}", f"{low:.2f} to {high:.2f}", listed]
        rows.append([first.curve, *shown] if sweep.curves else shown)
    band = "95 % interval" if resampled else "range over seeds"
    header = [sweep.x_label, f"{metric.title} (%)", band, "seeds"]
    header = ["curve", *header] if sweep.curves else header
    for line in table(header, rows, {"curve", "seeds"}):
        say(line)
    return points, band


def _draw(sweep: Sweep, points: list[SweepPoint], metric: Metric, band: str) -> Path:
    y_label = f"{metric.title} (%)\non {sweep.set}, {band}"  # long names need two lines
    aside = "" if metric.name == find(sweep.metric).name else f"_{metric.name}"
    picture = Path("results") / f"sweep_{sweep.name}{aside}.png"
    plot_sweep(points, sweep.x_label, y_label, picture)
    say(f"curve: {picture}")
    return picture


def _scored(sweep: Sweep, run: Run, metric: Metric) -> Decoded:
    record = load_record(run.record)
    try:
        scored = record.sets[sweep.set][sweep.method]
        scored.metrics[metric.name]
        return scored
    except KeyError:
        raise DataError(
            f"the run record has no {metric.name} of set '{sweep.set}' by '{sweep.method}'",
            run.record,
            f"./run.sh --name {run.name} --stage decode --force",
        ) from None


def interval(metric: Metric, scores: list[Decoded]) -> tuple[float, float]:
    """Return what the band shows, in percent: an interval, else the range over seeds.

    The interval resamples seeds and utterances. An older release kept no counts of each utterance
    for CER, which cannot be resampled then.
    """
    counts = [d.counts(metric) for d in scores]
    if any(c is None for c in counts):
        rates = [d.value(metric) for d in scores]
        return min(rates), max(rates)
    return resampled_interval(resample(np.stack(counts), metric.value))
