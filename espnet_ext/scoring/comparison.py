# SPDX-License-Identifier: Apache-2.0
"""One group of runs against its baseline group: compared, or refused with the reason.

A gain counts only on the same reference, with the same budget and over paired seeds; whatever does
not meet this is said in the verdict rather than left to the reader.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_ext.files import sha256_json
from espnet_ext.scoring.budget import (
    comparable_budgets,
    judged_by_updates,
    unequal_means,
    unequal_passes,
)
from espnet_ext.scoring.record import Decoded, Kind, Record
from espnet_ext.scoring.significance import PairedResult, paired_bootstrap

MIN_SEEDS = 3
NOT_A_CLAIM = f"fewer than {MIN_SEEDS} seeds: not a claim"


@dataclass(frozen=True)
class Comparison:
    """A group against the baseline on one test set and decoding method.

    Attributes:
        seeds: Seeds that both have; only these are compared.
        rate_baseline: Mean WER, or accuracy, of the baseline over ``seeds``, percent.
        rate: The same of the group.
        result: The paired bootstrap of the errors, of words or of whole utterances; ``None`` (and
            rates ``None``) when the comparison is refused.
        verdict: One line for a person.
    """

    seeds: tuple[int, ...]
    rate_baseline: float | None
    rate: float | None
    result: PairedResult | None
    verdict: str


def reference_of(decoded: Decoded) -> str:
    """Return a hash of what was scored: two scores with the same one can be averaged or paired."""
    inputs = [decoded.input_sha256] if decoded.input_sha256 else []
    return sha256_json([decoded.ref_sha256, decoded.ids_sha256, decoded.units, *inputs])


def compare(
    baseline: Sequence[Record],
    group: Sequence[Record],
    set_name: str,
    method: str,
    baseline_method: str | None = None,
) -> Comparison:
    """Compare two groups of runs on ``sets[set_name][method]``, which every run of them has.

    Args:
        baseline: Runs of the baseline.
        group: Runs of the group.
        set_name: The set.
        method: The decoding method.
        baseline_method: That of the baseline, where it is another.

    Returns:
        The comparison; refused when no seed is shared, or references or budgets differ. Runs that
        are counted in forward-backward passes are shown next to each other even when these differ,
        but then the verdict is the difference of the budgets. Where intents were scored, unequal
        budgets are no refusal but a part of the verdict.
    """
    by_seed = [{r.seed: r for r in runs} for runs in (baseline, group)]
    seeds = tuple(sorted(by_seed[0].keys() & by_seed[1].keys()))
    runs_a, runs_b = ([runs[s] for s in seeds] for runs in by_seed)
    scores_a = [r.sets[set_name][baseline_method or method] for r in runs_a]
    scores_b = [r.sets[set_name][method] for r in runs_b]
    refusal = _refusal(runs_a, runs_b, scores_a, scores_b)
    if refusal:
        return Comparison(seeds, None, None, None, f"not compared: {refusal}")
    errors_a, errors_b = (np.array([d.errors for d in scores]) for scores in (scores_a, scores_b))
    result = paired_bootstrap(errors_a, errors_b, scores_a[0].units)
    rates_a, rates_b = (np.array([d.rate for d in scores]) for scores in (scores_a, scores_b))
    verdict = _verdict(scores_a[0].kind, result, runs_a, runs_b, rates_b - rates_a)
    return Comparison(seeds, float(rates_a.mean()), float(rates_b.mean()), result, verdict)


def _refusal(
    runs_a: list[Record], runs_b: list[Record], scores_a: list[Decoded], scores_b: list[Decoded]
) -> str | None:
    if not runs_a:
        return "no seed in common with the baseline"
    if len({reference_of(d) for d in scores_a + scores_b}) > 1:
        a, b = (_listed(d.ref_sha256[:12] for d in scores) for scores in (scores_a, scores_b))
        if a == b and len({d.input_sha256 for d in scores_a + scores_b}) > 1:
            return "transcripts that were classified differ"
        return f"references differ (baseline {a}; this {b})"
    if scores_a[0].kind == "wer" and not comparable_budgets(runs_a + runs_b):
        a, b = (_listed(budget_text(r) for r in runs) for runs in (runs_a, runs_b))
        return f"budgets differ (baseline {a}; this {b})"
    return None


def _verdict(
    kind: Kind,
    result: PairedResult,
    runs_a: list[Record],
    runs_b: list[Record],
    changes: np.ndarray,
) -> str:
    """``changes``: rate minus that of the baseline, by seed, percentage points."""
    runs, mixed = runs_a + runs_b, changes.min() < 0 < changes.max()
    better, worse = ("below", "above") if kind == "wer" else ("above", "below")
    if kind == "wer" and (unequal := unequal_passes(runs_a, runs_b)):
        verdict = f"{unequal}: not a claim"
    elif len(runs_a) < MIN_SEEDS:
        verdict = NOT_A_CLAIM
    elif result.high < 0:
        verdict = f"better: the interval lies {better} 0"
    elif result.low > 0:
        verdict = f"worse: the interval lies {worse} 0"
    else:
        verdict = "no difference shown: the interval holds 0"
    # The interval is one over utterances: it knows nothing of what another seed would give.
    if mixed and len(runs_a) >= MIN_SEEDS:
        verdict += f"; not on every seed ({', '.join(f'{c:+.2f}' for c in changes)})"
    if kind == "intent" and (unequal := unequal_means(runs_a, runs_b)):
        verdict += f"; {unequal}"
    if len({sha256_json(r.encoder) for r in runs}) > 1:
        verdict += "; text encoders differ"
    if runs[0].budget is None:
        verdict += "; budget not recorded"
    if kind == "wer" and judged_by_updates(runs):
        verdict += "; equal in updates only, as not all runs counted passes"
    if any(r.dirty for r in runs):
        verdict += "; a run had uncommitted changes"
    return verdict


def budget_text(run: Record) -> str:
    """Return the budget of a run on one line."""
    if run.budget is None:
        return "not recorded"
    return ", ".join(f"{key}={value}" for key, value in sorted(run.budget.items())) or "empty"


def _listed(texts: Iterable[str]) -> str:
    """Join the distinct texts in order of first appearance."""
    return " / ".join(dict.fromkeys(texts))
