# SPDX-License-Identifier: Apache-2.0
"""One group of runs against its baseline group: compared, or refused with the reason.

A gain counts only on the same reference, with the same budget and over paired seeds; whatever does
not meet this is said in the verdict rather than left to the reader.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from espnet_ext.files import sha256_json
from espnet_ext.scoring.budget import comparable_budgets, judged_by_updates, unequal_passes
from espnet_ext.scoring.record import Decoded, Record
from espnet_ext.scoring.significance import PairedResult, paired_bootstrap

MIN_SEEDS = 3
NOT_A_CLAIM = f"fewer than {MIN_SEEDS} seeds: not a claim"


@dataclass(frozen=True)
class Comparison:
    """A group against the baseline on one test set and decoding method.

    Attributes:
        seeds: Seeds that both have; only these are compared.
        rate_baseline: Mean WER of the baseline over ``seeds``, percent.
        rate: Mean WER of the group over ``seeds``, percent.
        result: The paired bootstrap; ``None`` (and rates ``None``) when the comparison is refused.
        verdict: One line for a person.
    """

    seeds: tuple[int, ...]
    rate_baseline: float | None
    rate: float | None
    result: PairedResult | None
    verdict: str


def reference_of(decoded: Decoded) -> str:
    """Return a hash of what was scored: two scores with the same one can be averaged or paired."""
    per_utt = decoded.per_utt
    return sha256_json([decoded.ref_sha256, per_utt.ids_sha256, per_utt.word_ref])


def compare(
    baseline: Sequence[Record], group: Sequence[Record], set_name: str, method: str
) -> Comparison:
    """Compare two groups of runs on ``sets[set_name][method]``, which every run of them has.

    Returns:
        The comparison; refused when no seed is shared, or references or budgets differ. Runs that
        are counted in forward-backward passes are shown next to each other even when these differ,
        but then the verdict is the difference of the budgets.
    """
    by_seed = [{r.seed: r for r in runs} for runs in (baseline, group)]
    seeds = tuple(sorted(by_seed[0].keys() & by_seed[1].keys()))
    runs_a, runs_b = ([runs[s] for s in seeds] for runs in by_seed)
    scores_a, scores_b = ([r.sets[set_name][method] for r in runs] for runs in (runs_a, runs_b))
    refusal = _refusal(runs_a, runs_b, scores_a, scores_b)
    if refusal:
        return Comparison(seeds, None, None, None, f"not compared: {refusal}")
    errors_a, errors_b = (
        np.array([d.per_utt.word_errors for d in scores]) for scores in (scores_a, scores_b)
    )
    result = paired_bootstrap(errors_a, errors_b, scores_a[0].per_utt.word_ref)
    rates_a, rates_b = (
        np.array([d.wer.exact_rate for d in scores]) for scores in (scores_a, scores_b)
    )
    verdict = _verdict(result, runs_a, runs_b, rates_b - rates_a)
    return Comparison(seeds, float(rates_a.mean()), float(rates_b.mean()), result, verdict)


def _refusal(
    runs_a: list[Record], runs_b: list[Record], scores_a: list[Decoded], scores_b: list[Decoded]
) -> str | None:
    if not runs_a:
        return "no seed in common with the baseline"
    if len({reference_of(d) for d in scores_a + scores_b}) > 1:
        a, b = (_listed(d.ref_sha256[:12] for d in scores) for scores in (scores_a, scores_b))
        return f"references differ (baseline {a}; this {b})"
    if not comparable_budgets(runs_a + runs_b):
        a, b = (_listed(budget_text(r) for r in runs) for runs in (runs_a, runs_b))
        return f"budgets differ (baseline {a}; this {b})"
    return None


def _verdict(
    result: PairedResult, runs_a: list[Record], runs_b: list[Record], changes: np.ndarray
) -> str:
    """``changes``: WER minus that of the baseline, by seed, percentage points."""
    runs, mixed = runs_a + runs_b, changes.min() < 0 < changes.max()
    if unequal := unequal_passes(runs_a, runs_b):
        verdict = f"{unequal}: not a claim"
    elif len(runs_a) < MIN_SEEDS:
        verdict = NOT_A_CLAIM
    elif result.high < 0:
        verdict = "better: the interval lies below 0"
    elif result.low > 0:
        verdict = "worse: the interval lies above 0"
    else:
        verdict = "no difference shown: the interval holds 0"
    # The interval is one over utterances: it knows nothing of what another seed would give.
    if mixed and len(runs_a) >= MIN_SEEDS:
        verdict += f"; not on every seed ({', '.join(f'{c:+.2f}' for c in changes)})"
    if runs[0].budget is None:
        verdict += "; budget not recorded"
    if judged_by_updates(runs):
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
