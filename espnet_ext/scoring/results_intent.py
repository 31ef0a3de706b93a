# SPDX-License-Identifier: Apache-2.0
"""The sections of RESULTS.md on sets whose utterances were classified."""

import statistics
from collections.abc import Iterable, Sequence

from espnet_ext.progress import duration
from espnet_ext.scoring.intent import wilson_interval
from espnet_ext.scoring.markdown import cell, code, table
from espnet_ext.scoring.page import (
    NONE,
    TEXT,
    by_group,
    by_reference,
    decodings,
    having,
    mean,
    scores_of,
    seeds_of,
)
from espnet_ext.scoring.record import Decoded, Record

_NOTES = (
    "Accuracy in percent; an utterance is right only if all its labels are. ± is the sample "
    "standard deviation over seeds; the interval is Wilson's, 95 %, of the mean accuracy on the "
    "set's number of utterances. Input WER: word errors of the transcripts classified, in percent "
    "of the words spoken; {rules}. WER groups: thresholds "
    "are the 25th, 50th and 75th percentile (by midpoint) of the utterances' WER; the number of "
    "utterances stands in brackets, groups without any are left out."
)

_RULES = {
    "none": "both sides split at white space",
    "lower": "both sides lower-cased and split at white space",
    "words": "both sides lower-cased, without punctuation",
}


def intent_lines(records: list[Record], baseline: str | None) -> list[str]:
    """Return notes, the table of all systems and sets, and each set's tables; empty for none."""
    pairs = decodings(records, "intent")
    if not pairs:
        return []
    used = {r.sets[n][m].intent.wer_text for n, m in pairs for r in having(records, n, m, "intent")}
    rules = "; or ".join(_RULES[rule] for rule in sorted(used))
    lines = [_NOTES.format(rules=rules), "", *_overview(records, baseline, pairs)]
    for name, method in pairs:
        lines += _set_lines(having(records, name, method, "intent"), baseline, name, method)
    return lines


def _overview(
    records: list[Record], baseline: str | None, pairs: list[tuple[str, str]]
) -> list[str]:
    """One table for each method: a row for each system, a column for each set."""
    lines = ["## Accuracy of all systems", ""]
    for method in sorted({m for _, m in pairs}):
        sets = [s for s, m in pairs if m == method]
        rows = []
        for group, runs in by_group(records, baseline).items():
            scored = {s: having(runs, s, method, "intent") for s in sets}
            seeds = {r.seed for of_set in scored.values() for r in of_set}
            if seeds:
                cells = [_overview_cell(of_set, s, method) for s, of_set in scored.items()]
                rows.append([group, *cells, seeds_of(seeds)])
        lines += [f"Decoding {code(method)}:", ""]
        titles = [f"{s}{_input_wer(records, s, method)}" for s in sets]
        lines += [*table(["System", *titles, "Seeds"], rows, {"System", "Seeds"}), ""]
    return lines


def _input_wer(records: list[Record], name: str, method: str) -> str:
    """Return how bad the transcripts of a set are, where all systems have the same."""
    scored = scores_of(having(records, name, method, "intent"), name, method)
    found = {f"{d.intent.input_wer.exact_rate:.1f}" for d in scored}
    return f" (WER {found.pop()} %)" if len(found) == 1 else ""


def _overview_cell(runs: list[Record], name: str, method: str) -> str:
    if not runs:
        return NONE
    if len(by_reference(runs, name, method)) > 1:
        return "references differ"
    return mean(d.rate for d in scores_of(runs, name, method))


def _set_lines(runs: list[Record], baseline: str | None, name: str, method: str) -> list[str]:
    """The tables of one set and method."""
    heads = _heads(d for d in scores_of(runs, name, method))
    header = [
        *("System", "Accuracy", "95 % interval", *(heads if len(heads) > 1 else ())),
        *("Input WER", "Utterances", "Utterances per s", "Seeds"),
    ]
    rows, groups = [], {}
    for group, of_group in by_group(runs, baseline).items():
        for addition, same in by_reference(of_group, name, method):
            scored, label = scores_of(same, name, method), group + addition
            rows.append([label, *_score_cells(scored, heads), seeds_of(r.seed for r in same)])
            # Text may be normalised in one system and not in another: then the groups differ.
            key = tuple((g.above, g.up_to, g.utterances) for g in scored[0].intent.wer_groups)
            groups.setdefault(key, []).append([label, *_group_cells(scored)])
    lines = [f"## {cell(name)}, {cell(method)}", "", *table(header, rows, TEXT), ""]
    for bounds, of_bounds in groups.items():
        titles = [_title(*bound) for bound in bounds if bound[2]]
        lines += [*table(["System", *titles], of_bounds, TEXT), ""]
    return lines


def _heads(scored: Iterable[Decoded]) -> list[str]:
    return list(dict.fromkeys(h.head for d in scored for h in d.intent.heads))


def _score_cells(scored: Sequence[Decoded], heads: list[str]) -> list[str]:
    """Cells of runs that share their reference, between the system's name and the seeds."""
    total, correct = scored[0].utterances, statistics.fmean(d.intent.correct for d in scored)
    low, high = wilson_interval(correct, total)
    input_wer = statistics.fmean(d.intent.input_wer.exact_rate for d in scored)
    return [
        mean(d.rate for d in scored),
        f"{low:.2f} to {high:.2f}",
        *(_head_cell(scored, h) for h in heads if len(heads) > 1),
        f"{input_wer:.2f}",
        str(total),
        _speed(scored),
    ]


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


def _speed(scored: Sequence[Decoded]) -> str:
    wall_s = sum(d.decode_wall_s for d in scored)
    return f"{sum(d.utterances for d in scored) / wall_s:,.0f}" if wall_s else NONE


def cost_lines(records: list[Record], baseline: str | None) -> list[str]:
    """Return what each system's training cost over all its phases; empty without such sets."""
    if not decodings(records, "intent"):
        return []
    groups = {
        group: known
        for group, runs in by_group(records, baseline).items()
        if (known := [r for r in runs if r.phases])
    }
    if not groups:
        return []
    times = {group: statistics.fmean(map(_train_s, runs)) for group, runs in groups.items()}
    header = [
        *("System", "Parameters", "Phases", "Updates", "Training time", "Time, relative"),
        *("Peak memory (MB)", "Peak GPU memory (MB)", "Seeds"),
    ]
    rows = []
    for group, runs in groups.items():
        phases = [p for r in runs for p in r.phases.values()]
        share = times[group] / times[baseline] if times.get(baseline) else None
        rows.append(
            [
                group,
                f"{list(runs[0].phases.values())[-1].params:,}",
                ", ".join(dict.fromkeys(name for r in runs for name in r.phases)),
                f"{statistics.fmean(sum(p.updates for p in r.phases.values()) for r in runs):,.0f}",
                duration(times[group]),
                NONE if share is None else f"{share:.2f}",
                f"{max(p.peak_rss_mb for p in phases):,.0f}",
                f"{max(p.peak_gpu_mb for p in phases):,.0f}",
                seeds_of(r.seed for r in runs),
            ]
        )
    note = (
        "All training phases together: means over seeds, the highest peak of memory; relative to "
        "the baseline, where it was trained. Parameters are those of the last phase's model."
    )
    return [
        *("## Costs of the systems", "", note, ""),
        *table(header, rows, {"System", "Phases", "Seeds"}),
        "",
    ]


def _train_s(run: Record) -> float:
    return sum(p.train_wall_s for p in run.phases.values())
