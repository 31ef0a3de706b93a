# SPDX-License-Identifier: Apache-2.0
"""Recognisers write fluent text: what stands for a word fits its neighbours.

The pointwise mutual information of two neighbouring words, from the bigrams of the ASR text,

    pmi(a, b) = log( (c(a, b) + K P(b)) / ((c(a) + K) P(b)) ),

is added, with a weight, to the log weight of whatever may stand between two words.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import log

import numpy as np

START, END = "<s>", "</s>"
SMOOTH = 10.0  # K
_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)

# Log weights of the candidates, the candidate chosen, the word before and the word behind it.
Choice = tuple[np.ndarray, int, str, str]


def count_bigrams(sentences: Iterable[Sequence[str]]) -> dict[str, Counter[str]]:
    """Return counts of neighbouring words, sentence ends included: word -> next word -> count."""
    out: dict[str, Counter[str]] = {}
    for words in sentences:
        for a, b in pairwise((START, *words, END)):
            out.setdefault(a, Counter())[b] += 1
    return out


class Bigrams:
    """Mutual information of neighbouring words.

    Args:
        counts: Of :func:`count_bigrams`.
    """

    def __init__(self, counts: dict[str, Counter[str]]):
        self._counts = counts
        self._first = {a: row.total() for a, row in counts.items()}
        second: Counter[str] = Counter()
        for row in counts.values():
            second.update(row)
        self._share = {b: n / max(second.total(), 1) for b, n in second.items()}

    def pmi(self, a: str, b: str, seen: int = 0) -> float:
        """Return the mutual information of ``a b``; 0 if the ASR text lacks either word.

        Args:
            a: A word, or ``START``.
            b: The next word, or ``END``.
            seen: Occurrences of ``a b`` that shall not count.
        """
        n, share = self._first.get(a, 0) - seen, self._share.get(b, 0.0)
        if n <= 0 or not share:
            return 0.0
        both = self._counts[a][b] - seen
        return log((both + SMOOTH * share) / ((n + SMOOTH) * share))

    def fit(self, before: str, phrase: str, behind: str, seen: int = 0) -> float:
        """Return how well a phrase stands between two words: the sum of both sides."""
        words = phrase.split()
        return self.pmi(before, words[0], seen) + self.pmi(words[-1], behind, seen)


def fit_weight(bigrams: Bigrams, phrases: Sequence[str], choices: Iterable[Choice]) -> float:
    """Return the weight of the mutual information under which choices are likeliest.

    Every choice is judged by the bigrams of the other occurrences.
    """
    totals = np.zeros(len(_WEIGHTS))
    for score, chosen, before, behind in choices:
        fits = np.array([bigrams.fit(before, p, behind) for p in phrases])
        fits[chosen] = bigrams.fit(before, phrases[chosen], behind, seen=1)
        for i, weight in enumerate(_WEIGHTS):
            total = score + weight * fits
            totals[i] += total[chosen] - np.logaddexp.reduce(total)
    return _WEIGHTS[int(totals.argmax())]
