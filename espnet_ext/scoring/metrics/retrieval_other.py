# SPDX-License-Identifier: Apache-2.0
"""Retrieval of a translation of what was said, from the embedding of its speech: top 1."""

from espnet_ext.scoring.retrieval import retrieval_metric

METRIC = retrieval_metric(
    "retrieval_other",
    "Retrieval (other languages)",
    "retrieved_other",
    "Share of utterances whose nearest sentence of the other languages means what was said.",
)
