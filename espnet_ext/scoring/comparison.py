# SPDX-License-Identifier: Apache-2.0
"""One system against another: compared over paired seeds, and judged in one word.

A gain counts on the same reference, with no larger a budget, against a system that was trained out,
over at least three paired seeds, and corrected for the number of comparisons. What does not meet
this is said.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from espnet_ext.files import sha256_json
from espnet_ext.scoring.budget_ratio import Ratio, budget_ratio
from espnet_ext.scoring.curve import is_half_trained
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.p_values import LEVEL, holm
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.scored import Field, Scores, System, reference_of
from espnet_ext.scoring.significance import MIN_SEEDS, PairedResult, paired

Verdict = Literal["better", "worse", "n.s.", "half-trained", "not comparable"]


@dataclass(frozen=True)
class Comparison:
    """A system against its reference on one set.

    Attributes:
        set_name: The set.
        metric: What is compared.
        system: The system.
        reference: What it is compared with.
        seeds: Seeds that both have; only these are compared.
        score: Mean over ``seeds``, percent; ``None`` where the two cannot be compared.
        score_reference: The same of the reference.
        result: The paired comparison; ``None`` where there is none.
        budget: Budget of the system relative to the reference's; ``None`` where it is not known.
        half_trained: Those of the two that were still learning at their end.
        remarks: What a reader must know beside the verdict.
        planned: Whether this is the one comparison that was planned beforehand.
        p: The p-value, corrected for the number of comparisons unless ``planned``.
        verdict: One word; see :func:`judge`.
    """

    set_name: str
    metric: Metric
    system: System
    reference: System
    seeds: tuple[int, ...] = ()
    score: float | None = None
    score_reference: float | None = None
    result: PairedResult | None = None
    budget: Ratio | None = None
    half_trained: tuple[System, ...] = ()
    remarks: tuple[str, ...] = ()
    planned: bool = False
    p: float | None = None
    verdict: Verdict = "not comparable"


def compare(
    scores: Scores,
    field: Field,
    system: System,
    reference: System,
    planned: bool = False,
    labelled: bool = True,
) -> Comparison:
    """Compare two systems of a field over the seeds they share.

    Args:
        scores: Of all runs.
        field: A set and a metric.
        system: One system.
        reference: The other.
        planned: Whether the comparison was planned beforehand.
        labelled: Whether labelled batches may be the budget; see :func:`budget_ratio`.

    Returns:
        The comparison, not yet judged; without a result where no seed is shared or references
        differ.
    """
    bare = Comparison(field.set_name, field.metric, system, reference, planned=planned)
    runs, others = ({r.seed: r for r in field.systems[s]} for s in (system, reference))
    seeds = tuple(sorted(runs.keys() & others.keys()))
    if not seeds:
        return replace(bare, remarks=("no seed in common",))
    mine, theirs = [runs[s] for s in seeds], [others[s] for s in seeds]
    bare = replace(bare, seeds=seeds, budget=budget_ratio(theirs, mine, labelled))
    if differing := _differing_references(bare, mine, theirs):
        return replace(bare, remarks=(differing,))
    a = scores.of(field, theirs, reference.method)
    b = scores.of(field, mine, system.method)
    return replace(
        bare,
        score=float(b.values.mean()),
        score_reference=float(a.values.mean()),
        result=paired(a, b, field.metric.better),
        half_trained=tuple(
            s for s, own in ((system, mine), (reference, theirs)) if is_half_trained(own)
        ),
        remarks=_remarks(mine, theirs, bare.budget),
    )


def judge(
    comparisons: Sequence[Comparison], tests: int = 0, level: float = LEVEL
) -> list[Comparison]:
    """Give each comparison its p-value and its verdict.

    ``tests`` is the number of pairs from which the comparisons were chosen, the planned one aside:
    the strongest of several equal systems looks better than a random one, so a comparison with it
    is corrected for the pairs that could have come out.

    ``better`` and ``worse`` need both intervals on one side of 0, at least three paired seeds, a
    corrected p of at most ``1 - level``, and a budget that does not favour the winner: a
    difference for the larger budget, or between unknown ones, is ``not comparable``. Where the
    loser was still learning, the difference may be one of speed: ``half-trained``. All others are
    ``n.s.``: no difference shown.
    """
    tested = [i for i, c in enumerate(comparisons) if _tested(c) and not c.planned]
    corrected = dict(
        zip(tested, holm([comparisons[i].result.p for i in tested], tests), strict=True)
    )
    out = []
    for i, c in enumerate(comparisons):
        p = corrected.get(i, c.result.p if _tested(c) else None)
        out.append(replace(c, p=p, verdict=_verdict(c, p, level)))
    return out


def _tested(c: Comparison) -> bool:
    return c.result is not None and len(c.seeds) >= MIN_SEEDS


def _verdict(c: Comparison, p: float | None, level: float) -> Verdict:
    if c.result is None:
        return "not comparable"
    direction = c.result.direction
    # A p-value between the level and the bounds of an interval is possible: both must agree.
    if p is None or p > 1 - level or direction is None:
        return "n.s."
    favoured = c.budget is None or (c.budget.more if direction == "better" else c.budget.less)
    if favoured:
        return "not comparable"
    loser = c.reference if direction == "better" else c.system
    return "half-trained" if loser in c.half_trained else direction


def _differing_references(c: Comparison, mine: list[Record], theirs: list[Record]) -> str | None:
    own = [r.sets[c.set_name][c.system.method] for r in mine]
    other = [r.sets[c.set_name][c.reference.method] for r in theirs]
    if len({reference_of(d) for d in own + other}) == 1:
        return None
    a, b = (_listed(d.ref_sha256[:12] for d in scored) for scored in (own, other))
    if a == b and len({d.input_sha256 for d in own + other}) > 1:
        return "the classified transcripts differ"
    return f"references differ ({a} and {b})"


def _remarks(mine: list[Record], theirs: list[Record], budget: Ratio | None) -> tuple[str, ...]:
    runs, remarks = mine + theirs, []
    if len(mine) < MIN_SEEDS:
        remarks.append(f"{len(mine)} paired seed{'s' if len(mine) > 1 else ''} only")
    if budget is None:
        recorded = any(r.budget is not None for r in runs)
        remarks.append("budgets differ" if recorded else "budget not recorded")
    elif budget.note:
        remarks.append(budget.note)
    # Equal weights are one encoder, however much else a record's release told of it.
    if len({r.encoder.get("weights") or sha256_json(r.encoder) for r in runs}) > 1:
        remarks.append("text encoders differ")
    if any(r.dirty for r in runs):
        remarks.append("uncommitted changes")
    return tuple(remarks)


def budget_text(run: Record) -> str:
    """Return the budget of a run on one line."""
    if run.budget is None:
        return "not recorded"
    return ", ".join(f"{key}={value}" for key, value in sorted(run.budget.items())) or "empty"


def _listed(texts: Iterable[str]) -> str:
    """Join the distinct texts in order of first appearance."""
    return " / ".join(dict.fromkeys(texts))
