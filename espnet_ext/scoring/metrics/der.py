# SPDX-License-Identifier: Apache-2.0
"""Diarisation error rate, out of the times that were measured for each recording."""

from collections.abc import Sequence

import numpy as np

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics.base import Metric

PARTS = ("missed", "false_alarm", "confusion")


def line(missed_s: float, false_alarm_s: float, confusion_s: float, speech_s: float) -> str:
    """Return the line of a recording: its times in milliseconds."""
    times = (missed_s, false_alarm_s, confusion_s, speech_s)
    return " ".join(str(round(1000 * x)) for x in times)


def score(refs: Sequence[str], hyps: Sequence[str]) -> np.ndarray:
    """Return ``(U, 5)``: milliseconds in error, of speech, missed, of false alarm, of confusion."""
    rows = []
    for hyp in hyps:
        words = hyp.split()
        if len(words) != 4 or not all(w.isascii() and w.isdigit() for w in words):
            how = "./run.sh --stage decode --force"
            raise DataError(f"'{hyp}' is no measurement of a recording", "metric der", how)
        *parts, speech = map(int, words)
        rows.append((sum(parts), speech, *parts))
    return np.array(rows, dtype=np.int64).reshape(len(refs), 5)


METRIC = Metric(
    name="der",
    title="DER",
    better="lower",
    counts=("error_ms", "speech_ms"),
    details=PARTS,
    score=score,
    columns={p.replace("_", " "): (p, "speech_ms") for p in PARTS},
    ref_file="diarisation",  # the times are those of a comparison already
    hyp_file="diarisation",
    optional=True,
    note="Missed speech, false alarm and confusion in percent of the reference's speech; no "
    "collar, overlaps count; threshold and filter are chosen on the development set.",
)
