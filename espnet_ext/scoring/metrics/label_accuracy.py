# SPDX-License-Identifier: Apache-2.0
"""Accuracy of utterances that a head on a frozen encoder classifies."""

from collections.abc import Sequence

import numpy as np

from espnet_ext.scoring.metrics import accuracy
from espnet_ext.scoring.metrics.base import Metric


def score(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 2)``: whether all labels, separated by '|', are right, and 1."""
    return accuracy.score(*([text.replace("|", " | ") for text in side] for side in (refs, hyps)))


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
