# SPDX-License-Identifier: Apache-2.0
"""Cosine of speech and sentence by the model that the final training phase started from."""

from espnet_ext.scoring.retrieval import cosine_metric

METRIC = cosine_metric(
    "before_cosine",
    "Cosine before",
    "before_cosine",
    "Mean cosine, in percent, of the model that the final training phase started from.",
    before="cosine",
)
