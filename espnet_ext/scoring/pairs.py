# SPDX-License-Identifier: Apache-2.0
"""Which systems of a page are compared: each with the strongest of equal budget.

The reference is chosen by scores, not by name, and on the development set where there is one, so
that the choice does not lean on the set that is compared. One pair may be named in recipe.yaml
(``results.planned``) as the comparison for which the experiment was made.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from pydantic import BaseModel, ConfigDict, model_validator

from espnet_ext.scoring.budget_ratio import budget_ratio
from espnet_ext.scoring.comparison import Comparison, compare, judge
from espnet_ext.scoring.scored import Field, Scores, System
from espnet_ext.scoring.significance import MIN_SEEDS


class Planned(BaseModel):
    """The comparison that was planned before the experiment, in recipe.yaml: not corrected.

    Ablations are the planned system without one of its parts: the question is what they lack, so
    they are compared with it alone, and none of them is the reference of another system.
    """

    model_config = ConfigDict(extra="forbid")
    system: str
    against: str
    ablations: list[str] = []
    set: str | None = None  # the first test set
    decoding: str | None = None  # the one that both systems have
    metric: str | None = None  # the first of the set

    @model_validator(mode="after")
    def _systems_are_no_ablations(self) -> "Planned":
        if twice := {self.system, self.against} & {*self.ablations}:
            raise ValueError(f"'{min(twice)}' is planned to be compared, and so no ablation")
        return self

    def is_ablation(self, system: System) -> bool:
        return system.group in self.ablations


class Compare(BaseModel):
    """What alone is compared, in recipe.yaml: the fewer pairs, the less must be corrected.

    Attributes:
        metrics: Names of metrics; empty for all.
        sets: Names of sets; empty for all test sets.
    """

    model_config = ConfigDict(extra="forbid")
    metrics: list[str] = []
    sets: list[str] = []

    def has(self, field: Field) -> bool:
        """Whether the systems of a field are compared."""
        return (not self.metrics or field.metric.name in self.metrics) and (
            not self.sets or field.set_name in self.sets
        )


@dataclass(frozen=True)
class Compared:
    """All comparisons of a page.

    Attributes:
        rows: The comparisons, judged; the planned one first.
        chosen_on: The development set that the references were chosen on; ``None`` where it was
            the compared set itself.
        only: What alone is compared.
        missing: What the planned comparison lacks, or ``None``.
        tests: Number of pairs that p-values are corrected for.
        whole: The planned system, where ablations are compared with it.
        at_equal_passes: Where labelled batches are the budget: the systems of the main set, each
            with the strongest of as many passes.
    """

    rows: list[Comparison]
    chosen_on: str | None
    only: Compare
    missing: str | None = None
    tests: int = 0
    whole: str = ""
    at_equal_passes: tuple[Comparison, ...] = ()


def compared(
    scores: Scores,
    sets: Sequence[str],
    development: str | None,
    planned: Planned | None,
    compare_only: Compare | None = None,
) -> Compared:
    """Compare the systems of a page.

    Args:
        scores: Of all runs.
        sets: Those that are compared, in the order of the page.
        development: The development set, which is not compared.
        planned: The planned comparison, whatever ``compare_only`` says.
        compare_only: What alone is compared.
    """
    only = compare_only or Compare()
    rows, missing, on_development, pairs = [], None, True, set()
    for field in (f for s in sets for f in scores.fields(s) if only.has(f)):
        for method in dict.fromkeys(s.method for s in field.systems):
            mine, pool = _pool(field, method)
            if len(pool) < 2:
                continue
            order, judged = _order(scores, field, pool, development, planned)
            on_development &= judged
            rows += _against_strongest(scores, field, mine, order)
            rows += _against_the_whole(scores, field, mine, planned)
            pairs |= _pairs(field, mine, pool, planned)
    if planned:
        first, missing = planned_comparison(scores, sets, planned)
        same = {_key(first)} if first else set()
        rows = [*([first] if first else []), *(r for r in rows if _key(r) not in same)]
        rows += _against_planned(scores, planned, first, rows) if first else []
        pairs -= same
    # The choice of a reference is a choice among all pairs.
    tests = max(len(pairs), sum(not c.planned for c in rows))
    chosen_on = development if on_development else None
    rows = judge(rows, tests)
    second = _at_equal_passes(scores, rows, development, only, planned) if rows else []
    # These pairs are among those that ``tests`` counts, so that no correction is lacking.
    parts = [c for c in rows if planned and planned.is_ablation(c.system)]
    whole = planned.system if parts else ""
    return Compared(rows, chosen_on, only, missing, tests, whole, tuple(judge(second, tests)))


def _at_equal_passes(
    scores: Scores, rows: Sequence[Comparison], development: str | None, only: Compare,
    planned: Planned | None,
) -> list[Comparison]:  # fmt: skip
    """Return the comparisons of the first set and metric again, now with passes as the budget."""
    first = rows[0]
    if not any(c.budget and c.budget.unit == "labelled_batches" for c in rows):
        return []
    field = next(f for f in scores.fields(first.set_name) if f.metric == first.metric)
    found = []
    if first.planned:
        found.append(compare(scores, field, first.system, first.reference, True, labelled=False))
    for method in dict.fromkeys(s.method for s in field.systems) if only.has(field) else ():
        mine, pool = _pool(field, method)
        if len(pool) > 1:
            order, _ = _order(scores, field, pool, development, planned)
            found += _against_strongest(scores, field, mine, order, labelled=False)
            found += _against_the_whole(scores, field, mine, planned, labelled=False)
    return list({_key(c): c for c in reversed(found)}.values())[::-1]


def _pool(field: Field, method: str) -> tuple[list[System], list[System]]:
    """Return the systems that are decoded by a method, and those that these are compared with."""
    mine = [s for s in field.systems if s.method == method]
    return mine, mine if len(mine) > 1 else [*mine, *_only_ways(field, mine[0])]


def _order(
    scores: Scores, field: Field, pool: Sequence[System], development: str | None,
    planned: Planned | None,
) -> tuple[list[System], bool]:  # fmt: skip
    """Return the systems that may be references, the strongest first, and whether the development
    set judged them."""  # fmt: skip
    whole = [s for s in pool if not (planned and planned.is_ablation(s))]
    judged_by = _judge(scores, field, whole, development)
    return scores.ranked(judged_by or field, whole), judged_by is not None


def _against_strongest(
    scores: Scores,
    field: Field,
    mine: Sequence[System],
    order: Sequence[System],
    labelled: bool = True,
) -> list[Comparison]:
    """Return the comparisons of systems, among systems from the strongest to the weakest."""
    rows: list[Comparison] = []
    if len(order) < 2:
        return rows
    for system in (s for s in order if s in mine):
        rivals = order if len(mine) > 1 else [s for s in order if s != system]
        rivals = _with_enough_seeds(field, system, rivals)
        equal = [s for s in rivals if s == system or _equal_budgets(field, system, s, labelled)]
        # The strongest of its budget stands against the strongest of all.
        reference = equal[0] if equal and equal[0] != system else rivals[0]
        if reference != system:
            rows.append(compare(scores, field, system, reference, labelled=labelled))
    return rows


def _against_the_whole(
    scores: Scores,
    field: Field,
    mine: Sequence[System],
    planned: Planned | None,
    labelled: bool = True,
) -> list[Comparison]:
    """Return the comparisons of ablations with the planned system, the strongest first."""
    if planned is None:
        return []
    return [
        compare(scores, field, system, whole, labelled=labelled)
        for system in scores.ranked(field, mine)
        if planned.is_ablation(system)
        and (whole := System(planned.system, system.method)) in field.systems
    ]


def _pairs(
    field: Field, mine: Sequence[System], pool: Sequence[System], planned: Planned | None
) -> set[tuple[str, str, frozenset[System]]]:
    """Return the pairs that could be compared: those with enough seeds for a claim."""
    return {
        (field.set_name, field.metric.name, frozenset((a, b)))
        for a, b in combinations(pool, 2)
        if (a in mine or b in mine) and _can_be_judged(field, a, b) and _may_meet(a, b, planned)
    }


def _may_meet(a: System, b: System, planned: Planned | None) -> bool:
    """Whether two systems can be compared: an ablation only with the planned system."""
    if planned is None or not (planned.is_ablation(a) or planned.is_ablation(b)):
        return True
    return planned.system in (a.group, b.group) and a.method == b.method


def _can_be_judged(field: Field, a: System, b: System) -> bool:
    mine, theirs = ({r.seed for r in field.systems[s]} for s in (a, b))
    return len(mine & theirs) >= MIN_SEEDS


def _with_enough_seeds(field: Field, system: System, rivals: Sequence[System]) -> Sequence[System]:
    """Return the rivals that a claim is possible against; all of them where there is none.

    One run of a system that nobody repeated must not take the place of a reference with seeds.
    """
    found = [s for s in rivals if s != system and _can_be_judged(field, system, s)]
    return [s for s in rivals if s == system or s in found] if found else rivals


def _judge(
    scores: Scores, field: Field, pool: Sequence[System], development: str | None
) -> Field | None:
    """Return the field of the development set that can rank all these systems."""
    for other in scores.fields(development) if development else []:
        if other.metric.name == field.metric.name and all(s in other.systems for s in pool):
            return other
    return None


def _only_ways(field: Field, system: System) -> list[System]:
    """Return other groups' systems where one group has a method that no other has.

    This is so only where text was classified, which a model may do in several ways: another search
    of a recogniser is no other system.
    """
    if field.decoded(system)[0].input_sha256 is None:
        return []
    ways: dict[str, list[System]] = {}
    for other in field.systems:
        ways.setdefault(other.group, []).append(other)
    return [same[0] for group, same in ways.items() if group != system.group and len(same) == 1]


def _equal_budgets(field: Field, system: System, other: System, labelled: bool) -> bool:
    """Whether two systems have equal budgets over the seeds they share."""
    mine, theirs = ({r.seed: r for r in field.systems[s]} for s in (system, other))
    seeds = sorted(mine.keys() & theirs.keys())
    if not seeds:
        return False
    ratio = budget_ratio([theirs[s] for s in seeds], [mine[s] for s in seeds], labelled)
    return ratio is not None and not (ratio.more or ratio.less)


def planned_comparison(
    scores: Scores, sets: Sequence[str], planned: Planned
) -> tuple[Comparison | None, str | None]:
    """Return the planned comparison, or what it lacks."""
    for field in (f for s in ([planned.set] if planned.set else sets) for f in scores.fields(s)):
        if planned.metric not in (None, field.metric.name):
            continue
        for system in field.systems:
            other = System(planned.against, system.method)
            wanted = system.group == planned.system and planned.decoding in (None, system.method)
            if wanted and other in field.systems:
                return compare(scores, field, system, other, planned=True), None
    return None, f"{planned.system} against {planned.against}: no run records yet"


def _against_planned(
    scores: Scores, planned: Planned, first: Comparison, known: Sequence[Comparison]
) -> list[Comparison]:
    """Return the other systems of the planned set against the planned reference."""
    field = next(f for f in scores.fields(first.set_name) if f.metric == first.metric)
    seen, rows = {_key(c) for c in known}, []
    for system in scores.ranked(field):
        if system != first.reference and not planned.is_ablation(system):
            row = compare(scores, field, system, first.reference)
            rows += [] if _key(row) in seen else [row]
    return rows


def _key(c: Comparison) -> tuple[str, str, frozenset[System]]:
    """The same two systems are one comparison, whichever of them is the reference."""
    return c.set_name, c.metric.name, frozenset((c.system, c.reference))
