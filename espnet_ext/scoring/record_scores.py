# SPDX-License-Identifier: Apache-2.0
"""The part of a run record on one decoded set: each metric's counts, and the cost of decoding."""

from typing import Annotated, Self

import numpy as np
from pydantic import Field, model_validator

from espnet_ext.errors import DataError
from espnet_ext.scoring import metrics
from espnet_ext.scoring.metrics import Better, Metric
from espnet_ext.scoring.record_base import RATE_TOLERANCE, Amount, Count, Model, Name, Sha256
from espnet_ext.scoring.record_intent import Intent


class Scores(Model):
    """One metric of one set.

    Attributes:
        value: Percent.
        totals: Sum over utterances of each count and detail of the metric.
        per_utt: Counts of each utterance in byte order of the ids; None where an older release
            kept totals only.
    """

    title: Name
    better: Better
    value: float
    totals: dict[str, Count]
    per_utt: dict[str, list[Count]] | None = None

    @model_validator(mode="after")
    def _totals_are_sums(self) -> Self:
        for name, counts in (self.per_utt or {}).items():
            if (total := self.totals.get(name)) != sum(counts):
                raise ValueError(f"per_utt.{name} sums to {sum(counts)}, totals say {total}")
        return self


class Decoded(Model):
    """One test set decoded by one method."""

    utterances: Annotated[int, Field(ge=1)]
    ids_sha256: Sha256
    ref_sha256: Sha256
    hyp_sha256: Sha256
    input_sha256: Sha256 | None = None  # of the transcripts, where text was classified
    decode_wall_s: Amount
    audio_s: Amount | None = None
    rtf: Amount | None = None
    metrics: Annotated[dict[str, Scores], Field(min_length=1)]
    intent: Intent | None = None
    command: str = ""  # the command that decoded, where it is not the run's

    def value(self, metric: Metric) -> float:
        """Return a metric's value from its counts, in percent."""
        return metric.of_totals(self.metrics[metric.name].totals)

    def counts(self, metric: Metric) -> np.ndarray | None:
        """Return a metric's counts, ``(U, K)`` int64; None where they were not recorded."""
        scores = self.metrics.get(metric.name)
        if scores is None or scores.per_utt is None:
            return None
        return np.array([scores.per_utt[name] for name in metric.counts], dtype=np.int64).T

    @model_validator(mode="after")
    def _utterances_add_up(self) -> Self:
        for metric, scores in self.metrics.items():
            for name, counts in (scores.per_utt or {}).items():
                if len(counts) != self.utterances:
                    raise ValueError(
                        f"{metric}.per_utt.{name} has {len(counts)} entries for "
                        f"{self.utterances} utterances"
                    )
        intent, accuracy = self.intent, self.metrics.get("accuracy")
        if intent is not None and accuracy is not None:
            for name in ("utterances", "correct"):
                if (found := getattr(intent, name)) != accuracy.totals.get(name):
                    raise ValueError(f"wer_groups.{name} sums to {found}, accuracy says otherwise")
        return self

    @model_validator(mode="after")
    def _values_are_those_of_the_counts(self) -> Self:
        for name in self.metrics.keys() & set(metrics.built_in()):
            metric, scores = metrics.find(name), self.metrics[name]
            names = {*metric.counts, *metric.details}
            if missing := names - scores.totals.keys():
                raise ValueError(f"{name}.totals has no {', '.join(sorted(missing))}")
            if scores.per_utt is not None and (missing := {*metric.counts} - scores.per_utt.keys()):
                raise ValueError(f"{name}.per_utt has no {', '.join(sorted(missing))}")
            try:
                exact = metric.of_totals(scores.totals)
            except DataError as e:
                raise ValueError(e.what) from None
            if abs(exact - scores.value) > RATE_TOLERANCE:
                raise ValueError(
                    f"value {scores.value} of {name} is not that of the counts, {exact:.3f}"
                )
        return self
