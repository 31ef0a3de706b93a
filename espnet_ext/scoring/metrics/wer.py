# SPDX-License-Identifier: Apache-2.0
"""Word error rate: edits of words in percent of the reference's words."""

from espnet_ext.scoring.edits import count_edits
from espnet_ext.scoring.metrics.base import Metric

METRIC = Metric(
    name="wer",
    title="WER",
    better="lower",
    counts=("errors", "ref"),
    details=("sub", "del", "ins"),
    score=lambda refs, hyps: count_edits(refs, hyps, "word"),
    columns={"Sub.": ("sub", "ref"), "Del.": ("del", "ref"), "Ins.": ("ins", "ref")},
    note="Levenshtein alignment of words with costs 1/1/1; text is compared as is.",
)
