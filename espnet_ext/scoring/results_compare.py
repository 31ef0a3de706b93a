# SPDX-License-Identifier: Apache-2.0
"""The comparisons of a results page: a table for the main set, the others folded, one legend."""

from collections.abc import Sequence

from espnet_ext.scoring.budget_ratio import TOLERANCE_PERCENT
from espnet_ext.scoring.comparison import Comparison
from espnet_ext.scoring.curve import FLAT_PERCENT
from espnet_ext.scoring.markdown import cell, code, table
from espnet_ext.scoring.page import NONE, TEXT, Page, bounds, folded, name_of, seeds_of, signed
from espnet_ext.scoring.scored import System
from espnet_ext.scoring.significance import MIN_SEEDS, SAMPLES

LEGEND = (
    f"- **better**, **worse**: both 95 % intervals exclude 0 over at least {MIN_SEEDS} paired "
    "seeds, and p ≤ 0.05 after Holm's correction for the number of pairs. Only the planned "
    "comparison (†), named in recipe.yaml beforehand, is not corrected.",
    "- **n.s.**: not significant; no difference shown.",
    "- **half-trained**: a difference against a system that was still learning: in the last "
    "quarter of its training its error on the development set fell by more than "
    f"{FLAT_PERCENT:g} %. It may be one of learning speed.",
    "- **not comparable**: other references, no shared seed, or a difference in favour of the "
    f"system with the larger budget (more than {TOLERANCE_PERCENT} %).",
    "- 95 % interval: bootstrap over seeds and utterances, the same for both systems "
    f"({SAMPLES:,} draws). t interval: over the paired differences of the seeds. p: the larger of "
    "the two tests.",
    "- Relative: change of the error rate (of 100 − score where higher is better), with its "
    "bootstrap interval. Budget: that of the system divided by the reference's.",
)


_LABELLED = (
    "- Budgets are labelled batches here; unlabelled ones come on top, and Passes is the ratio of "
    "all forward-backward passes."
)
_AT_EQUAL_PASSES = (
    "Each system against the strongest of as many forward-backward passes, "
    "labelled and unlabelled together. Budget is that of passes, and labelled batches differ."
)


def _by_labels(rows: Sequence[Comparison]) -> bool:
    return any(c.budget is not None and c.budget.unit == "labelled_batches" for c in rows)


def comparison_lines(page: Page) -> list[str]:
    """Return the section; empty where nothing can be compared."""
    rows, missing = page.compared.rows, page.compared.missing
    if not rows and not missing:
        return []
    chosen = (
        f"chosen on {code(page.compared.chosen_on)}" if page.compared.chosen_on
        else "chosen by the scores shown, as not all have scores of a development set"
    )  # fmt: skip
    planned = any(c.planned for c in rows)
    aside = " besides the planned one" if planned else ""
    more = "; then the others against the reference of the planned comparison" if planned else ""
    whole = page.compared.whole
    ablations = f"; ablations against {code(whole)} alone" if whole else ""
    lines = [
        "## Comparisons",
        "",
        "Each system against the strongest of equal budget, and the strongest of a budget against "
        f"the strongest of all ({chosen}){more}{ablations}. Comparisons on this page: {len(rows)}, "
        f"chosen from {page.compared.tests} pair{'s' if page.compared.tests != 1 else ''}{aside}."
        f"{_only(page)}",
        "",
        *([f"Planned, but without results: {cell(missing)}.", ""] if missing else []),
    ]
    main = [c for c in rows if c.planned or _is_main(page, c)]
    others = [c for c in rows if c not in main]
    lines += [*_table(page, main), ""] if main else []
    lines += [*LEGEND, *([_LABELLED] if _by_labels(rows) else []), ""]
    second = page.compared.at_equal_passes
    lines += folded(
        "The same systems by passes",
        [_AT_EQUAL_PASSES, "", *_table(page, second), ""] if second else [],
    )
    lines += folded(
        "Comparisons on other sets and by other metrics",
        [*_table(page, others), ""] if others else [],
    )
    return lines + folded("Changes by seed", _by_seed(page, rows))


def _only(page: Page) -> str:
    """Tell what recipe.yaml restricts the comparisons to."""
    only = page.compared.only
    listed = [f"{what} {', '.join(map(code, x))}" for what, x in vars(only).items() if x]
    return f" recipe.yaml lists what is compared: {'; '.join(listed)}." if listed else ""


def against(page: Page, system: System) -> Comparison | None:
    """Return the comparison that the first table shows for a system, or None."""
    mine = [c for c in page.compared.rows if _is_main(page, c) and c.system == system]
    return next((c for c in mine if not c.planned), mine[0] if mine else None)


def verdict(c: Comparison) -> str:
    """Return the verdict, marked where the comparison was planned."""
    return c.verdict + (" †" if c.planned else "")


def _is_main(page: Page, c: Comparison) -> bool:
    return page.main is not None and (c.set_name, c.metric) == page.main[:2]


def _table(page: Page, rows: Sequence[Comparison]) -> list[str]:
    sets = len({c.set_name for c in rows}) > 1
    metric = len({c.metric.name for c in rows}) > 1
    remarks, labels = any(c.remarks for c in rows), _by_labels(rows)
    header = [
        *(["Set"] if sets else []), *(["Metric"] if metric else []),
        *("System", "Against", "Seeds", "Score", "Reference", "Change", "95 % interval"),
        *("t interval", "Relative", "p", "Budget"), *(["Passes"] if labels else []), "Verdict",
        *(["Remarks"] if remarks else []),
    ]  # fmt: skip
    body = []
    for c in rows:
        body.append(
            [
                *([c.set_name] if sets else []), *([c.metric.title] if metric else []),
                *_names(page, c), seeds_of(c.seeds), *_numbers(c),
                NONE if c.p is None else f"{c.p:.3f}",
                NONE if c.budget is None else f"{c.budget.ratio:.2f}x",
                *([_passes(c)] if labels else []),
                verdict(c), *(["; ".join(c.remarks)] if remarks else []),
            ]
        )  # fmt: skip
    return table(header, body, TEXT)


def _passes(c: Comparison) -> str:
    """Return the ratio of all passes."""
    if c.budget is None:
        return NONE
    known = c.budget.ratio if c.budget.unit == "passes" else c.budget.passes
    return NONE if known is None else f"{known:.2f}x"


def _names(page: Page, c: Comparison) -> list[str]:
    """Return the names of the two systems, as the tables of their set have them."""
    field = next(f for f in page.scores.fields(c.set_name) if f.metric == c.metric)
    return [name_of(s, field.systems) for s in (c.system, c.reference)]


def _numbers(c: Comparison) -> list[str]:
    if c.result is None:
        return [NONE] * 6
    r = c.result
    relative = NONE
    if r.relative is not None:
        relative = f"{signed(r.relative, 1)} % ({bounds(r.relative_low, r.relative_high, 1)})"
    return [
        f"{c.score:.2f}", f"{c.score_reference:.2f}", signed(r.delta, 2),
        bounds(r.low, r.high), bounds(r.t_low, r.t_high), relative,
    ]  # fmt: skip


def _by_seed(page: Page, rows: Sequence[Comparison]) -> list[str]:
    rows = [c for c in rows if c.result is not None]
    seeds = sorted({s for c in rows for s in c.seeds})
    metric = len({c.metric.name for c in rows}) > 1
    header = ["Set", *(["Metric"] if metric else []), "System", "Against"]
    header += [f"Seed {s}" for s in seeds]
    body = []
    for c in rows:
        change = dict(zip(c.seeds, c.result.changes, strict=True))
        cells = [signed(change[s], 2) if s in change else NONE for s in seeds]
        named = [c.set_name, *([c.metric.title] if metric else []), *_names(page, c)]
        body.append([*named, *cells])
    return [*table(header, body, TEXT), ""] if rows else []
