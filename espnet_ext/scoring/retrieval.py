# SPDX-License-Identifier: Apache-2.0
"""How well the embeddings of speech keep the meaning of its sentence: counts of what was retrieved.

The decode stage writes for each utterance the meaning of the nearest sentence and the cosine to its
own sentence. ``meaning`` of the reference is equal for all sentences that mean the same; where a
corpus has no such key, a sentence means itself.
"""

import math
from collections.abc import Sequence

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics.base import Metric

SCALE = 1_000_000  # cosines are kept as whole millionths above -1: counts are never negative


def retrieval_metric(name: str, title: str, hyp_file: str, note: str, before: str = "") -> Metric:
    """Return the accuracy of what a retrieval found first."""
    return Metric(
        name=name,
        title=title,
        better="higher",
        counts=("correct", "utterances"),
        score=count_hits,
        ref_file="meaning",
        ref_else="plain",
        hyp_file=hyp_file,
        before=before,
        optional=True,
        note=note,
    )


def cosine_metric(name: str, title: str, hyp_file: str, note: str, before: str = "") -> Metric:
    """Return the mean cosine to the embedding of the sentence that was said."""
    return Metric(
        name=name,
        title=title,
        better="higher",
        counts=("millionths", "utterances"),
        score=count_cosines,
        value=mean_cosine,
        ref_file="plain",
        hyp_file=hyp_file,
        before=before,
        optional=True,
        note=note,
    )


def count_hits(meanings: Sequence[str], found: Sequence[str]) -> np.ndarray:
    """Return ``(U, 2)``: whether the retrieved meaning is that of the utterance, and 1."""
    hits = [m == f for m, f in zip(meanings, found, strict=True)]
    return np.stack([np.array(hits, dtype=np.int64), np.ones(len(hits), dtype=np.int64)], axis=1)


def count_cosines(texts: Sequence[str], cosines: Sequence[str]) -> np.ndarray:
    """Return ``(U, 2)``: the cosine plus 1 in millionths, and 1.

    Raises:
        DataError: A value is no number from -1 to 1.
    """
    rows = [(round((_cosine(c) + 1.0) * SCALE), 1) for _, c in zip(texts, cosines, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2)


def mean_cosine(totals: np.ndarray) -> np.ndarray:
    """Return the mean cosine times 100 of summed counts, ``(..., 2)``; NaN without utterances."""
    totals = np.asarray(totals, dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = totals[..., 0] / SCALE / totals[..., 1] - 1.0
    return np.where(totals[..., 1] == 0, np.nan, 100.0 * mean)


def _cosine(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not -1.0 - 1e-4 <= value <= 1.0 + 1e-4:  # NaN fails as well; float32 may round past 1
        raise DataError(f"'{text}' is no cosine", "metric cosine", "./run.sh --stage decode")
    return min(1.0, max(-1.0, value))
