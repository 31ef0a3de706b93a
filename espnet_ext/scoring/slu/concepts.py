# SPDX-License-Identifier: Apache-2.0
"""Scores of each concept, and which concept was taken for which.

A concept is found in two senses: in the right number in the utterance, whatever the order
(multiset), or opposite itself in an alignment (aligned). Order is all that tells them apart. The
alignment is sclite's, by costs 4/3/3: by 1/1/1 two concepts in the wrong order would as well be two
substitutions, that is confusions.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from espnet_ext.scoring.paired import same_utterances
from espnet_ext.scoring.slu.alignment import SCLITE, align
from espnet_ext.text.tagged import units

NONE = "(none)"  # no tag can have this name's brackets, so it is told from a concept


@dataclass(frozen=True)
class ConceptScore:
    """Counts of one concept over a set.

    Attributes:
        ref: Times in the references.
        hyp: Times in the hypotheses.
        hits: Times in both, by utterance: the smaller of the two numbers.
        aligned: Times that it stands opposite itself in sclite's alignment.
        values: As ``hits``, of the concept together with its words.
    """

    ref: int
    hyp: int
    hits: int
    aligned: int
    values: int

    def precision(self, hits: int) -> float | None:
        """Return hits in percent of the hypotheses' concepts; None without one."""
        return 100.0 * hits / self.hyp if self.hyp else None

    def recall(self, hits: int) -> float | None:
        """Return hits in percent of the references' concepts; None without one."""
        return 100.0 * hits / self.ref if self.ref else None

    def f1(self, hits: int) -> float | None:
        """Return the harmonic mean of precision and recall in percent; None without a concept."""
        return 200.0 * hits / (self.ref + self.hyp) if self.ref + self.hyp else None


def score_concepts(refs: Mapping[str, str], hyps: Mapping[str, str]) -> dict[str, ConceptScore]:
    """Score each concept of a set of tagged texts; concepts by frequency, equal ones by name.

    Raises:
        DataError: There is no utterance, or one stands on one side only.
    """
    counts: dict[str, Counter[str]] = {
        k: Counter() for k in ("ref", "hyp", "hits", "aligned", "values")
    }
    for utt in same_utterances(refs, hyps):
        ref, hyp = units(refs[utt]), units(hyps[utt])
        names, found = Counter(u.concept for u in ref), Counter(u.concept for u in hyp)
        counts["ref"] += names
        counts["hyp"] += found
        counts["hits"] += names & found
        for unit, n in (Counter(ref) & Counter(hyp)).items():
            counts["values"][unit.concept] += n
        counts["aligned"].update(
            r for r, h in _opposite([u.concept for u in ref], [u.concept for u in hyp]) if r == h
        )
    every = counts["ref"].keys() | counts["hyp"].keys()
    ordered = sorted(every, key=lambda c: (-counts["ref"][c], c))
    return {c: ConceptScore(**{k: n[c] for k, n in counts.items()}) for c in ordered}


def total(scores: Mapping[str, ConceptScore]) -> ConceptScore:
    """Return the sums over concepts: what micro averages are made of."""
    names = ("ref", "hyp", "hits", "aligned", "values")
    return ConceptScore(**{k: sum(getattr(s, k) for s in scores.values()) for k in names})


def confusions(refs: Mapping[str, str], hyps: Mapping[str, str]) -> Counter[tuple[str, str]]:
    """Count what stands opposite what in sclite's alignment.

    Returns:
        ``(reference, hypothesis)`` to count, right pairs included; :data:`NONE` stands for nothing.

    Raises:
        DataError: There is no utterance, or one stands on one side only.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for utt in same_utterances(refs, hyps):
        ref, hyp = ([u.concept for u in units(texts[utt])] for texts in (refs, hyps))
        counts.update(_opposite(ref, hyp))
    return counts


def _opposite(ref: list[str], hyp: list[str]) -> list[tuple[str, str]]:
    pairs = align(ref, hyp, SCLITE)
    return [(NONE if r is None else ref[r], NONE if h is None else hyp[h]) for r, h in pairs]
