# SPDX-License-Identifier: Apache-2.0
"""usage: espnet-ext evidence FILE.yaml [--dry-run] [--systems A,B] [--seeds 1,2]
                           [--jobs N] [OPTIONS]

Train, decode and score the systems that a claim rests on, over seeds, in the recipe of this folder;
print the plan first, with estimated hours where earlier runs tell them, and write RESULTS.md at the
end. Finished runs are up to date: what was stopped is simply started again. In the plan, "done" was
trained in this folder, "changed" as well, but since then its configuration or what it reads has
changed, so that it runs again; "recorded" has a record only, and is trained here again. What a
system starts from (exp/OTHER_s{seed}/...) is run before it. FILE.yaml holds:

  seeds: [1, 2, 3]
  systems:                                # name: {key of recipe.yaml: value}; it names the group
    bljust: {finetune.args.bl_just.schedule: bljust}
    pt_ft: {finetune.args.bl_just.schedule: pt_ft}
  base: {finetune.args.max_epoch: 60}     # optional: further keys, the same for every run
  budget: {unit: passes, equal: [bljust, pt_ft]}   # optional: who must have spent the same:
                                          # passes, updates or labelled_batches
  planned: {system: bljust, against: pt_ft}        # optional: as results.planned of recipe.yaml;
                                          # ablations: [NAME], too, are compared with system alone
  after: {no_mutual: ml_lmcl}             # optional: runs after the other system; one whose value
                                          # names a file exp/ml_lmcl_s{seed}/... does so anyway
  optional: [wav2vec2]                    # optional: run only where --systems names them
  last_stage: score                       # default
  searches: [with_lm]                     # optional: presets of decode; every run is decoded and
                                          # scored by these as well

  from: ../other/evidence.yaml            # optional: what this file does not say itself

With --jobs N, N runs are at work at a time; their output is in exp/NAME/log/run.log. They take
turns on the GPUs, and share the cores: what a run costs in wall-clock time is then higher.
OPTIONS are --nj, --ngpu, --executor, --debug and keys of recipe.yaml, which hold for every run.
"""

import re
import shlex
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from espnet_ext import yamlfile
from espnet_ext.errors import UsageError, nearest
from espnet_ext.recipe import experiments, options, searches
from espnet_ext.recipe.config import EXPERIMENT_NAME
from espnet_ext.recipe.console import say
from espnet_ext.recipe.experiment import LAST_STAGE, Experiment, missing_start
from espnet_ext.recipe.experiments import OWN_KEYS, as_text
from espnet_ext.recipe.schema import Recipe
from espnet_ext.scoring.record import load_record

OWN = ("systems", "seeds", "jobs")  # options of this command alone
TOLERANCE_PERCENT = 1  # whole epochs seldom end at the same number of passes


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Budget(_Model):
    """Systems that must have spent the same: all, where ``equal`` is empty."""

    unit: Literal["passes", "updates", "labelled_batches"] = "updates"
    equal: list[str] = []


class Planned(_Model):
    """The one comparison that was planned beforehand, and the ablations of its system."""

    system: str
    against: str
    ablations: list[str] = []


class Evidence(_Model):
    """What FILE.yaml may hold."""

    seeds: list[int] = Field(min_length=1)
    systems: dict[str, dict[str, Any]] = Field(min_length=1)
    base: dict[str, Any] = {}
    budget: Budget | None = None
    planned: Planned | None = None
    after: dict[str, str] = {}
    optional: list[str] = []
    last_stage: str = LAST_STAGE
    searches: list[str] = []


def main(argv: list[str] | None = None) -> int:
    """Make the evidence in the current directory; return the exit code of the first failing run.

    Raises:
        UsageError: The command line or FILE.yaml asks for something that does not exist.
    """
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print((__doc__ or "").rstrip())
        return 0 if argv else 2
    file = Path(argv[0])
    keys = [k for k in Recipe.__dataclass_fields__ if k not in OWN_KEYS]
    opts = experiments.parse(argv, "evidence", (*OWN, *keys))
    evidence = load(file)
    also = searches.of(evidence.searches, file, evidence.last_stage)
    runs = expand(evidence, file, experiments.listed(opts, "systems"), experiments.seeds(opts))
    runs = [replace(run, searches=also.overrides) for run in runs]
    passed_on = options.without(argv[1:], {"dry-run", *OWN})
    further = [o for o in opts.overrides if o[0] not in OWN]
    recipe, *others = experiments.check(runs, file, further)
    _check_planned(evidence, recipe, file)
    _check_starts(runs, [recipe, *others], file)
    told = [*headline(evidence, recipe, runs), *also.lines()]
    for line in [*told, *experiments.plan_lines(runs, passed_on)]:
        say(line)
    experiments.build_all(runs, opts, further)
    if opts.dry_run:
        return 0
    title = f"evidence {recipe.recipe}"
    again = f"espnet-ext evidence {shlex.join(argv)}"
    if code := also.prepare(runs, passed_on, opts):
        return code
    return experiments.run_all(runs, passed_on, title, again, opts) or _finish(evidence, runs)


def load(path: Path) -> Evidence:
    """Read FILE.yaml.

    Raises:
        UsageError: No such file, broken YAML, an unknown key (the nearest valid one is named), or
            a value that cannot be used.
    """
    raw = _read(path)
    try:
        evidence = Evidence.model_validate(raw)
    except ValidationError as e:
        first = e.errors(include_url=False)[0]
        dotted = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            models = {"budget": Budget, "planned": Planned}
            valid = models.get(str(first["loc"][0]), Evidence).model_fields
            how = nearest(str(first["loc"][-1]), valid)
            raise UsageError(f"unknown key '{dotted}'", path, how) from None
        raise UsageError(f"'{dotted}' is not usable: {first['msg']}", path) from None
    for name in evidence.systems:
        if not EXPERIMENT_NAME.fullmatch(name):
            how = "use letters, digits, '.', '_' and '-'"
            raise UsageError(f"'{name}' cannot name a system (it names folders)", path, how)
    for key, names in _references(evidence).items():
        for name in names:
            if name not in evidence.systems:
                how = nearest(name, evidence.systems)
                raise UsageError(f"there is no system '{name}'", f"{path}: {key}", how)
    return evidence


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    """Return the file over the one that it is made from."""
    raw = yamlfile.read_section(path, "the evidence file", empty=False)
    if (other := raw.pop("from", None)) is None:
        return raw
    if not isinstance(other, str) or depth > 4:
        raise UsageError("'from' must name another file", f"{path}: from")
    return {**_read(path.parent / other, depth + 1), **raw}


def _references(evidence: Evidence) -> dict[str, list[str]]:
    """Return the names of systems that the file mentions, by key."""
    planned, budget = evidence.planned, evidence.budget
    return {
        "after": [*evidence.after, *evidence.after.values()],
        "optional": evidence.optional,
        "planned": [planned.system, planned.against, *planned.ablations] if planned else [],
        "budget.equal": budget.equal if budget else [],
    }


def expand(
    evidence: Evidence, path: Path, systems: Sequence[str] = (), seeds: Sequence[int] = ()
) -> list[Experiment]:
    """Return the experiments: every system of the first seed, then of the next.

    Args:
        evidence: The file's content.
        path: For messages.
        systems: Run only these, and those that they start from; default: all but optional ones.
        seeds: Run only these; default: those of the file.

    Raises:
        UsageError: There is no such system, or systems start from one another in a circle.
    """
    for name in systems:
        if name not in evidence.systems:
            how = nearest(name, evidence.systems)
            raise UsageError(f"there is no system '{name}'", "--systems", how)
    chosen = [*systems] or [s for s in evidence.systems if s not in evidence.optional]
    ordered: list[str] = []
    for name in chosen:
        _add_with_those_before(name, evidence, path, ordered)
    return [
        _experiment(evidence, system, seed)
        for seed in (seeds or evidence.seeds)
        for system in ordered
    ]


def _add_with_those_before(
    name: str, evidence: Evidence, path: Path, ordered: list[str], chain: tuple[str, ...] = ()
) -> None:
    """Add a system to the order in which they run, after those that it starts from."""
    if name in chain:
        raise UsageError(f"'{name}' starts from itself", f"{path}: after")
    for other in _those_before(name, evidence):
        _add_with_those_before(other, evidence, path, ordered, (*chain, name))
    if name not in ordered:
        ordered.append(name)


def _those_before(name: str, evidence: Evidence) -> list[str]:
    """Return the systems that a system comes after, or whose files any of its values names."""
    text = as_text({**evidence.base, **evidence.systems[name]})
    named = re.findall(r"\bexp/([^/\s'\"]+)_s\{seed\}/", text)
    named = [other for other in named if other != name]  # a phase of its own
    found = dict.fromkeys([evidence.after.get(name), *named])
    return [other for other in found if other in evidence.systems]


def _check_starts(runs: list[Experiment], recipes: list[Recipe], path: Path) -> None:
    """Tell of a checkpoint that is gone and that no run of the plan makes, and how to make it."""
    if (found := missing_start(runs, recipes)) is None:
        return
    run, file, name = found
    other = re.fullmatch(r"(.+)_s(\d+)", name)
    group = ["--group", other[1], "--seed", other[2]] if other else []
    how = f"train it before: ./run.sh {shlex.join(['--name', name, *group])} and its own options"
    if other and other[1] in {r.group for r in runs}:
        how = f"run it before: espnet-ext evidence {path} --systems {other[1]} --seeds {other[2]}"
    what = f"'{run.name}' starts from a file that is missing, and no run before it makes it: {file}"
    raise UsageError(what, f"{path}: systems.{run.group}", how)


def _experiment(evidence: Evidence, system: str, seed: int) -> Experiment:
    values = {**evidence.base, **evidence.systems[system]}
    overrides = [(key, as_text(v).replace("{seed}", str(seed))) for key, v in values.items()]
    after = tuple(f"{x}_s{seed}" for x in filter(None, [evidence.after.get(system)]))
    name, last = f"{system}_s{seed}", evidence.last_stage
    return Experiment(name, system, seed, tuple(overrides), last, after=after)


def _check_planned(evidence: Evidence, recipe: Recipe, path: Path) -> None:
    """The page takes the comparison from recipe.yaml: the two must not differ."""
    if evidence.planned is None:
        return
    planned = evidence.planned.model_dump(exclude_defaults=True)
    told = recipe.results.planned
    if planned != {key: told[key] for key in Planned.model_fields if told.get(key)}:
        how = f"recipe.yaml: results: {{planned: {as_text(planned)}}}"
        raise UsageError("recipe.yaml names another planned comparison", f"{path}: planned", how)


def headline(evidence: Evidence, recipe: Recipe, runs: list[Experiment]) -> list[str]:
    """Return what the evidence is made of, for a person."""
    systems, seeds = (list(dict.fromkeys(x)) for x in ([r.group for r in runs],
                                                       [r.seed for r in runs]))  # fmt: skip
    shown = ", ".join(map(str, seeds))
    lines = [f"evidence {recipe.recipe}: {len(systems)} systems, seeds {shown}"]
    if evidence.planned:
        lines.append(f"planned: {evidence.planned.system} against {evidence.planned.against}")
    if evidence.budget:
        equal = ", ".join(evidence.budget.equal) or "all systems"
        lines.append(f"equal {_name(evidence.budget.unit)}: {equal}")
    return lines


def _finish(evidence: Evidence, runs: list[Experiment]) -> int:
    """Tell what each system has spent, and write the page."""
    from espnet_ext.recipe.steps.record import write_page

    for line in budget_lines(evidence, runs):
        say(line)
    say(f"results: {write_page()}")
    return 0


def budget_lines(evidence: Evidence, runs: list[Experiment]) -> list[str]:
    """Return mean budgets of the systems, and a warning where those to be equal are not.

    Raises:
        DataError: A run record is missing or not usable.
    """
    unit = evidence.budget.unit if evidence.budget else "updates"
    spent: dict[str, list[float]] = {}
    for run in runs:
        value = (load_record(run.record).budget or {}).get(unit)
        if isinstance(value, int | float):
            spent.setdefault(run.group, []).append(value)
    means = {group: statistics.fmean(values) for group, values in spent.items()}
    lines = [f"  {group}: {mean:,.0f} {_name(unit)}" for group, mean in means.items()]
    if evidence.budget:
        equal = evidence.budget.equal or list(means)
        compared = {g: means[g] for g in equal if g in means}
        if compared and 100 * (max(compared.values()) - min(compared.values())) > (
            TOLERANCE_PERCENT * max(compared.values())
        ):
            low, high = min(compared, key=compared.get), max(compared, key=compared.get)
            told = f"{low} {means[low]:,.0f}, {high} {means[high]:,.0f}"
            lines.append(f"warning: unequal {_name(unit)}: {told}")
    return lines


def _name(unit: str) -> str:
    return unit.replace("_", " ")
