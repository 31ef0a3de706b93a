# SPDX-License-Identifier: Apache-2.0
"""Phone error rate: edits of phones in percent of the reference's phones."""

from espnet_ext.scoring.edits import count_edits
from espnet_ext.scoring.metrics.base import Metric

METRIC = Metric(
    name="per",
    title="PER",
    better="lower",
    counts=("errors", "ref"),
    details=("sub", "del", "ins"),
    score=lambda refs, hyps: count_edits(refs, hyps, "word"),
    columns={"Sub.": ("sub", "ref"), "Del.": ("del", "ref"), "Ins.": ("ins", "ref")},
    hyp_file="phones",
    optional=True,
    note="Levenshtein alignment of phones with costs 1/1/1.",
)
