# SPDX-License-Identifier: Apache-2.0
"""The scores on a results page: the first table, all sets side by side, each set folded."""

import math
import statistics
from collections.abc import Iterable, Sequence

from espnet_ext.scoring.curve import FLAT_PERCENT, MIN_EPOCHS, late_gain_of
from espnet_ext.scoring.markdown import cell, code, table
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.page import (
    NONE,
    TEXT,
    Page,
    by_reference,
    folded,
    mean,
    name_of,
    seeds_of,
    signed,
)
from espnet_ext.scoring.record import Decoded, Record
from espnet_ext.scoring.results_compare import against, verdict
from espnet_ext.scoring.scored import Field, System

TRAINED_OUT = (
    "Trained out: by how much the best error on the development set fell in the last quarter of "
    f"the last phase, mean over seeds; yes up to {FLAT_PERCENT:g} %, – where no curve of at least "
    f"{MIN_EPOCHS} epochs was recorded."
)
UNKNOWN = (
    "Whether the systems were trained out is not known: no curve of the development set of at "
    f"least {MIN_EPOCHS} epochs was recorded."
)


def main_lines(page: Page) -> list[str]:
    """Return the first table: each system's scores on the main set and its verdict."""
    field = page.main
    if field is None:
        return []
    others = _other_metrics(page, field)
    judged = any(against(page, system) for system in field.systems)
    gains = {s: late_gain_of(runs) for s, runs in field.systems.items()}
    shown = any(gain is not None for gain in gains.values())
    header = [
        *("System", "Seeds", field.metric.title, "95 % interval", *(m.title for m in others)),
        *(["Trained out"] if shown else []),
        *(("Against", "Change", "Verdict") if judged else ()),
    ]
    rows = []
    for system in page.scores.ranked(field):
        for addition, runs in by_reference(field, system):
            scored = [r.sets[field.set_name][system.method] for r in runs]
            low, high = page.scores.interval(field, runs, system.method)
            rows.append(
                [
                    name_of(system, field.systems) + addition,
                    seeds_of(r.seed for r in runs),
                    mean(d.value(field.metric) for d in scored),
                    f"{low:.2f} to {high:.2f}",
                    *(_value(scored, m) for m in others),
                    *([_trained_out(gains[system])] if shown else []),
                    *(_judged(page, system) if judged else ()),
                ]
            )
    return [
        f"## {cell(field.metric.title)} on {cell(field.set_name)}", "",
        f"{_about(field)} ± is the sample standard deviation over seeds; the interval resamples "
        "seeds and utterances.", "",
        *table(header, rows, TEXT), "", TRAINED_OUT if shown else UNKNOWN, "",
    ]  # fmt: skip


def _trained_out(gain: float | None) -> str:
    if gain is None:
        return NONE
    return f"{'yes' if gain <= FLAT_PERCENT else 'no'} ({signed(-gain, 1)} %)"


def rule_lines(page: Page) -> list[str]:
    """Return tables of the main set's scores by other rules, where a metric has such."""
    lines = []
    for field in page.scores.fields(page.main.set_name) if page.main else []:
        metric = field.metric
        if not metric.alternatives:
            continue
        rows = []
        for system in page.scores.ranked(field):
            for addition, runs in by_reference(field, system):
                scored = [r.sets[field.set_name][system.method] for r in runs]
                shares = [_column(scored, metric, title) for title in metric.alternatives]
                value = mean(d.value(metric) for d in scored)
                rows.append([name_of(system, field.systems) + addition, value, *shares])
        lines += [
            f"## {cell(metric.title)} on {cell(field.set_name)} by other rules", "",
            f"Percent, mean over seeds. {cell(metric.note)}", "",
            *table(["System", metric.title, *metric.alternatives], rows, TEXT), "",
        ]  # fmt: skip
    return lines


def overview_lines(page: Page) -> list[str]:
    """Return a table of all systems and sets, where there are more sets than the main one.

    A set without the main metric shows its own first one, if it is of the same systems: those of
    another method, as of the phases before, would be rows of their own.
    """
    sets = [*page.sets, *([page.development] if page.development else [])]
    if page.main is None or len(sets) < 2:
        return []
    metric = page.main.metric
    fields = {s: f for s in sets if (f := _overview_field(page, s))}
    others = {s: f" ({f.metric.title})" for s, f in fields.items() if f.metric != metric}
    systems = list(dict.fromkeys(s for f in fields.values() for s in page.scores.ranked(f)))
    rows = [
        [name_of(system, systems), *(_overview_cell(page, f, system) for f in fields.values())]
        for system in systems
    ]
    titles = [f"{s}{others.get(s, '')}{_input_wer(f)}" for s, f in fields.items()]
    note = f"{page.development} is the development set." if page.development else ""
    about = "Percent, mean ± sample standard deviation over seeds."
    if others:
        about += f" {cell(metric.title)} where no other metric is named."
    return [
        f"## {'Scores' if others else cell(metric.title)} on all sets", "",
        f"{about} {cell(note)}".strip(), "", *table(["System", *titles], rows, TEXT), "",
    ]  # fmt: skip


def sweep_lines(page: Page) -> list[str]:
    """Return the scores of every setting of the sweeps, a table for each metric of each set."""
    lines = []
    for set_name in sorted({s for r in page.sweeps.records for s in r.sets}):
        for field in page.sweeps.fields(set_name):
            rows = [
                [
                    name_of(system, field.systems),
                    seeds_of(r.seed for r in runs),
                    mean(page.sweeps.values(field, system)),
                ]
                for system, runs in field.systems.items()
            ]
            header = ["System", "Seeds", f"{field.metric.title} on {set_name}"]
            lines += [*table(header, rows, TEXT), ""]
    return lines


def set_lines(page: Page) -> list[str]:
    """Return the details of each set, folded."""
    lines = []
    for set_name in [*page.sets, *([page.development] if page.development else [])]:
        for field in page.scores.fields(set_name):
            lines += [f"### {cell(field.metric.title)} on {cell(set_name)}", ""]
            lines += [f"{_about(field)} {cell(field.metric.note)}".strip(), ""]
            lines += [*_set_table(page, field), ""]
    return folded("Each set: parts of the score, scores by seed, decoding speed", lines)


def _set_table(page: Page, field: Field) -> list[str]:
    seeds = sorted({r.seed for runs in field.systems.values() for r in runs})
    timed = any(d.rtf is not None for s in field.systems for d in field.decoded(s))
    columns = list(field.metric.columns)
    header = [
        *("System", "95 % interval", *columns, *(f"Seed {s}" for s in seeds)),
        "RTF" if timed else "Utterances per s",
    ]
    rows = []
    for system in page.scores.ranked(field):
        for addition, runs in by_reference(field, system):
            scored = {r.seed: r.sets[field.set_name][system.method] for r in runs}
            low, high = page.scores.interval(field, runs, system.method)
            rows.append(
                [
                    name_of(system, field.systems) + addition,
                    f"{low:.2f} to {high:.2f}",
                    *(_column(scored.values(), field.metric, title) for title in columns),
                    *(_value([scored[s]] if s in scored else [], field.metric) for s in seeds),
                    _rtf(scored.values()) if timed else _speed(scored.values()),
                ]
            )  # fmt: skip
    return table(header, rows, TEXT)


def _about(field: Field) -> str:
    """Tell what the set is and what it was scored with, once for the table."""
    scored = [d for s in field.systems for d in field.decoded(s)]
    ways = sorted({s.method for s in field.systems})
    parts = [f"Percent; {scored[0].utterances:,} utterances"]
    if field.metric.better == "higher":
        parts[0] += ", higher is better"
    parts.append(f"decoding {', '.join(map(code, ways))}")
    runs = [r for runs in field.systems.values() for r in runs]
    short = sorted({encoder(r, short=True) for r in runs} - {""})
    whole = sorted({encoder(r) for r in runs} - {""})
    encoders = short if len(short) == len(whole) else whole
    if encoders:
        parts.append(f"text encoder {', '.join(map(code, encoders))}")
    return "; ".join(parts) + "."


def encoder(run: Record, short: bool = False) -> str:
    """Return the text encoder of a run on one line; empty where it had none.

    Args:
        run: Its record.
        short: Its name and how many layers were used, and neither hash nor sizes, if it has a name.
    """
    about = dict(run.encoder)
    source = str(about.pop("source", "")).removesuffix("/model")
    name, used, of = (about.pop(key, "") for key in ("name", "layers", "layers_of"))
    layers = ""
    if used:
        layers = f"{used} of {of} layers" if of and of != used else f"{used} layers"
    if name and short:
        return f"{name}, {layers}" if layers else str(name)
    more = ", ".join(f"{k} {v}" for k, v in sorted(about.items()))
    if name:
        more = f"from {source}, {more}" if more else f"from {source}"
    head = ", ".join(filter(None, (str(name) or source, layers)))
    return f"{head} ({more})" if more else head


def _other_metrics(page: Page, field: Field) -> list[Metric]:
    """Return the further metrics that any of the field's runs have."""
    scored = [d for s in field.systems for d in field.decoded(s)]
    known = {name for d in scored for name in d.metrics}
    return [
        m
        for name, m in page.scores.metrics.items()
        if name in known and m != field.metric and not m.before
    ]


def _value(scored: Sequence[Decoded], metric: Metric) -> str:
    if not scored or any(metric.name not in d.metrics for d in scored):
        return NONE
    return mean(d.value(metric) for d in scored)


def _judged(page: Page, system: System) -> list[str]:
    c = against(page, system)
    if c is None:
        return [NONE, NONE, "reference"]
    change = NONE if c.result is None else signed(c.result.delta, 2)
    return [name_of(c.reference, page.main.systems), change, verdict(c)]


def _overview_field(page: Page, set_name: str) -> Field | None:
    found = page.scores.fields(set_name)
    same = [f for f in found if f.metric == page.main.metric]
    alike = [f for f in found if page.main.systems.keys() & f.systems.keys()]
    return next(iter([*same, *alike]), None)


def _overview_cell(page: Page, field: Field, system: System) -> str:
    if system not in field.systems:
        return NONE
    if len(by_reference(field, system)) > 1:
        return "references differ"
    return mean(page.scores.values(field, system))


def _input_wer(field: Field) -> str:
    """Return how bad the classified transcripts of a set are, where all systems have the same."""
    scored = [d for s in field.systems for d in field.decoded(s)]
    found = {f"{d.intent.input_wer.exact_rate:.1f}" for d in scored if d.intent is not None}
    return f" (WER {found.pop()} %)" if len(found) == 1 else ""


def _column(scored: Iterable[Decoded], metric: Metric, title: str) -> str:
    shares = [metric.column(title, d.metrics[metric.name].totals) for d in scored]
    return NONE if any(map(math.isnan, shares)) else f"{statistics.fmean(shares):.2f}"


def _rtf(scored: Iterable[Decoded]) -> str:
    known = [d.rtf for d in scored if d.rtf is not None]
    return f"{statistics.fmean(known):.3f}" if known else NONE


def _speed(scored: Iterable[Decoded]) -> str:
    scored = list(scored)
    wall_s = sum(d.decode_wall_s for d in scored)
    return f"{sum(d.utterances for d in scored) / wall_s:,.0f}" if wall_s else NONE
