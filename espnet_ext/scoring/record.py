# SPDX-License-Identifier: Apache-2.0
"""Run records: one JSON file per run under ``<recipe>/results/``, the only source of RESULTS.md.

Units stand in the names (``_s`` seconds, ``_mb`` megabytes); rates are percent. Fields that this
schema does not know are tolerated, so that a newer stage may write more. Counts that contradict
each other are refused: a record is evidence, not a place to type numbers.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from espnet_ext.errors import DataError
from espnet_ext.scoring.budget import COUNTS
from espnet_ext.scoring.record_base import RATE_TOLERANCE, Amount, Count, Model, Name, Sha256
from espnet_ext.scoring.record_intent import Intent

Kind = Literal["wer", "intent"]


class ErrorRate(Model):
    """Totals of one error rate: ``rate`` in percent, the rest in words or characters."""

    rate: Amount
    sub: Count
    dele: Count = Field(alias="del")
    ins: Count
    ref: Count

    @property
    def accuracy(self) -> Intent | None:
        """The intents, by the name of their measure."""
        return self.intent

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


class PerUtterance(Model):
    """Word counts of each utterance, in byte order of the utterance ids."""

    ids_sha256: Sha256
    word_errors: list[Count]
    word_ref: list[Count]


class Decoded(Model):
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
    intent: Intent | None = None
    command: str = ""  # the command that decoded, where it is not the run's

    @property
    def kind(self) -> Kind:
        """What was scored."""
        return "wer" if self.intent is None else "intent"

    @property
    def rate(self) -> float:
        """Word error rate, or accuracy, from the counts, in percent."""
        return self.wer.exact_rate if self.intent is None else self.intent.exact_rate

    @property
    def accuracy(self) -> Intent | None:
        """The intents, by the name of their measure."""
        return self.intent

    @property
    def errors(self) -> list[int]:
        """Word errors of each utterance, or 1 where its intent is wrong."""
        return self.per_utt.word_errors if self.intent is None else self.intent.per_utt.wrong

    @property
    def units(self) -> list[int]:
        """What :attr:`errors` are counted in: words of each utterance's reference, or ones."""
        return self.per_utt.word_ref if self.intent is None else [1] * self.utterances

    @property
    def ids_sha256(self) -> str:
        """Hash of the utterance ids."""
        return (self.per_utt if self.intent is None else self.intent.per_utt).ids_sha256

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


class Phase(Model):
    """What one training phase cost."""

    task: Name
    wall_s: Amount
    train_wall_s: Amount
    peak_rss_mb: Amount
    peak_gpu_mb: Amount
    params: Count
    params_trained: Count
    epochs: Count
    updates: Count
    labelled_batches: Count | None = None
    unlabelled_batches: Count | None = None
    passes: Count | None = None  # forward-backward passes of one batch each
    labelled_hours: Amount | None = None
    unlabelled_hours: Amount | None = None
    last_gamma: Amount | None = None  # weight of the second loss in the last update that had one
    commits: list[str] = Field(
        default_factory=list
    )  # of the code that trained, '+' for uncommitted changes
    # Accuracy on the development set after each epoch: of tokens, or of utterances.
    valid_acc: list[Amount] = Field(default_factory=list)


class Record(Model):
    """One run of a recipe. ``group`` names the runs that differ by their seed only."""

    version: Literal[1] = Field(alias="schema")
    recipe: Name
    name: Name
    group: Name
    seed: int
    title: str
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    commit: Annotated[str, Field(pattern=r"^([0-9a-f]{40}|unknown)$")]
    dirty: bool
    command: Name
    config_sha256: Sha256
    device: Name
    versions: dict[str, str]
    phases: dict[str, Phase]
    # Where labels of frames came from, if there were any.
    alignment: dict[str, int | str] = Field(default_factory=dict)
    encoder: dict[str, int | str] = Field(default_factory=dict)  # of text, if there was one
    budget: dict[str, int | float | str] | None = None
    sets: dict[str, dict[str, Decoded]]

    @model_validator(mode="after")
    def _budget_is_that_of_the_phases(self) -> Self:
        for key in COUNTS:
            total = (self.budget or {}).get(key)
            counts = [getattr(phase, key) for phase in self.phases.values()]
            if total is not None and (not isinstance(total, int) or total < 0):
                raise ValueError(f"budget.{key} is {total!r}, not a count")
            if self.budget is None or not counts or None in counts:
                continue
            if total != sum(counts):
                raise ValueError(f"budget.{key} is {total}, the phases have {sum(counts)}")
        return self


def load_record(path: Path | str) -> Record:
    """Read and check one run record.

    Raises:
        DataError: The file is missing, not JSON, of another schema, or a field is missing, of a
            wrong type, or at odds with the others; names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("the run record is missing", path)
    try:
        return Record.model_validate_json(path.read_bytes())
    except ValidationError as err:
        raise _explained(path, err.errors(include_url=False)) from None


def load_records(results_dir: Path | str) -> list[Record]:
    """Read all records of a recipe, sorted by group, seed and name.

    Raises:
        DataError: See :func:`load_record`; also when two records are the same run, or are of
            two recipes.
    """
    paths = sorted(p for p in Path(results_dir).glob("*.json") if not p.name.startswith("."))
    seen: dict[tuple[str, object], Path] = {}
    records = []
    for path in paths:
        record = load_record(path)
        for key in (("name", record.name), ("group and seed", (record.group, record.seed))):
            if key in seen:
                raise DataError(
                    f"two run records have the same {key[0]}: {key[1]}",
                    f"{seen[key]} and {path}",
                    "remove the one that is out of date",
                )
            seen[key] = path
        if records and record.recipe != records[0].recipe:
            raise DataError(
                f"the folder holds records of '{records[0].recipe}' and of '{record.recipe}'",
                f"{path}: recipe",
                "remove the records that were copied from another recipe",
            )
        records.append(record)
    return sorted(records, key=lambda r: (r.group, r.seed, r.name))


def _explained(path: Path, errors: list[Any]) -> DataError:
    first = errors[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if field == "schema" and first["type"] == "literal_error":
        return DataError(
            f"run record of schema {first['input']!r}; this release reads schema 1",
            f"{path}: schema",
            "update espnet_ext, or score the experiment again",
        )
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return DataError(
        f"the run record is not usable: {message}{more}",
        f"{path}: {field}" if field else path,
        "score the experiment again: ./run.sh --stage score",
    )
