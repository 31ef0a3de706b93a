# SPDX-License-Identifier: Apache-2.0
"""The curve and the table of a finished sweep, from its run records only."""

import statistics
from itertools import groupby
from pathlib import Path

from espnet_ext.errors import DataError
from espnet_ext.recipe.console import say
from espnet_ext.recipe.sweep import Run, Sweep
from espnet_ext.scoring.comparison import reference_of
from espnet_ext.scoring.intent import wilson_interval
from espnet_ext.scoring.markdown import table
from espnet_ext.scoring.record import Decoded, load_record
from espnet_ext.scoring.significance import bootstrap_interval
from espnet_ext.scoring.sweep_plot import SweepPoint, plot_sweep

NAMES = {"wer": "WER", "cer": "CER", "accuracy": "Accuracy"}


def report(sweep: Sweep, runs: list[Run]) -> Path:
    """Print the table of a sweep, draw its curve, and return the path of the picture.

    Args:
        sweep: With ``set``, ``method`` and ``x_label`` filled in.
        runs: All runs of the sweep, those that differ by their seed only next to each other.

    Raises:
        DataError: A run has no record, none of this set and method, or another reference.
        SetupError: matplotlib is not installed.
    """
    rows, points, references = [], [], {}
    for _, same in groupby(runs, key=lambda run: run.group):
        seeds = list(same)
        first, scores = seeds[0], [_scored(sweep, run) for run in seeds]
        references.update({reference_of(d): r.record for d, r in zip(scores, seeds, strict=True)})
        if len(references) > 1:
            raise DataError(
                "the runs were scored on different references",
                " and ".join(map(str, references.values())),
                "a swept key must not change the set that is scored",
            )
        rates = [getattr(d, sweep.metric).exact_rate for d in scores]
        mean, (low, high) = statistics.fmean(rates), interval(sweep.metric, scores)
        points.append(SweepPoint(first.value, mean, low, high, first.curve))
        spread = f" ± {statistics.stdev(rates):.2f}" if len(rates) > 1 else ""
        listed = ", ".join(str(r.seed) for r in seeds)
        shown = [first.value, f"{mean:.2f}{spread}", f"{low:.2f} to {high:.2f}", listed]
        rows.append([first.curve, *shown] if sweep.curves else shown)
    header = [sweep.x_label, f"{NAMES[sweep.metric]} (%)", _band(sweep.metric), "seeds"]
    header = ["curve", *header] if sweep.curves else header
    for line in table(header, rows, {"curve", "seeds"}):
        say(line)
    y_label = f"{NAMES[sweep.metric]} (%) on {sweep.set}, {_band(sweep.metric)}"
    picture = Path("results") / f"sweep_{sweep.name}.png"
    plot_sweep(points, sweep.x_label, y_label, picture)
    say(f"curve: {picture}")
    return picture


def _scored(sweep: Sweep, run: Run) -> Decoded:
    record = load_record(run.record)
    try:
        scored = record.sets[sweep.set][sweep.method]
        if getattr(scored, sweep.metric) is None:
            raise KeyError(sweep.metric)
        return scored
    except KeyError:
        raise DataError(
            f"the run record has no scores of set '{sweep.set}' by '{sweep.method}'",
            run.record,
            f"./run.sh --name {run.name} --stage decode --force",
        ) from None


def interval(metric: str, scores: list[Decoded]) -> tuple[float, float]:
    """Return what the band shows, in percent: for CER the range over seeds, else an interval.

    It is the bootstrap over utterances for WER, and Wilson's of the mean accuracy for accuracy.

    Run records keep the errors of each utterance in words only, so CER cannot be resampled.
    """
    if metric == "wer":
        errors = [d.per_utt.word_errors for d in scores]
        return bootstrap_interval(errors, scores[0].per_utt.word_ref)
    if metric == "accuracy":
        correct = statistics.fmean(d.intent.correct for d in scores)
        return wilson_interval(correct, scores[0].utterances)
    rates = [getattr(d, metric).exact_rate for d in scores]
    return min(rates), max(rates)


def _band(metric: str) -> str:
    return "range over seeds" if metric == "cer" else "95 % interval"
