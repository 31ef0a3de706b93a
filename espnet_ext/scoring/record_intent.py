# SPDX-License-Identifier: Apache-2.0
"""The part of a run record on a set whose utterances were classified: see scoring.intent."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from espnet_ext.scoring.record_base import RATE_TOLERANCE, Amount, Count, Model, Name, Sha256


class HeadScore(Model):
    """Accuracy of one head, percent."""

    head: Name
    accuracy: Amount
    correct: Count


class Interval(Model):
    """Interval of the accuracy, percent; ``level`` is its coverage."""

    method: Literal["wilson"]
    level: Amount
    low: Amount
    high: Amount


class InputErrors(Model):
    """Word error rate of the transcripts that were classified, percent and counts of words."""

    rate: Amount
    errors: Count
    ref: Annotated[int, Field(ge=1)]

    @property
    def exact_rate(self) -> float:
        """The rate from the counts, in percent."""
        return 100.0 * self.errors / self.ref

    @model_validator(mode="after")
    def _rate_is_that_of_the_counts(self) -> Self:
        if abs(self.rate - self.exact_rate) > RATE_TOLERANCE:
            raise ValueError(f"rate {self.rate} is not that of the counts, {self.exact_rate:.3f}")
        return self


class WerGroup(Model):
    """Utterances of ``above < WER <= up_to``, percent; None where there is no such bound."""

    above: Amount | None
    up_to: Amount | None
    utterances: Count
    correct: Count

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.above is None and self.up_to is None:
            raise ValueError("a WER group needs a bound")
        return self


class WrongUtterances(Model):
    """1 for each utterance with a wrong label, else 0, in byte order of the utterance ids."""

    ids_sha256: Sha256
    wrong: list[Annotated[int, Field(ge=0, le=1)]]


class Intent(Model):
    """Accuracy of an utterance classification: right only where every head is."""

    accuracy: Amount
    correct: Count
    interval: Interval
    heads: Annotated[list[HeadScore], Field(min_length=1)]
    input_wer: InputErrors
    wer_groups: list[WerGroup]
    wer_text: Literal["none", "lower", "words"] = "lower"  # what was done to both sides before
    per_utt: WrongUtterances

    @property
    def exact_rate(self) -> float:
        """The accuracy from the counts, in percent."""
        return 100.0 * self.correct / len(self.per_utt.wrong)

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        total = len(self.per_utt.wrong)
        if total - sum(self.per_utt.wrong) != self.correct:
            raise ValueError(f"correct is {self.correct}, per_utt.wrong leaves another count")
        for rate, count in ((x.accuracy, x.correct) for x in (self, *self.heads)):
            if count > total or abs(rate * total - 100.0 * count) > RATE_TOLERANCE * total:
                raise ValueError(f"accuracy {rate} is not that of {count} of {total} utterances")
        if any(head.correct < self.correct for head in self.heads):
            raise ValueError("a head is right less often than all heads together")
        for name, whole in (("utterances", total), ("correct", self.correct)):
            if (found := sum(getattr(g, name) for g in self.wer_groups)) != whole:
                raise ValueError(f"wer_groups.{name} sums to {found}, not {whole}")
        return self
