# SPDX-License-Identifier: Apache-2.0
"""How good sentence embeddings are: spread, and retrieval of translations. NumPy only."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

COLLAPSED = 0.8  # mean cosine of different texts; LaBSE's is some 0.2, all alike would be 1


@dataclass(frozen=True)
class Parallel:
    """Texts of which some are translations of others.

    Attributes:
        meaning: Equal for translations.
        language: Of the text.
        text: Itself.
    """

    meaning: str
    language: str
    text: str


def mean_cosine(vectors: np.ndarray) -> float:
    """Return the mean cosine of all pairs of different rows of ``(N, E)`` unit vectors."""
    n = len(vectors)
    if n < 2:
        return 0.0
    vectors = vectors.astype(np.float64)
    total = float(np.square(vectors.sum(0)).sum())
    return (total - float(np.square(vectors).sum())) / (n * (n - 1))


def retrieval(rows: Sequence[Parallel], vectors: np.ndarray) -> dict[tuple[str, str], float]:
    """Return for each pair of languages how often the nearest text is a translation.

    A query is a text of the first language whose meaning the second has; candidates are the
    distinct texts of the second. A hit is a nearest text that has the query's meaning.

    Args:
        rows: N texts.
        vectors: ``(N, E)`` unit vectors.
    """
    found: dict[tuple[str, str], float] = {}
    for one, two in permutations(sorted({r.language for r in rows}), 2):
        texts: dict[str, int] = {}
        meanings: dict[str, set[str]] = {}
        for i, row in enumerate(rows):
            if row.language == two:
                texts.setdefault(row.text, i)
                meanings.setdefault(row.text, set()).add(row.meaning)
        there = {m for own in meanings.values() for m in own}
        queries = [i for i, r in enumerate(rows) if r.language == one and r.meaning in there]
        if not queries:
            continue
        names, at = list(texts), list(texts.values())
        nearest = (vectors[queries] @ vectors[at].T).argmax(1)
        hits = sum(rows[q].meaning in meanings[names[c]]
                   for q, c in zip(queries, nearest, strict=True))  # fmt: skip
        found[one, two] = hits / len(queries)
    return found


def told(found: dict[tuple[str, str], float]) -> str:
    """Return the shares of :func:`retrieval` as one line; empty without any."""
    if not found:
        return ""
    pairs = ", ".join(f"{a}->{b} {100 * share:.1f} %" for (a, b), share in sorted(found.items()))
    return f"nearest text is a translation: {mean(found):.3f} ({pairs})"


def mean(found: dict[tuple[str, str], float]) -> float:
    """Return the mean over the pairs of languages; 0 without any."""
    return sum(found.values()) / len(found) if found else 0.0
