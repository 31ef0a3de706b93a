# SPDX-License-Identifier: Apache-2.0
"""All scores of two tagged texts: concepts under every rule, words, characters, F1, intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet_ext.scoring import metrics
from espnet_ext.scoring.paired import same_utterances
from espnet_ext.scoring.significance import SAMPLES, interval, resample
from espnet_ext.scoring.slu.concepts import ConceptScore, score_concepts, total
from espnet_ext.scoring.slu.counts import (
    COUNTS,
    DETAILS,
    RULES,
    Rule,
    concept,
    concept_value,
    count_units,
    rate,
)

_KEYS = {"cer": concept, "cver": concept_value}


@dataclass(frozen=True)
class Rate:
    """An error rate in percent, with the bounds of its 95 % interval over utterances."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Scores:
    """Scores of a set of tagged texts.

    Attributes:
        utterances: Their number.
        without: Utterances without a reference concept.
        rates: ``cer`` and ``cver`` (concepts, concepts with values) by each of :data:`RULES`.
        plain: ``wer`` and ``cher`` without tags, percent; None where no word is in the references.
        concepts: Counts of each concept.
    """

    utterances: int
    without: int
    rates: Mapping[str, Sequence[Rate]]
    plain: Mapping[str, float | None]
    concepts: Mapping[str, ConceptScore]

    def as_json(self) -> dict[str, Any]:
        """Return everything by name, percent."""
        rules = [
            {"rule": rule.rule, "costs": rule.costs}
            | {k: vars(rates[i]) for k, rates in self.rates.items()}
            for i, rule in enumerate(RULES)
        ]
        return {
            "utterances": self.utterances,
            "utterances_without_concept": self.without,
            "rules": rules,
            **self.plain,
            "concepts": {name: vars(score) for name, score in self.concepts.items()},
        }


def score_tagged(
    refs: Mapping[str, str], hyps: Mapping[str, str], samples: int = SAMPLES
) -> Scores:
    """Score a set.

    Args:
        refs: Utterance id to tagged text.
        hyps: The same for exactly the same utterances.
        samples: Draws of utterances for the intervals.

    Raises:
        DataError: There is no utterance, or one stands on one side only.
    """
    utts = same_utterances(refs, hyps)
    r, h = [refs[u] for u in utts], [hyps[u] for u in utts]
    counted = {name: count_units(r, h, key) for name, key in _KEYS.items()}
    without = int((counted["cer"][:, COUNTS.index("ref")] == 0).sum())
    return Scores(
        len(utts),
        without,
        _rates(counted, samples),
        {"wer": _plain("wer_plain", r, h), "cher": _plain("cer_plain", r, h)},
        score_concepts(refs, hyps),
    )


def as_text(scores: Scores) -> str:
    """Return the table that is printed."""
    sums = total(scores.concepts)
    found = [c.f1(c.hits) for c in scores.concepts.values()]
    macro = sum(x or 0.0 for x in found) / len(found) if found else None
    rows = [("no reference concept", "costs", "CER", "95 % interval", "CVER", "95 % interval")]
    for i, rule in enumerate(RULES):
        cells = [c for k in _KEYS for c in _cells(scores.rates[k][i])]
        rows.append((rule.rule + (" *" if i == 0 else ""), rule.costs, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    table = [_line(row, widths) for row in rows]
    wer, cher = (_percent(scores.plain[k]) for k in ("wer", "cher"))
    return "\n".join(
        [
            f"Utterances: {scores.utterances:,} ({scores.without:,} without a reference concept); "
            f"reference concepts: {sums.ref:,}",
            "",
            *table,
            "",
            "CER: concept error rate; CVER: of concepts with their words; * headline",
            f"Without tags: WER {wer}, character error rate {cher}",
            f"F1 of concepts: {_percent(sums.f1(sums.hits))} (micro), {_percent(macro)} (macro); "
            f"with their words {_percent(sums.f1(sums.values))} (micro)",
        ]
    )


def _rates(counted: Mapping[str, np.ndarray], samples: int) -> dict[str, list[Rate]]:
    """Return the rates of all rules, on the same draws of utterances."""
    stacked = [_of_rule(counts, rule) for counts in counted.values() for rule in RULES]
    scores = resample(np.stack(stacked), rate, samples=samples)
    every = [
        Rate(float(scores.values[i]), *interval(scores.take([i]))) for i in range(len(stacked))
    ]
    return {k: every[n * len(RULES) : (n + 1) * len(RULES)] for n, k in enumerate(counted)}


def _of_rule(counts: np.ndarray, rule: Rule) -> np.ndarray:
    names = [*COUNTS, *DETAILS]
    return counts[:, [names.index(rule.errors), names.index(rule.whole)]]


def _plain(name: str, refs: Sequence[str], hyps: Sequence[str]) -> float | None:
    metric = metrics.find(name)
    totals = np.asarray(metric.score(refs, hyps)).sum(axis=0)[: len(metric.counts)]
    value = float(metric.value(totals))
    return value if np.isfinite(value) else None


def _cells(found: Rate) -> tuple[str, str]:
    return f"{found.value:.2f}", f"{found.low:.2f} to {found.high:.2f}"


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = zip(row, widths, strict=True)
    return "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(cells)).rstrip()


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2f} %"
