# SPDX-License-Identifier: Apache-2.0
"""Concept and value error rate (CVER) of tagged text: a unit is a concept with its words."""

from espnet_ext.scoring.slu.counts import concept_value
from espnet_ext.scoring.slu.metric import unit_metric

METRIC = unit_metric(
    "concept_value",
    "CVER",
    concept_value,
    "Edits of concepts together with their words, none of which may differ.",
)
