# SPDX-License-Identifier: Apache-2.0
"""Retrieval of the sentence that was said, from the embedding of its speech: top 1."""

from espnet_ext.scoring.retrieval import retrieval_metric

METRIC = retrieval_metric(
    "retrieval",
    "Retrieval",
    "retrieved",
    "Share of utterances whose nearest sentence of the same language means what was said.",
)
