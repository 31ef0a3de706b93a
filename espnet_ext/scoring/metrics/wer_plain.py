# SPDX-License-Identifier: Apache-2.0
"""Word error rate of tagged text after its tags and closing marks are removed."""

from espnet_ext.scoring.edits import count_edits
from espnet_ext.scoring.metrics.base import Metric
from espnet_ext.text.tagged import plain

METRIC = Metric(
    name="wer_plain",
    title="WER",
    better="lower",
    counts=("errors", "ref"),
    details=("sub", "del", "ins"),
    score=lambda refs, hyps: count_edits([*map(plain, refs)], [*map(plain, hyps)], "word"),
    columns={"Sub.": ("sub", "ref"), "Del.": ("del", "ref"), "Ins.": ("ins", "ref")},
    note="Words without tags and closing marks; Levenshtein alignment with costs 1/1/1.",
)
