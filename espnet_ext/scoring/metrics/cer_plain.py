# SPDX-License-Identifier: Apache-2.0
"""Character error rate of tagged text after its tags are removed; ChER, as CER is of concepts."""

from espnet_ext.scoring.edits import count_edits
from espnet_ext.scoring.metrics.base import Metric
from espnet_ext.text.tagged import plain

METRIC = Metric(
    name="cer_plain",
    title="ChER",
    better="lower",
    counts=("errors", "ref"),
    details=("sub", "del", "ins"),
    score=lambda refs, hyps: count_edits([*map(plain, refs)], [*map(plain, hyps)], "char"),
    note="As WER, of characters; the space between two words is one.",
)
