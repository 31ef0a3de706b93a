# SPDX-License-Identifier: Apache-2.0
"""Concept error rate of tagged text: edits of concepts in percent of the reference's concepts.

Papers on spoken language understanding call it CER; the character error rate is ``cer``.
"""

from espnet_ext.scoring.slu.counts import concept
from espnet_ext.scoring.slu.metric import unit_metric

METRIC = unit_metric(
    "concept", "CER (concepts)", concept, "Edits of concepts, whatever their words."
)
