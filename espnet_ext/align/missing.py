# SPDX-License-Identifier: Apache-2.0
"""The probability that something was said where a transcript has no word.

Such a place lies between two words, before the first, or after the last. What was said there is
aligned as silence, or as the phones beside it, which then fit badly in a part or are too long. A
logistic regression learns from utterances whose transcripts lack a word
(:mod:`espnet_ext.align.spoil`); it reckons with one word missing at a hundred places.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice, pairwise

import numpy as np

from espnet_ext.align.confidence import PRIOR, Usual, examples, fit, logistic
from espnet_ext.align.passes.confidence import WORST
from espnet_ext.align.search.segmentation import Segmentation

NEAR = 2  # phones on each side of a place
RIGHT = 10_000  # utterances as they are to learn from


@dataclass(frozen=True)
class Missing:
    """What :func:`learn` finds.

    Args:
        worst: ``(2, phones)`` see :class:`Usual`.
        length: ``(2, phones)`` see :class:`Usual`.
        fitted: The regression: ``centre``, ``scale``, ``weights``, ``bias``.
    """

    worst: list[list[float]]
    length: list[list[float]]
    fitted: dict

    def places(self, seg: Segmentation, evidence: np.ndarray) -> np.ndarray:
        """Return ``(words + 1,)`` the probability that a word is missing before each, and after."""
        x = features(seg, evidence, np.asarray(self.worst), np.asarray(self.length))
        return logistic(x, self.fitted)


def features(
    seg: Segmentation, evidence: np.ndarray, worst: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """Return ``(words + 1, 3)``: of the phones beside a place the worst part and the most unusual
    length, and how little its silence is one, times how long it is.

    Args:
        seg: Alignment of P phones.
        evidence: ``(P, 2)`` of each phone.
        worst: See :class:`Usual`.
        length: See :class:`Usual`.
    """
    frames, phones = seg.durations.sum(1), seg.phones
    poor = (evidence[:, WORST] - worst[0][phones]) / worst[1][phones]
    long = (np.log(frames) - length[0][phones]) / length[1][phones]
    own = [np.flatnonzero(seg.words == w) for w in range(int(seg.words.max(initial=-1)) + 1)]
    nothing, rows = np.zeros(0, int), []
    for before, after in pairwise([nothing, *own, nothing]):
        near = np.concatenate([before[-NEAR:], after[:NEAR]])
        start = before[-1] + 1 if len(before) else 0
        silence = slice(start, after[0] if len(after) else len(phones))
        least = evidence[silence, WORST].min(initial=0.0)
        rows.append((poor[near].min(), long[near].max(), least * np.log1p(frames[silence].sum())))
    return np.array(rows)


def learn(
    places: dict[str, int],
    spoilt: Iterator[tuple[str, Segmentation, np.ndarray]],
    right: Iterator[tuple[str, Segmentation, np.ndarray]],
    known: Usual,
) -> dict | None:
    """Learn from utterances with a word left out; None if there are too few.

    Args:
        places: Where, see :func:`espnet_ext.align.spoil.spoil`.
        spoilt: Their alignments and evidence.
        right: Those of the transcripts as they are.
        known: What is usual for each phone.

    Returns:
        The fields of :class:`Missing`.
    """

    def of(seg: Segmentation, evidence: np.ndarray) -> np.ndarray:
        return features(seg, evidence, known.worst, known.length)

    found = list(examples(places, spoilt, of))
    as_they_are = (of(*row[1:]) for row in islice(right, RIGHT))
    found += [(x, np.zeros(len(x), bool)) for x in as_they_are]
    fitted = fit([x for x, _ in found], [at for _, at in found], PRIOR)
    if fitted is None:
        return None
    worst, length = (np.round(x, 6).tolist() for x in (known.worst, known.length))
    return asdict(Missing(worst, length, fitted))
