# SPDX-License-Identifier: Apache-2.0
"""What lies behind the accuracy of classified utterances, and what each system cost."""

import statistics
from collections.abc import Iterable, Sequence

from espnet_ext.progress import duration
from espnet_ext.scoring.curve import PHASES, last_phase
from espnet_ext.scoring.markdown import cell, table
from espnet_ext.scoring.page import (
    NONE,
    TEXT,
    Page,
    by_reference,
    mean,
    name_of,
    seeds_of,
)
from espnet_ext.scoring.record import Decoded, Phase, Record
from espnet_ext.scoring.scored import Field

_NOTE = (
    "Input WER: word errors of the classified transcripts, in percent of the words spoken; "
    "{rules}. WER groups: split at the 25th, 50th and 75th percentile (by midpoint) of the "
    "utterances' WER; the number of utterances is in brackets, empty groups are omitted."
)
_RULES = {
    "none": "both sides split at white space",
    "lower": "both sides lower-cased and split at white space",
    "words": "both sides lower-cased, without punctuation",
}


def intent_lines(page: Page) -> list[str]:
    """Return accuracy by WER of the input and by head for each set; empty without such sets."""
    sets = [*page.sets, *([page.development] if page.development else [])]
    fields = [f for s in sets for f in page.scores.fields(s) if _classified(f)]
    if not fields:
        return []
    used = {d.intent.wer_text for f in fields for d in _classified(f)}
    rules = "; or ".join(_RULES[rule] for rule in sorted(used))
    lines = [_NOTE.format(rules=rules), ""]
    for field in fields:
        lines += [f"### {cell(field.set_name)}", "", *_set_lines(page, field)]
    return lines


def _classified(field: Field) -> list[Decoded]:
    return [d for s in field.systems for d in field.decoded(s) if d.intent is not None]


def _set_lines(page: Page, field: Field) -> list[str]:
    """The tables of one set."""
    heads = list(dict.fromkeys(h.head for d in _classified(field) for h in d.intent.heads))
    heads = heads if len(heads) > 1 else []
    groups: dict[tuple, list[list[str]]] = {}
    for system in page.scores.ranked(field):
        for addition, runs in by_reference(field, system):
            scored = [r.sets[field.set_name][system.method] for r in runs]
            if any(d.intent is None for d in scored):
                continue
            label = name_of(system, field.systems) + addition
            input_wer = statistics.fmean(d.intent.input_wer.exact_rate for d in scored)
            cells = [label, f"{input_wer:.2f}", *(_head_cell(scored, h) for h in heads)]
            # Text may be normalised in one system and not in another: then the groups differ.
            key = tuple((g.above, g.up_to, g.utterances) for g in scored[0].intent.wer_groups)
            groups.setdefault(key, []).append([*cells, *_group_cells(scored)])
    lines = []
    for limits, rows in groups.items():
        titles = [_title(*limit) for limit in limits if limit[2]]
        lines += [*table(["System", "Input WER", *heads, *titles], rows, TEXT), ""]
    return lines


def _head_cell(scored: Sequence[Decoded], head: str) -> str:
    rates = [
        100 * h.correct / d.utterances for d in scored for h in d.intent.heads if h.head == head
    ]
    return mean(rates) if len(rates) == len(scored) else NONE


def _group_cells(scored: Sequence[Decoded]) -> list[str]:
    """Mean accuracy of each WER group that has utterances."""
    by_number = zip(*(d.intent.wer_groups for d in scored), strict=True)
    return [
        mean(100 * g.correct / g.utterances for g in same)
        for same in by_number
        if same[0].utterances
    ]


def _title(above: float | None, up_to: float | None, utterances: int) -> str:
    if above is None:
        words = f"WER ≤ {up_to:.1f} %"
    elif up_to is None:
        words = f"WER > {above:.1f} %"
    else:
        words = f"{above:.1f} < WER ≤ {up_to:.1f} %"
    return f"{words} ({utterances})"


def system_cost_lines(page: Page) -> list[str]:
    """Return what each system's training cost over all its phases; empty without a phase."""
    groups = {
        group: known
        for group, runs in page.groups.items()
        if (known := [r for r in runs if r.phases])
    }
    if not groups:
        return []
    times = {group: statistics.fmean(map(_train_s, runs)) for group, runs in groups.items()}
    header = [
        *("System", "Seeds", "Parameters", "Phases", "Updates", "Training time"),
        *("Time, relative", "Peak memory (MB)", "Peak GPU memory (MB)"),
    ]
    first = next(iter(groups))
    rows = [
        [
            group, seeds_of(r.seed for r in runs), *_size(runs), duration(times[group]),
            f"{times[group] / times[first]:.2f}" if times[first] else NONE,
            *_peaks(p for r in runs for p in r.phases.values()),
        ]
        for group, runs in groups.items()
    ]  # fmt: skip
    note = (
        "All training phases together: means over seeds, the highest peak of memory; time relative "
        "to the first system. Parameters are those of the last phase's model."
    )
    return [note, "", *table(header, rows, TEXT), ""]


def _size(runs: Sequence[Record]) -> list[str]:
    """Parameters, phases and mean updates of a system."""
    updates = statistics.fmean(sum(p.updates for p in r.phases.values()) for r in runs)
    return [
        f"{last_phase(runs[0]).params:,}",
        ", ".join(n for n in PHASES if any(n in r.phases for r in runs)),
        f"{updates:,.0f}",
    ]


def _peaks(phases: Iterable[Phase]) -> list[str]:
    phases = list(phases)
    return [f"{max(getattr(p, k) for p in phases):,.0f}" for k in ("peak_rss_mb", "peak_gpu_mb")]


def _train_s(run: Record) -> float:
    return sum(p.train_wall_s for p in run.phases.values())
