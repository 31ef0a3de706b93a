# SPDX-License-Identifier: Apache-2.0
"""The page of the recipe, with results from our run records, and the text of the pull request."""

import statistics
from collections.abc import Iterable, Mapping

from espnet_ext.recipe.schema import PHASES
from espnet_ext.scoring.record import Record
from espnet_ext.scoring.results import render_results
from espnet_ext.upstream.mapping import DEVIATION, Mapped
from espnet_ext.upstream.plan import WEAK_ALIGN, Plan
from espnet_ext.upstream.templating import template

PAPER = {
    WEAK_ALIGN: "Weak supervision of an inner encoder layer by the frame labels of a forced "
    "alignment (arXiv 2311.14835)",
    "asr": "Conformer with CTC and attention",
}
VERDICTS = ("better", "n.s.", "half-trained", "not comparable", "worse")
NO_RESULTS = "No run has been recorded yet: train it before you send it."


def recipe_page(plan: Plan, result: Mapped, here: str) -> str:
    """Return README.md.

    Args:
        plan: The recipe.
        result: Its options, with what deviates.
        here: Folder of the recipe below the checkout.
    """
    flags = {"align" if plan.align else "plain", "own" if plan.corpus == "an4" else "kaldi"}
    return template("egs3/README.md", page_values(plan, result, here), flags)


def pull_request(plan: Plan, result: Mapped, files: Mapping[str, str], here: str) -> str:
    """Return the text of the pull request; ``files`` are those of the branch but the page."""
    flags = {"align" if plan.align else "plain", plan.layout}
    return template("PR_BODY.md", page_values(plan, result, here), flags)


def page_values(plan: Plan, result: Mapped, here: str) -> dict[str, str]:
    """Return the values of the pages' templates."""
    corpus = plan.recipe.corpus
    variable = corpus.env or plan.corpus.upper()
    name = corpus.name or plan.corpus
    return {
        "TITLE": plan.recipe.title or f"{plan.corpus}/{plan.method}",
        "HERE": here,
        "CORPUS_NAME": name,
        "SOURCE": corpus.source or "see its owner",
        "LICENCE": corpus.licence or "see its owner",
        "VARIABLE": variable,
        "DATA_VAR": f"{variable}_DATA",
        "ALIGN_VAR": f"{variable}_ALIGNMENT",
        "METHOD": PAPER[plan.method],
        "RESULTS": "\n".join(results(plan)) or NO_RESULTS,
        "DEVIATIONS": "\n".join(_deviations(result)) or "- none",
        "COUNTS": "@COUNTS@",  # known when the tree is checked
        "CHECKS": "@CHECKS@",
        "CLASSES": str(plan.align.get("num_classes", "")),
    }


def _deviations(result: Mapped) -> Iterable[str]:
    for section, notes in result.deviations.items():
        yield from (f"- {DEVIATION} {section}: {note}" for note in notes)


def results(plan: Plan) -> list[str]:
    """Return the first table of RESULTS.md, the rules of its verdicts, and what it is of.

    The page is made anew from the run records.
    """
    if not plan.records:
        return []
    sections = _sections(render_results(plan.folder))
    title = next(iter(sections))
    table = [x for x in sections[title] if not x.startswith("![")]
    met = [v for v in VERDICTS if any(f"| {v} " in x for x in table)]
    rules = [x for x in sections.get("Comparisons", [])
             if x.startswith("- **") and any(f"**{v}**" in x for v in met)]  # fmt: skip
    lines = [f"### {title}", *table, "", *rules]
    return [*_squeezed(lines), "", *_training(plan.records)]


def _sections(page: str) -> dict[str, list[str]]:
    """Return the lines of each section of a page by its title."""
    found: dict[str, list[str]] = {}
    for part in page.split("\n## ")[1:]:
        title, _, text = part.partition("\n")
        found[title] = text.splitlines()
    return found


def _squeezed(lines: list[str]) -> Iterable[str]:
    """Leave out empty lines that follow one another, and those at the end."""
    kept = [x for i, x in enumerate(lines) if x or (i and lines[i - 1])]
    while kept and not kept[-1]:
        kept.pop()
    return kept


def _training(records: list[Record]) -> list[str]:
    """Return what the runs cost, and that they are runs of ESPnet2."""
    phases = [r.phases[p] for r in records for p in PHASES if p in r.phases]
    versions = {r.versions.get("espnet", "?") for r in records}
    devices = {r.device for r in records}
    lines = [
        f"Results of the recipe's original with ESPnet2 ({', '.join(sorted(versions))}) on "
        f"{'; '.join(sorted(devices))}: **not yet of this port.**"
    ]
    if phases:
        updates = sorted({p.updates for p in phases})
        params = sorted({p.params for p in phases})
        minutes = statistics.fmean(p.train_wall_s for p in phases) / 60
        lines.append(
            f"{_range(params)} parameters, {_range(updates)} updates, {minutes:.0f} minutes of "
            "training on average."
        )
    return lines


def _range(values: list[int]) -> str:
    return f"{values[0]:,}" if len(values) == 1 else f"{values[0]:,} to {values[-1]:,}"
