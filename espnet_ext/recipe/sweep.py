# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext sweep FILE.yaml [--dry-run] [--nj N] [--ngpu N] [--executor KIND] [--debug]

Run a grid of experiments of the recipe in this folder, then draw the curve. FILE.yaml holds:

  name: lr                             # names experiments, groups and results/sweep_lr.png
  key: finetune.args.optim_conf.lr     # the swept key of recipe.yaml
  values: [0.001, 0.002]               # numbers, or names (mono, tri): an axis of categories
  seeds: [1, 2, 3]                     # default: [1]
  curves: {key: finetune.args.encoder_conf.num_blocks, values: [2, 4]}    # optional
  base: {finetune.args.max_epoch: 5}   # optional: further keys, the same for every run
  set: dev                             # default: data.valid
  metric: wer                          # or cer, accuracy
  method: greedy_ctc                   # default: decode.method, or the inference model
  x_label: learning rate               # default: the key

Finished runs are up to date, so a sweep that was stopped is simply started again.
"""

import dataclasses
import math
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from espnet_ext import yamlfile
from espnet_ext.errors import EspnetExtError, UsageError, nearest
from espnet_ext.recipe import config, options, runner
from espnet_ext.recipe.console import say
from espnet_ext.recipe.steps.decode import label

LAST_STAGE = "9"
OWN_KEYS = ("name", "group", "seed")  # the sweep sets these itself
PASSED_ON = ("nj", "ngpu", "executor", "num-nodes", "num-procs")
Value = int | float | str


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Curves(_Model):
    """The second dimension: one curve for each value of ``key``."""

    key: str
    values: list[bool | int | float | str] = Field(min_length=1)


class Sweep(_Model):
    """What FILE.yaml may hold."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    key: str
    values: list[Value] = Field(min_length=1)
    seeds: list[int] = Field(default=[1], min_length=1)
    curves: Curves | None = None
    base: dict[str, Any] = {}
    set: str = ""
    metric: Literal["wer", "cer", "accuracy"] = "wer"
    method: str = ""
    x_label: str = ""

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


def _number(value: Any) -> Any:
    """Return text as a number if it is one: YAML 1.1 reads 1e-3 as text."""
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return value
    return number if math.isfinite(number) else value


@dataclasses.dataclass(frozen=True)
class Run:
    """One experiment of the grid."""

    name: str
    group: str
    curve: str  # legend; empty when there is one curve only
    value: Value
    seed: int
    overrides: tuple[tuple[str, str], ...]

    def argv(self, passed_on: list[str]) -> list[str]:
        """Return the options of ``run.sh`` that this experiment is."""
        argv = ["--name", self.name, "--group", self.group, "--seed", str(self.seed)]
        argv += [x for key, text in self.overrides for x in (f"--{key}", text)]
        return [*argv, "--stop-stage", LAST_STAGE, *passed_on]

    @property
    def record(self) -> Path:
        """Where the score stage leaves the run record."""
        return Path("results") / f"{self.name}.json"


def main(argv: list[str] | None = None) -> int:
    """Run a sweep in the current directory; return the exit code of the first run that fails.

    Raises:
        UsageError: The command line or FILE.yaml asks for something that does not exist.
        DataError: The runs were scored on different references.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    file = Path(argv[0])
    opts = _options(argv)
    sweep = load(file)
    runs = expand(sweep, file)
    sweep = check(sweep, runs, file)
    passed_on = options.without(argv[1:], {"dry-run"})
    if opts.dry_run:
        _plan(runs, passed_on)
        return 0
    for number, run in enumerate(runs, 1):
        say(f"sweep {sweep.name}: run {number} of {len(runs)}, {run.name}")
        code = runner.main(run.argv(passed_on))
        if code:
            command = shlex.join(["./run.sh", *run.argv(passed_on)])
            print(f"error: the sweep stopped at run {number} of {len(runs)}\n  run:   {command}\n"
                  f"  again: espnet-ext sweep {shlex.join(argv)}", file=sys.stderr)  # fmt: skip
            return code
    from espnet_ext.recipe.sweep_results import report

    report(sweep, runs)
    return 0


def _options(argv: list[str]) -> options.Options:
    if argv[0].startswith("--"):
        raise UsageError("the sweep's file comes first", argv[0], "espnet-ext sweep FILE.yaml")
    known = {"dry-run", "debug", *PASSED_ON}
    for name in (a[2:].partition("=")[0].replace("_", "-") for a in argv[1:] if a[:2] == "--"):
        if name not in known:
            how = f"{nearest(name, known)}; keys of recipe.yaml go below 'base:' in the file"
            raise UsageError(f"a sweep has no option --{name}", None, how)
    return options.parse(argv[1:], set())


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
        return Sweep.model_validate(raw)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        *parents, key = map(str, first["loc"])
        dotted = ".".join((*parents, key))
        if first["type"] == "extra_forbidden":
            valid = Curves.model_fields if parents else Sweep.model_fields
            raise UsageError(f"unknown key '{dotted}'", path, nearest(key, valid)) from None
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"'{dotted}' is not usable: {message}", path) from None


def expand(sweep: Sweep, path: Path) -> list[Run]:
    """Return the experiments of the grid; those that differ by their seed only stand together.

    Raises:
        UsageError: A key is set twice, or two experiments would have one name.
    """
    keys = [sweep.key, *([sweep.curves.key] if sweep.curves else []), *sweep.base]
    for key in keys:
        if keys.count(key) > 1:
            raise UsageError(f"'{key}' is set twice", path)
        if key in OWN_KEYS:
            raise UsageError(f"a sweep sets '{key}' itself", path, "leave it away")
    if len(set(sweep.values)) < len(sweep.values):
        raise UsageError("a value stands twice", f"{path}: values")
    curves = sweep.curves.values if sweep.curves else [None]
    runs = [
        _run(sweep, curve, value, seed)
        for curve in curves
        for value in sweep.values
        for seed in sweep.seeds
    ]
    names = [r.name for r in runs]
    for name in names:
        if names.count(name) > 1:
            how = "give each seed and value once"
            raise UsageError(f"two runs would be named '{name}'", path, how)
    return runs


def _run(sweep: Sweep, curve: Any, value: Value, seed: int) -> Run:
    overrides = [(key, as_text(v)) for key, v in sweep.base.items()]
    parts, legend = [sweep.name], ""
    if sweep.curves:
        overrides.append((sweep.curves.key, as_text(curve)))
        parts.append(as_text(curve))
        legend = f"{sweep.curves.key.rpartition('.')[2]} = {as_text(curve)}"
    overrides.append((sweep.key, as_text(value)))
    group = "_".join(["sweep", *parts, as_text(value)])
    group = re.sub(r"[^A-Za-z0-9._-]", "-", group)  # it names a folder
    return Run(f"{group}_s{seed}", group, legend, value, seed, tuple(overrides))


def as_text(value: Any) -> str:
    """Write a value as an option of ``run.sh`` takes it.

    >>> [as_text(x) for x in (1e-05, True, None, [1, 2], "a b")]
    ['1e-05', 'true', 'null', '[1, 2]', 'a b']
    """
    if isinstance(value, dict | list):
        text = yaml.safe_dump(value, default_flow_style=True, width=float("inf"), sort_keys=False)
        return text.strip()
    if isinstance(value, bool):
        return str(value).lower()
    return "null" if value is None else str(value)


def check(sweep: Sweep, runs: list[Run], path: Path) -> Sweep:
    """Check every run against recipe.yaml; return the sweep with its defaults filled in.

    Raises:
        UsageError: A run has an unknown key or value, or ``set`` or ``method`` will not be decoded.
    """
    try:
        recipes = [config.load(Path("recipe.yaml"), list(r.overrides)) for r in runs]
    except EspnetExtError as e:
        raise UsageError(e.what, f"{path} ({e.where})" if e.where else path, e.how) from None
    recipe = recipes[0]
    if recipe.decode is None or recipe.score is None:
        raise UsageError("a sweep needs the sections decode and score", "recipe.yaml")
    sets = recipe.decode.sets or [recipe.data.valid, *recipe.data.test]
    set_name, method = sweep.set or recipe.data.valid, label(recipe.decode)
    if sweep.metric == "accuracy":  # of a classifier of text, whose decodings are its models
        method = sweep.method or recipe.decode.args.get("inference_model", "asr")
    if set_name not in sets:
        how = nearest(set_name, sets)
        raise UsageError(f"set '{set_name}' is not decoded", f"{path}: set", how)
    if sweep.method not in ("", method, recipe.decode.method):
        raise UsageError(
            f"the recipe decodes by '{method}', not by '{sweep.method}'",
            f"{path}: method",
            f"base: {{decode.method: {sweep.method}}}",
        )
    filled = {"set": set_name, "method": method, "x_label": sweep.x_label or sweep.key}
    return sweep.model_copy(update=filled)


def _plan(runs: list[Run], passed_on: list[str]) -> None:
    for run in runs:
        state = "recorded" if run.record.exists() else "to run  "
        say(f"{state}  {shlex.join(['./run.sh', *run.argv(passed_on)])}")
    left = sum(not r.record.exists() for r in runs)
    say(f"{len(runs)} runs, {left} without a record yet")
