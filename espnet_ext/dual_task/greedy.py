# SPDX-License-Identifier: Apache-2.0
"""Greedy CTC decoding to tagged text, and its errors during validation."""

from collections.abc import Sequence
from itertools import groupby

from rapidfuzz.distance import Levenshtein
from torch import Tensor

from espnet_ext.text import tagged

SPACE = "<space>"


def best_symbols(logits: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """Return the symbols of each utterance: the best of each frame, repeats and blanks left out.

    Args:
        logits: ``(B, T, V)``.
        lengths: ``(B,)`` valid frames.
        blank: Index of the blank.
    """
    best = logits.argmax(-1).tolist()
    return [
        [symbol for symbol, _ in groupby(row[:n]) if symbol != blank]
        for row, n in zip(best, lengths.tolist(), strict=True)
    ]


def to_text(symbols: Sequence[int], tokens: Sequence[str]) -> str:
    """Return symbols as tagged text."""
    return "".join(" " if tokens[i] == SPACE else tokens[i] for i in symbols)


def error_rates(
    hypotheses: Sequence[Sequence[int]], references: Sequence[Sequence[int]], tokens: Sequence[str]
) -> dict[str, float]:
    """Return the errors of a batch.

    Args:
        hypotheses: Symbols of each utterance.
        references: Likewise.
        tokens: The token list.

    Returns:
        ``char_error``: edits over the symbols of the references; ``concept_error``: edits of the
        sequences of concepts over the concepts of the references (an empty batch counts as one).
    """
    pairs = list(zip(hypotheses, references, strict=True))
    edits = sum(Levenshtein.distance(list(h), list(r)) for h, r in pairs)
    concepts = [tuple(_concepts(x, tokens) for x in pair) for pair in pairs]
    wrong = sum(Levenshtein.distance(h, r) for h, r in concepts)
    return {
        "char_error": edits / max(1, sum(len(r) for _, r in pairs)),
        "concept_error": wrong / max(1, sum(len(r) for _, r in concepts)),
    }


def _concepts(symbols: Sequence[int], tokens: Sequence[str]) -> list[str]:
    return [unit.concept for unit in tagged.units(to_text(symbols, tokens))]
