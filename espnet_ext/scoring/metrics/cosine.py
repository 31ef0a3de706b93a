# SPDX-License-Identifier: Apache-2.0
"""Cosine of the embedding of speech with that of its sentence, by the teacher of the training."""

from espnet_ext.scoring.metrics.base import Metric
from espnet_ext.scoring.retrieval import count_cosines, mean_cosine

METRIC = Metric(
    name="cosine",
    title="Cosine",
    better="higher",
    counts=("millionths", "utterances"),
    score=count_cosines,
    value=mean_cosine,
    ref_file="plain",
    hyp_file="cosine",
    note="Mean over utterances of the cosine to the sentence encoder's embedding, in percent.",
)
