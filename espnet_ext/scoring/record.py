# SPDX-License-Identifier: Apache-2.0
"""Run records: one JSON file per run under ``<recipe>/results/``, the only source of RESULTS.md.

Units stand in the names (``_s`` seconds, ``_mb`` megabytes); values of metrics are percent. Fields
that this schema does not know are tolerated, so that a newer stage may write more. Counts that
contradict each other are refused: a record is evidence, not a place to type numbers. Records of
schema 1 are read as well.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, model_validator

from espnet_ext.errors import DataError
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.record_base import Amount, Count, Model, Name, Sha256
from espnet_ext.scoring.record_scores import Decoded
from espnet_ext.scoring.record_v1 import Decoded1
from espnet_ext.scoring.spent import COUNTS

__all__ = ["SCHEMA", "Counted", "Decoded", "Phase", "Record", "load_record", "load_records"]

OWN = "_own"  # of a run that is not one of the group of its name
SCHEMA = 2  # what this release writes


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
    valid_cer_ctc: list[Amount] = Field(default_factory=list)  # a share, as accuracy is
    chosen_by: str = ""  # what models are chosen by: acc, cer_ctc, ...
    # Until then: updates of all kinds, and passes over the labelled training data.
    valid_updates: list[Count] = Field(default_factory=list)
    valid_passes: list[Amount] = Field(default_factory=list)


@dataclass(frozen=True)
class Counted:
    """The counts of a metric on one set: what significance is made of.

    Attributes:
        ids_sha256: Hash of the utterance ids; equal hashes can be paired.
        counts: ``(U, K)`` int64, by utterance in byte order of the ids.
    """

    ids_sha256: str
    counts: np.ndarray


class _Run(Model):
    """What records of every schema say of a run."""

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


class Record(_Run):
    """One run of a recipe. ``group`` names the runs that differ by their seed only."""

    version: Literal[2] = Field(alias="schema")
    sets: dict[str, dict[str, Decoded]]

    def counted(self, set_name: str, method: str, metric: Metric) -> Counted | None:
        """Return the counts of a metric by utterance; None where they were not recorded."""
        decoded = self.sets.get(set_name, {}).get(method)
        counts = None if decoded is None else decoded.counts(metric)
        return None if counts is None else Counted(decoded.ids_sha256, counts)


class _Record1(_Run):
    version: Literal[1] = Field(alias="schema")
    sets: dict[str, dict[str, Decoded1]]

    def upgraded(self) -> Record:
        sets = {
            name: {method: d.upgraded() for method, d in methods.items()}
            for name, methods in self.sets.items()
        }
        own = {k: getattr(self, k) for k in _Run.model_fields}
        return Record.model_validate({**own, "schema": SCHEMA, "sets": sets})


def load_record(path: Path | str) -> Record:
    """Read and check one run record.

    Raises:
        DataError: The file is missing, not JSON, of another schema, or a field is missing, of a
            wrong type, or at odds with the others; names the file and the field.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError("the run record is missing", path)
    content = path.read_bytes()
    try:
        if _schema(content) == 1:
            return _Record1.model_validate_json(content).upgraded()
        return Record.model_validate_json(content)
    except ValidationError as err:
        raise _explained(path, err.errors(include_url=False)) from None


def _schema(content: bytes) -> object:
    try:
        record = json.loads(content)
    except ValueError:  # the model says better what is wrong
        return None
    return record.get("schema") if isinstance(record, dict) else None


def load_records(results_dir: Path | str) -> list[Record]:
    """Read all records of a recipe, sorted by group, seed and name.

    A run whose group is its own name, as a plain ``./run.sh`` has it, is a system of its own
    (``NAME_own``) where another run has that group and seed, such as one of the results that
    come with the recipe.

    Raises:
        DataError: See :func:`load_record`; also when two records are the same run, or are of
            two recipes.
    """
    paths = sorted(p for p in Path(results_dir).glob("*.json") if not p.name.startswith("."))
    seen: dict[tuple[str, object], Path] = {}
    records: list[Record] = []
    for path, record in zip(paths, _apart([load_record(p) for p in paths]), strict=True):
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


def _apart(records: list[Record]) -> list[Record]:
    given = {(r.group, r.seed) for r in records if r.group != r.name}
    return [
        r.model_copy(update={"group": f"{r.group}{OWN}"})
        if r.group == r.name and (r.group, r.seed) in given
        else r
        for r in records
    ]


def _explained(path: Path, errors: list[Any]) -> DataError:
    first = errors[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    if field == "schema" and first["type"] == "literal_error":
        return DataError(
            f"run record of schema {first['input']!r}; this release reads schema 1 to {SCHEMA}",
            f"{path}: schema",
            "update espnet_ext, or score the experiment again",
        )
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return DataError(
        f"the run record is not usable: {message}{more}",
        f"{path}: {field}" if field else path,
        "score the experiment again: ./run.sh --stage score",
    )
