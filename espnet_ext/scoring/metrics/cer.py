# SPDX-License-Identifier: Apache-2.0
"""Character error rate: edits of characters, the space among them, in percent of the reference."""

from espnet_ext.scoring.edits import count_edits
from espnet_ext.scoring.metrics.base import Metric

METRIC = Metric(
    name="cer",
    title="CER",
    better="lower",
    counts=("errors", "ref"),
    details=("sub", "del", "ins"),
    score=lambda refs, hyps: count_edits(refs, hyps, "char"),
    note="As WER, of characters; the space between two words is one.",
)
