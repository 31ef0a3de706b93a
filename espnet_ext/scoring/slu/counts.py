# SPDX-License-Identifier: Apache-2.0
"""Errors of units under every rule for utterances without a reference concept.

An edit of units is a substitution, deletion or insertion. The rules differ in what an utterance
without a reference concept counts for; ``C`` is the number of reference concepts, ``E`` that of
such utterances:

    keep         its insertions are errors                                  errors / C
    speechbrain  it counts as one empty unit, which is right if no concept  errors / (C + E)
                 is found there; the errors are the same
    skip         it is left out                                             errors elsewhere / C

So ``rate(keep) = rate(speechbrain) * (C + E) / C``. Each rule is counted with the costs 1/1/1
(SpeechBrain, jiwer) and with sclite's 4/3/3, whose alignment may have more edits.

Source: SpeechBrain's MEDIA recipe (``speechbrain``), sclite (``keep``), ESPnet's media recipes
(``skip``).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

import numpy as np

from espnet_ext.scoring.slu.alignment import LEVENSHTEIN, SCLITE, Pair, align
from espnet_ext.text.tagged import Unit, units

COUNTS = ("errors", "ref")
DETAILS = (
    "sub", "del", "ins", "ref_speechbrain", "errors_skip", "errors_sclite", "errors_sclite_skip",
)  # fmt: skip


class Rule(NamedTuple):
    """A rule with the costs of its alignment.

    Attributes:
        title: As pages have it; the headline is ``keep``.
        rule: ``keep``, ``speechbrain`` or ``skip``.
        costs: ``1/1/1`` or ``4/3/3``.
        errors: Name of the count of its errors.
        whole: Name of the count that the errors are divided by.
    """

    title: str
    rule: str
    costs: str
    errors: str
    whole: str


RULES = (
    Rule("keep", "keep", "1/1/1", "errors", "ref"),
    Rule("SpeechBrain", "speechbrain", "1/1/1", "errors", "ref_speechbrain"),
    Rule("skip", "skip", "1/1/1", "errors_skip", "ref"),
    Rule("keep 4/3/3", "keep", "4/3/3", "errors_sclite", "ref"),
    Rule("SpeechBrain 4/3/3", "speechbrain", "4/3/3", "errors_sclite", "ref_speechbrain"),
    Rule("skip 4/3/3", "skip", "4/3/3", "errors_sclite_skip", "ref"),
)

Key = Callable[[Unit], Hashable]


def concept(unit: Unit) -> Hashable:
    """What is compared for the concept error rate."""
    return unit.concept


def concept_value(unit: Unit) -> Hashable:
    """What is compared for the concept and value error rate: one wrong letter is an error."""
    return unit


def count_units(refs: Sequence[str], hyps: Sequence[str], key: Key) -> np.ndarray:
    """Count the edits of units of each of U utterances.

    Args:
        refs: Tagged texts.
        hyps: Tagged texts, whose tags may stand anywhere.
        key: What of a unit is compared.

    Returns:
        ``(U, 9)`` int64, the columns are :data:`COUNTS` and :data:`DETAILS`.
    """
    rows = [_counted([*map(key, units(r))], [*map(key, units(h))])
            for r, h in zip(refs, hyps, strict=True)]  # fmt: skip
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(COUNTS) + len(DETAILS))


def rate(totals: np.ndarray) -> np.ndarray:
    """Return errors in percent of the reference's units.

    Args:
        totals: Errors and units of the reference, ``(..., 2)``.

    Returns:
        ``(...)`` float64. Without a unit in the reference it is 0 if there is no error either, else
        100: everything that was found is wrong.
    """
    totals = np.asarray(totals, dtype=np.float64)
    errors, ref = totals[..., 0], totals[..., 1]
    share = 100.0 * errors / np.where(ref > 0, ref, 1.0)
    return np.where(ref > 0, share, np.where(errors > 0, 100.0, 0.0))


def edits(ref: Sequence[Hashable], hyp: Sequence[Hashable], pairs: Sequence[Pair]) -> tuple:
    """Return the number of substitutions, deletions and insertions of an alignment."""
    deletions = sum(h is None for _, h in pairs)
    insertions = sum(r is None for r, _ in pairs)
    both = [(r, h) for r, h in pairs if r is not None and h is not None]
    return sum(ref[r] != hyp[h] for r, h in both), deletions, insertions


def _counted(ref: list[Hashable], hyp: list[Hashable]) -> list[int]:
    sub, dele, ins = edits(ref, hyp, align(ref, hyp, LEVENSHTEIN))
    errors, sclite = sub + dele + ins, sum(edits(ref, hyp, align(ref, hyp, SCLITE)))
    empty = not ref
    return [
        errors, len(ref), sub, dele, ins, len(ref) + empty,
        0 if empty else errors, sclite, 0 if empty else sclite,
    ]  # fmt: skip
