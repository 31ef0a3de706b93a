# SPDX-License-Identifier: Apache-2.0
"""Accuracy of utterances that a head on a frozen encoder classifies."""

from collections.abc import Sequence

import numpy as np

from espnet_ext.scoring.metrics.base import Metric


def score(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 2)``: whether all labels, separated by '|', are right, and 1."""
    pairs = zip(map(_labels, refs), map(_labels, hyps), strict=True)
    return np.array([(int(ref == hyp), 1) for ref, hyp in pairs], dtype=np.int64).reshape(-1, 2)


def _labels(text: str) -> list[list[str]]:
    return [part.split() for part in text.split("|")]


METRIC = Metric(
    name="label_accuracy",
    title="Accuracy",
    better="higher",
    counts=("correct", "utterances"),
    score=score,
    hyp_file="prediction",
    optional=True,
    note="An utterance is right only if all its labels are.",
)
