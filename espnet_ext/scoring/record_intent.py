# SPDX-License-Identifier: Apache-2.0
"""The part of a run record on a set whose utterances were classified: see scoring.intent."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from espnet_ext.scoring.record_base import RATE_TOLERANCE, Amount, Count, Model, Name

WerText = Literal["none", "lower", "words"]  # what was done to both sides before counting


class HeadScore(Model):
    """Accuracy of one head, percent."""

    head: Name
    accuracy: Amount
    correct: Count


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


class Intent(Model):
    """What lies behind an accuracy: each head's, and how it falls with the errors of the input."""

    heads: Annotated[list[HeadScore], Field(min_length=1)]
    input_wer: InputErrors
    wer_groups: list[WerGroup]
    wer_text: WerText = "lower"

    @property
    def correct(self) -> int:
        """Utterances with every label right."""
        return sum(group.correct for group in self.wer_groups)

    @property
    def utterances(self) -> int:
        """Utterances of all groups."""
        return sum(group.utterances for group in self.wer_groups)

    @model_validator(mode="after")
    def _counts_add_up(self) -> Self:
        total = self.utterances
        for head in self.heads:
            if head.correct > total or (
                abs(head.accuracy * total - 100.0 * head.correct) > RATE_TOLERANCE * total
            ):
                raise ValueError(
                    f"accuracy {head.accuracy} is not that of {head.correct} of {total} utterances"
                )
            if head.correct < self.correct:
                raise ValueError("a head is right less often than all heads together")
        return self
