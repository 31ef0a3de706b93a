# SPDX-License-Identifier: Apache-2.0
"""The section of RESULTS.md that holds each group against the baseline."""

from espnet_ext.scoring.comparison import Comparison, compare
from espnet_ext.scoring.markdown import code, table
from espnet_ext.scoring.page import (
    NONE,
    TEXT,
    by_group,
    decodings,
    having,
    seeds_of,
    signed,
)
from espnet_ext.scoring.record import Kind, Record
from espnet_ext.scoring.significance import SAMPLES

_BOOTSTRAP = (
    "Interval of the change and P(better): paired bootstrap "
    f"over utterances ({SAMPLES} draws), the same utterances for both and for all seeds."
)
_NOTES: dict[Kind, str] = {
    "wer": "Change: WER minus WER of the baseline in percentage points, mean over the seeds that "
    f"both have; below 0 is better. {_BOOTSTRAP}",
    "intent": "Change: accuracy minus accuracy of the baseline in percentage points, mean over "
    "the seeds that both have; above 0 is better. Errors: change of the number of wrong "
    f"utterances. {_BOOTSTRAP} Budgets are mean updates (or passes) of all training phases; "
    "where they differ, the gain is one of method and budget together.",
}
_MEASURE: dict[Kind, str] = {"wer": "WER", "intent": "Accuracy"}
_RELATIVE: dict[Kind, str] = {"wer": "Relative", "intent": "Errors"}


def comparison_lines(records: list[Record], baseline: str) -> list[str]:
    """Return the section; it says so where there is no baseline, or nothing to compare with it."""
    lines = [f"## Against the baseline {code(baseline)}", ""]
    groups = by_group(records, baseline)
    if baseline not in groups:
        names = ", ".join(code(g) for g in groups)
        return [*lines, f"The baseline has no run record yet; groups with one: {names}.", ""]
    found: list[str] = []
    for kind in _NOTES:
        if rows := _rows(records, groups, baseline, kind):
            measure = _MEASURE[kind]
            header = [
                *("Set", "Decoding", "System", "Seeds", f"{measure} baseline", measure, "Change"),
                *(_RELATIVE[kind], "95 % interval", "P(better)", "Verdict"),
            ]
            found += [_NOTES[kind], "", *table(header, rows, TEXT), ""]
    return [*lines, *(found or ["There is no other group to compare yet.", ""])]


def _rows(
    records: list[Record], groups: dict[str, list[Record]], baseline: str, kind: Kind
) -> list[list[str]]:
    rows = []
    for name, method in decodings(records, kind):
        base_method = _baseline_method(groups[baseline], name, method, kind)
        base = having(groups[baseline], name, base_method, kind)
        shown = method if base_method == method else f"{method} (baseline: {base_method})"
        for group, runs in groups.items():
            other = having(runs, name, method, kind)
            if group != baseline and other:
                cells = _cells(compare(base, other, name, method, base_method), kind)
                rows.append([name, shown, group, *cells])
    return rows


def _baseline_method(baseline: list[Record], name: str, method: str, kind: Kind) -> str:
    """Return what stands against a method: itself, or the only one that a single model has."""
    found = {m for s, m in decodings(baseline, kind) if s == name}
    return found.pop() if kind == "intent" and method not in found and len(found) == 1 else method


def _cells(comparison: Comparison, kind: Kind) -> list[str]:
    result, seeds = comparison.result, seeds_of(comparison.seeds)
    if result is None:
        return [seeds, *([NONE] * 6), comparison.verdict]
    # The bootstrap counts errors; accuracy has the opposite sign, and its bounds change places.
    change, low, high = result.delta_abs, result.low, result.high
    if kind == "intent":
        change, low, high = -change, -high, -low
    relative = NONE if result.rel_percent is None else f"{signed(result.rel_percent, 1)} %"
    return [
        seeds,
        f"{comparison.rate_baseline:.2f}",
        f"{comparison.rate:.2f}",
        signed(change, 2),
        relative,
        f"{signed(low, 2)} to {signed(high, 2)}",
        f"{result.p_better:.3f}",
        comparison.verdict,
    ]
