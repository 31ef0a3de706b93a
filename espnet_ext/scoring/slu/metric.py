# SPDX-License-Identifier: Apache-2.0
"""What the two metrics of units share: CER of concepts, and CVER of concepts with their values."""

from collections.abc import Callable, Mapping
from pathlib import Path

from espnet_ext.scoring.metrics.base import Metric
from espnet_ext.scoring.slu.counts import COUNTS, DETAILS, RULES, Key, count_units, rate

NOTE = (
    "An utterance without a reference concept adds errors, not units (keep); SpeechBrain counts it "
    "as one empty unit, ESPnet's media recipes skip it. Alignment costs 1/1/1; 4/3/3 are sclite's."
)


def unit_metric(
    name: str,
    title: str,
    key: Key,
    note: str,
    files: Callable[[Mapping[str, str], Mapping[str, str], Path], None] | None = None,
) -> Metric:
    """Return the error rate of units; its columns are the rates of all other rules."""
    shares = {"Sub.": ("sub", "ref"), "Del.": ("del", "ref"), "Ins.": ("ins", "ref")}
    return Metric(
        name=name,
        title=title,
        better="lower",
        counts=COUNTS,
        details=DETAILS,
        score=lambda refs, hyps: count_units(refs, hyps, key),
        value=rate,
        columns=shares | {rule.title: (rule.errors, rule.whole) for rule in RULES[1:]},
        alternatives=tuple(rule.title for rule in RULES[1:]),
        note=f"{note} {NOTE}",
        files=files,
    )
