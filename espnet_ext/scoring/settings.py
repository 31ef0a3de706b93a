# SPDX-License-Identifier: Apache-2.0
"""What recipe.yaml says of the results page: ``results``, ``data`` and ``score.metrics``."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from espnet_ext import yamlfile
from espnet_ext.errors import DataError
from espnet_ext.scoring import metrics
from espnet_ext.scoring.curve import PHASES
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.pairs import Compare, Planned

_HOW = (
    "results: {planned: {system: GROUP, against: GROUP, ablations: [GROUP]}, "
    "compare: {metrics: [], sets: []}, unlabelled: [PHASE], "
    "published: [{system:, set:, METRIC: value, source:}]}"
)
PhaseName = Literal[PHASES]


class Published(BaseModel):
    """A figure from a paper or another toolkit's page, with where it was read.

    The figure has the name of its metric as key, for example ``wer: "7.6"``.
    """

    model_config = ConfigDict(extra="allow", coerce_numbers_to_str=True)
    system: str
    set: str
    source: str


class _Results(BaseModel):
    model_config = ConfigDict(extra="forbid")
    planned: Planned | None = None
    compare: Compare = Compare()
    unlabelled: list[PhaseName] = []
    published: list[Published] = []

    @field_validator("planned", mode="before")
    @classmethod
    def _nothing_is_planned(cls, value: Any) -> Any:
        return value or None  # the schema's default is an empty section


@dataclass(frozen=True)
class Settings:
    """What a page needs to know beside the run records.

    Attributes:
        metrics: Known metrics by name, in the order of the recipe; built-in ones follow.
        planned: The comparison that was planned beforehand.
        compare: What alone is compared.
        unlabelled: Phases that read no label of the task.
        published: Figures of others, by metric.
        development: The development set.
        test: The test sets, in the order of the recipe.
    """

    metrics: Mapping[str, Metric]
    planned: Planned | None = None
    compare: Compare = field(default_factory=Compare)
    unlabelled: tuple[str, ...] = ()
    published: Mapping[str, list[tuple[Published, str]]] | None = None
    development: str | None = None
    test: tuple[str, ...] = ()


def read_settings(path: Path) -> Settings:
    """Read recipe.yaml; without it the page has no planned comparison and built-in metrics only.

    Raises:
        DataError: The file is not YAML, or its ``results`` are not usable; names the field.
        UsageError: A metric of ``score.metrics`` cannot be loaded.
    """
    recipe = yamlfile.read(path, DataError) if path.is_file() else {}
    usable = isinstance(recipe, dict) and recipe
    recipe = yamlfile.read_extended(path, "recipe.yaml", DataError) if usable else {}
    data, score = _section(recipe, "data"), _section(recipe, "score")
    named = score.get("metrics") if isinstance(score.get("metrics"), list) else []
    known = metrics.load(named, path.parent)
    known |= metrics.load(n for n in metrics.built_in() if n not in known)
    try:
        results = _Results.model_validate(recipe.get("results") or {})
    except ValidationError as err:
        first = err.errors(include_url=False)[0]
        field = ".".join(map(str, ("results", *first["loc"])))
        if field == "results.baseline":
            raise DataError(
                "there is no fixed baseline: the reference is the strongest system of equal budget",
                f"{path}: {field}",
                "name the planned comparison: results: {planned: {system: GROUP, against: GROUP}}",
            ) from None
        raise _unusable(first["msg"], path, field) from None
    if unknown := [m for m in results.compare.metrics if m not in known]:
        raise _unusable(f"'{unknown[0]}' is no metric", path, "results.compare.metrics")
    if results.planned and results.planned.metric not in {None, *known}:
        what = f"'{results.planned.metric}' is no metric"
        raise _unusable(what, path, "results.planned.metric")
    test = data.get("test") or []
    return Settings(
        metrics=known,
        planned=results.planned,
        compare=results.compare,
        unlabelled=tuple(results.unlabelled),
        published=_by_metric(results.published, known, path),
        development=data.get("valid"),
        test=tuple(test) if isinstance(test, list) else (test,),
    )


def _section(recipe: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = recipe.get(name)
    return section if isinstance(section, dict) else {}


def _by_metric(
    published: Iterable[Published], known: Mapping[str, Metric], path: Path
) -> dict[str, list[tuple[Published, str]]]:
    """Return published figures by the metric that each has."""
    found: dict[str, list[tuple[Published, str]]] = {}
    for i, figure in enumerate(published):
        extra, where = figure.model_extra or {}, f"results.published.{i}"
        if unknown := [key for key in extra if key not in known]:
            raise _unusable(f"'{unknown[0]}' is no metric", path, f"{where}.{unknown[0]}")
        if len(extra) != 1:
            raise _unusable(f"give the value of one metric ({', '.join(known)})", path, where)
        for name, value in extra.items():
            found.setdefault(name, []).append((figure, str(value)))
    return found


def _unusable(what: str, path: Path, field: str) -> DataError:
    return DataError(
        f"the settings of the results page are not usable: {what}", f"{path}: {field}", _HOW
    )
