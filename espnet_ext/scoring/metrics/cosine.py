# SPDX-License-Identifier: Apache-2.0
"""Cosine of the embedding of speech with that of its sentence, by the teacher of the training."""

from espnet_ext.scoring.retrieval import cosine_metric

METRIC = cosine_metric(
    "cosine",
    "Cosine",
    "cosine",
    "Mean over utterances of the cosine to the sentence encoder's embedding, in percent.",
)
