# SPDX-License-Identifier: Apache-2.0
"""Run records of schema 1: read, checked as they were, and turned into the present schema.

They know two ways of scoring only: words (``wer``, ``cer``, ``per_utt``) or ``intent``. Nothing of
them is lost; what they did not keep, as the character errors of each utterance, stays unknown.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from espnet_ext.scoring.record_base import RATE_TOLERANCE, Amount, Count, Model, Sha256
from espnet_ext.scoring.record_intent import HeadScore, InputErrors, Intent, WerGroup, WerText


class ErrorRate(Model):
    """Totals of one error rate: ``rate`` in percent, the rest in words or characters."""

    rate: Amount
    sub: Count
    dele: Count = Field(alias="del")
    ins: Count
    ref: Count

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions together."""
        return self.sub + self.dele + self.ins

    @property
    def exact_rate(self) -> float:
        """The rate from the counts, in percent."""
        return 100.0 * self.errors / self.ref

    @model_validator(mode="after")
    def _rate_is_that_of_the_counts(self) -> Self:
        if not self.ref:
            raise ValueError("ref is 0: an error rate is not defined")
        if abs(self.rate - self.exact_rate) > RATE_TOLERANCE:
            raise ValueError(f"rate {self.rate} is not that of the counts, {self.exact_rate:.3f}")
        return self

    def scores(self, title: str, per_utt: dict[str, list[int]] | None) -> dict[str, Any]:
        """Return the metric's section of the present schema."""
        totals = {"errors": self.errors, "ref": self.ref}
        totals |= {"sub": self.sub, "del": self.dele, "ins": self.ins}
        out = {"title": title, "better": "lower", "value": self.exact_rate, "totals": totals}
        return {**out, "per_utt": per_utt}


class PerUtterance(Model):
    """Word counts of each utterance, in byte order of the utterance ids."""

    ids_sha256: Sha256
    word_errors: list[Count]
    word_ref: list[Count]


class WrongUtterances(Model):
    """1 for each utterance with a wrong label, else 0, in byte order of the utterance ids."""

    ids_sha256: Sha256
    wrong: list[Annotated[int, Field(ge=0, le=1)]]


class Interval(Model):
    """Interval of the accuracy, percent; ``level`` is its coverage."""

    method: Literal["wilson"]
    level: Amount
    low: Amount
    high: Amount


class Intent1(Model):
    """Accuracy of an utterance classification: right only where every head is."""

    accuracy: Amount
    correct: Count
    interval: Interval  # follows from the counts
    heads: Annotated[list[HeadScore], Field(min_length=1)]
    input_wer: InputErrors
    wer_groups: list[WerGroup]
    wer_text: WerText = "lower"
    per_utt: WrongUtterances

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


class Decoded1(Model):
    """One test set decoded by one method, scored by words or by intents."""

    utterances: Annotated[int, Field(ge=1)]
    ref_sha256: Sha256
    hyp_sha256: Sha256
    input_sha256: Sha256 | None = None  # of the transcripts, where text was classified
    decode_wall_s: Amount
    audio_s: Amount | None = None
    rtf: Amount | None = None
    wer: ErrorRate | None = None
    cer: ErrorRate | None = None
    per_utt: PerUtterance | None = None
    intent: Intent1 | None = None
    command: str = ""  # the command that decoded, where it is not the run's

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        words = {k: getattr(self, k) for k in ("wer", "cer", "per_utt", "audio_s", "rtf")}
        found = {k for k, v in words.items() if v is not None}
        if self.intent is not None and found & {"wer", "cer", "per_utt"}:
            raise ValueError("a set is scored by words (wer, cer, per_utt) or by intent, not both")
        if self.intent is None and (missing := words.keys() - found):
            raise ValueError(f"neither an intent nor {', '.join(sorted(missing))}")
        return self

    @model_validator(mode="after")
    def _utterances_add_up(self) -> Self:
        if self.intent is not None:
            if len(self.intent.per_utt.wrong) != self.utterances:
                found = len(self.intent.per_utt.wrong)
                raise ValueError(f"per_utt.wrong holds {found} entries for {self.utterances}")
            return self
        per_utt = self.per_utt
        for name, counts, total in (
            ("word_errors", per_utt.word_errors, self.wer.errors),
            ("word_ref", per_utt.word_ref, self.wer.ref),
        ):
            if len(counts) != self.utterances:
                raise ValueError(
                    f"per_utt.{name} holds {len(counts)} entries for {self.utterances} utterances"
                )
            if sum(counts) != total:
                raise ValueError(f"per_utt.{name} sums to {sum(counts)}, wer says {total}")
        return self

    def upgraded(self) -> dict[str, Any]:
        """Return the same set as the present schema writes it."""
        own = self.model_dump(exclude={"wer", "cer", "per_utt", "intent"})
        if self.intent is None:
            errors, ref = self.per_utt.word_errors, self.per_utt.word_ref
            metrics = {
                "wer": self.wer.scores("WER", {"errors": errors, "ref": ref}),
                "cer": self.cer.scores("CER", None),
            }
            return {**own, "ids_sha256": self.per_utt.ids_sha256, "metrics": metrics}
        wrong, total = self.intent.per_utt.wrong, self.utterances
        scores = {
            "title": "Accuracy",
            "better": "higher",
            "value": 100.0 * self.intent.correct / total,
            "totals": {"correct": self.intent.correct, "utterances": total},
            "per_utt": {"correct": [1 - w for w in wrong], "utterances": [1] * total},
        }
        kept = {name: getattr(self.intent, name) for name in Intent.model_fields}
        ids = self.intent.per_utt.ids_sha256
        return {**own, "ids_sha256": ids, "metrics": {"accuracy": scores}, "intent": kept}
