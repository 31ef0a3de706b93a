# SPDX-License-Identifier: Apache-2.0
"""Retrieval of the sentence that was said by the model that the final phase started from."""

from espnet_ext.scoring.retrieval import retrieval_metric

METRIC = retrieval_metric(
    "before_retrieval",
    "Retrieval before",
    "before_retrieved",
    "Retrieval, of the model that the final training phase started from.",
    before="retrieval",
)
