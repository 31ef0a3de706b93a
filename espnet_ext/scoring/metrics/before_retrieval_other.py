# SPDX-License-Identifier: Apache-2.0
"""Retrieval of a translation by the model that the final training phase started from."""

from espnet_ext.scoring.retrieval import retrieval_metric

METRIC = retrieval_metric(
    "before_retrieval_other",
    "Retrieval before (other languages)",
    "before_retrieved_other",
    "Retrieval in other languages, of the model that the final training phase started from.",
    before="retrieval_other",
)
