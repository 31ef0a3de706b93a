# SPDX-License-Identifier: Apache-2.0
"""The grid of a sweep: what its file may hold, and the experiments that it stands for."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe import evidence, experiments
from espnet_ext.recipe.experiment import LAST_STAGE, Experiment
from espnet_ext.recipe.experiments import OWN_KEYS, as_text
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.steps.decode import label
from espnet_ext.scoring import metrics
from espnet_ext.scoring.record_base import SWEEP

Value = int | float | str


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curves(_Model):
    """The second dimension: one curve for each value of ``key``, or for each named system."""

    key: str = ""
    values: list[bool | int | float | str] = []
    systems: dict[str, dict[str, Any]] = {}

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if bool(self.key) != bool(self.values) or bool(self.key) == bool(self.systems):
            raise ValueError("give key and values, or systems: {NAME: {KEY: VALUE}}")
        return self

    def each(self) -> list[tuple[str, str, dict[str, Any]]]:
        """Return each curve's part of the groups' names, its legend, and its keys."""
        if self.systems:
            return [(name, name, keys) for name, keys in self.systems.items()]
        last = self.key.rpartition(".")[2]
        return [(as_text(v), f"{last} = {as_text(v)}", {self.key: v}) for v in self.values]


class Sweep(_Model):
    """What FILE.yaml may hold."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    key: str
    values: list[Value] = Field(min_length=1)
    x: list[int | float] = []
    seeds: list[int] = Field(default=[1], min_length=1)
    curves: Curves | None = None
    base: dict[str, Any] = {}
    evidence: str = ""
    system: str = ""
    set: str = ""
    metric: str = ""
    also: list[str] = []
    method: str = ""
    x_label: str = ""
    last_stage: str = LAST_STAGE

    @field_validator("values", "seeds", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any) -> Any:
        if isinstance(value, list) and any(isinstance(v, bool) for v in value):
            raise ValueError("true and false are no numbers")
        return value

    @field_validator("values", mode="before")
    @classmethod
    def _numbers_or_names(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        value = [_number(v) for v in value]
        if len({isinstance(v, str) for v in value}) > 1:
            raise ValueError("all must be numbers, or all names")
        return value

    @field_validator("x")
    @classmethod
    def _a_place_for_each_value(cls, x: list, info: ValidationInfo) -> list:
        if x and (len(x) != len(info.data.get("values", x)) or len(set(x)) < len(x)):
            raise ValueError("one number for each of the values, no number twice")
        return x


def _number(value: Any) -> Any:
    """Return text as a number if it is one: YAML 1.1 reads 1e-3 as text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return number if math.isfinite(number) else value


@dataclass(frozen=True)
class Run(Experiment):
    """One experiment of the grid."""

    curve: str = ""  # legend; empty when there is one curve only
    value: Value = 0


def load(path: Path) -> Sweep:
    """Read a sweep's file.

    Raises:
        UsageError: No such file, broken YAML, an unknown key (the nearest valid one is named), or
            a value that cannot be used.
    """
    raw = yamlfile.read(path)
    if not isinstance(raw, dict):
        how = "espnet-ext sweep --help"
        raise UsageError("a sweep's file must hold key: value lines", path, how)
    try:
        return _on_evidence(Sweep.model_validate(raw), path)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        *parents, key = map(str, first["loc"])
        dotted = ".".join((*parents, key))
        if first["type"] == "extra_forbidden":
            valid = Curves.model_fields if parents else Sweep.model_fields
            raise UsageError(f"unknown key '{dotted}'", path, nearest(key, valid)) from None
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"'{dotted}' is not usable: {message}", path) from None


def _on_evidence(sweep: Sweep, path: Path) -> Sweep:
    """Put the base of the sweep, and what it sweeps, over that of an evidence file."""
    if not sweep.evidence:
        if sweep.system:
            how = "evidence: evidence.yaml, the file that has the system"
            raise UsageError("'system' stands without 'evidence'", f"{path}: system", how)
        return sweep
    given = evidence.load(path.parent / sweep.evidence)
    if sweep.system and sweep.system not in given.systems:
        how = nearest(sweep.system, given.systems)
        raise UsageError(f"there is no system '{sweep.system}'", f"{path}: system", how)
    base = {**given.base, **given.systems.get(sweep.system, {})}
    swept = {sweep.key}
    for _, _, of_curve in sweep.curves.each() if sweep.curves else ():
        swept |= of_curve.keys()
    base = {k: v for k, v in base.items() if k not in swept}
    return sweep.model_copy(update={"base": {**base, **sweep.base}})


def narrowed(sweep: Sweep, values: Sequence[str], seeds: Sequence[int]) -> Sweep:
    """Return a part of a sweep.

    Args:
        sweep: The whole.
        values: Those to keep, as text; empty for all.
        seeds: Those of the runs; empty for the sweep's own.

    Raises:
        UsageError: The sweep does not have a value.
    """
    wanted = [_number(v) for v in values]
    for value, text in zip(wanted, values, strict=True):
        if value not in sweep.values:
            how = nearest(text, map(as_text, sweep.values))
            raise UsageError(f"the sweep has no value '{text}'", "--values", how)
    kept = [i for i, v in enumerate(sweep.values) if not wanted or v in wanted]
    return sweep.model_copy(
        update={
            "values": [sweep.values[i] for i in kept],
            "x": [sweep.x[i] for i in kept] if sweep.x else [],
            "seeds": list(seeds) or sweep.seeds,
        }
    )


def expand(sweep: Sweep, path: Path) -> list[Run]:
    """Return the experiments of the grid; those of one value stand together.

    A value may be one that stages 2 to 4 read, as a training set, and these have one place for all.

    Raises:
        UsageError: A key is set twice, or two experiments would have one name.
    """
    curves = sweep.curves.each() if sweep.curves else [("", "", {})]
    for _, _, of_curve in curves:
        keys = [sweep.key, *of_curve, *sweep.base]
        for key in keys:
            if keys.count(key) > 1:
                raise UsageError(f"'{key}' is set twice", path)
            if key in OWN_KEYS:
                raise UsageError(f"a sweep sets '{key}' itself", path, "leave it out")
    if len(set(sweep.values)) < len(sweep.values):
        raise UsageError("a value stands twice", f"{path}: values")
    return [
        _run(sweep, curve, place, seed)
        for place in range(len(sweep.values))
        for curve in curves
        for seed in sweep.seeds
    ]


def _run(sweep: Sweep, curve: tuple[str, str, dict[str, Any]], place: int, seed: int) -> Run:
    part, legend, of_curve = curve
    value = sweep.values[place]
    keys = {**sweep.base, **of_curve, sweep.key: value}
    overrides = tuple((key, as_text(v).replace("{seed}", str(seed))) for key, v in keys.items())
    group = SWEEP + "_".join([sweep.name, *([part] if part else []), as_text(value)])
    group = re.sub(r"[^A-Za-z0-9._-]", "-", group)  # it names a folder
    shown = sweep.x[place] if sweep.x else value
    return Run(f"{group}_s{seed}", group, seed, overrides, sweep.last_stage, legend, shown)


def check(sweep: Sweep, runs: list[Run], path: Path) -> Sweep:
    """Check every run against recipe.yaml; return the sweep with its defaults filled in.

    Raises:
        UsageError: A run has an unknown key or value, or ``set`` or ``method`` will not be decoded.
    """
    recipe = experiments.check(runs, path)[0]
    if recipe.decode is None or recipe.score is None:
        raise UsageError("a sweep needs the sections decode and score", "recipe.yaml")
    sets = recipe.decode.sets or [recipe.data.valid, *recipe.data.test]
    set_name, method = sweep.set or recipe.data.valid, label(recipe.decode)
    metric, *also = (_metric(m, recipe, path) for m in (sweep.metric, *sweep.also))
    if len({metric, *also}) <= len(also):
        raise UsageError("a metric stands twice", f"{path}: also")
    if metrics.find(metric).hyp_file == "prediction":  # of a classifier, decoded by its models
        model = recipe.decode.args.get("inference_model", "asr")
        method = sweep.method or ("asr" if model == "all" else model)
    if set_name not in sets:
        how = nearest(set_name, sets)
        raise UsageError(f"set '{set_name}' is not decoded", f"{path}: set", how)
    if sweep.method not in ("", method, recipe.decode.method):
        raise UsageError(
            f"the recipe decodes by '{method}', not by '{sweep.method}'",
            f"{path}: method",
            f"base: {{decode.method: {sweep.method}}}",
        )
    filled = {"set": set_name, "method": method, "metric": metric, "also": also}
    return sweep.model_copy(update={**filled, "x_label": sweep.x_label or sweep.key})


def _metric(name: str, recipe: Recipe, path: Path) -> str:
    """Return the metric as recipe.yaml names it, which is ``module:object`` for one of its own.

    An empty name is that of the first.
    """
    if not name and recipe.score.metrics:
        return recipe.score.metrics[0]
    scored = {metrics.find(m).name: m for m in recipe.score.metrics}
    if recipe.score.code:  # it may score by more
        scored |= {m: m for m in metrics.built_in()}
    if name in scored or name in scored.values():
        return scored.get(name, name)
    how = f"{nearest(name, scored)}; recipe.yaml: score.metrics"
    raise UsageError(f"the recipe does not score by '{name}'", f"{path}: metric", how)
