# SPDX-License-Identifier: Apache-2.0
"""Phone error rate: edits of phones in percent of the reference's phones."""

from dataclasses import replace

from espnet_ext.scoring.metrics import wer

METRIC = replace(
    wer.METRIC,  # phones are written as words are
    name="per",
    title="PER",
    hyp_file="phones",
    optional=True,
    note="Levenshtein alignment of phones with costs 1/1/1.",
)
