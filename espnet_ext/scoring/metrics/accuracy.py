# SPDX-License-Identifier: Apache-2.0
"""Accuracy of classified utterances: an utterance is right only if all its labels are."""

from collections.abc import Sequence

import numpy as np

from espnet_ext.scoring.metrics.base import Metric


def score(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 2)``: whether all labels, separated by white space, are right, and 1."""
    right = [r.split() == h.split() for r, h in zip(refs, hyps, strict=True)]
    return np.stack([np.array(right, dtype=np.int64), np.ones(len(right), dtype=np.int64)], axis=1)


METRIC = Metric(
    name="accuracy",
    title="Accuracy",
    better="higher",
    counts=("correct", "utterances"),
    score=score,
    ref_file="label",
    hyp_file="prediction",
    note="An utterance is right only if all its labels are.",
)
