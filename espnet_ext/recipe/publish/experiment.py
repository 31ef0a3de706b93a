# SPDX-License-Identifier: Apache-2.0
"""The experiment that is to be published: found, and refused unless trained, scored and packed."""

import os
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.files import sha256_file
from espnet_ext.installation import recipe_line
from espnet_ext.recipe import config, doubts, options, records, stages
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.decode import last_phase
from espnet_ext.recipe.steps.record import config_sha256, record_path
from espnet_ext.recipe.steps.train import model_file
from espnet_ext.scoring.record import Record, load_record, load_records

PACK = stages.find("pack")


@dataclass(frozen=True)
class Experiment:
    """A finished experiment; paths are relative to the folder of its recipe.

    Attributes:
        ctx: Its configuration, as the command of its run record has it.
        plan: Of stage 10: what was packed.
        record: Its run record.
        runs: The records of its group, which differ by their seed; its own is among them.
    """

    ctx: Context
    plan: Plan
    record: Record
    runs: list[Record]

    @property
    def archive(self) -> Path:
        return self.plan.makes[0]


def folder_of(given: str) -> Path:
    """Return ``exp/<name>`` of an experiment, absolute.

    Args:
        given: That folder, or ``<name>`` in the folder of a recipe.

    Raises:
        DataError: There is no such experiment.
    """
    for path in (Path(os.path.abspath(given)), Path(os.path.abspath(f"exp/{given}"))):
        recipe = path.parents[1] / "recipe.yaml" if path.parent.name == "exp" else None
        if path.is_dir() and recipe is not None and recipe.is_file():
            return path
    here = sorted(str(p) for p in Path("exp").glob("*") if p.is_dir())
    how = "give exp/<name> in the folder of its recipe"
    how += f"; there are: {', '.join(here)}" if here else ""
    raise DataError("there is no such experiment", given, how)


def load(name: str) -> Experiment:
    """Return the experiment of a name; the current folder is that of its recipe.

    Raises:
        DataError: It is not trained, scored or packed as it is configured now.
        EspnetExtError: It seems to recognise nothing.
    """
    path = Path("results") / f"{name}.json"
    if not path.is_file():
        what = "the experiment is not published: it has no scores"
        raise DataError(what, path, f"{recipe_line('--name', name)} trains and scores it")
    record = load_record(path)
    ctx = _context(record)
    plan = stages.plan(ctx, PACK)
    if plan.off:
        raise DataError("the recipe packs no model", "recipe.yaml", "add the section 'pack: {}'")
    _check(ctx, plan, record)
    every = load_records("results")
    own = next(r for r in every if r.name == name)  # by the group that all records together give it
    return Experiment(ctx, plan, record, [r for r in every if r.group == own.group])


def _context(record: Record) -> Context:
    argv = shlex.split(record.command)
    first = next((i for i, x in enumerate(argv) if x.startswith("--")), len(argv))
    opts = options.parse(argv[first:], {f.name for f in fields(Recipe)})
    ctx = Context(config.load(Path("recipe.yaml"), opts.overrides), opts)
    if (ctx.recipe.recipe, ctx.recipe.name) != (record.recipe, record.name):
        what = f"the run record is of '{record.recipe}', experiment '{record.name}'"
        raise DataError(what, record_path(ctx), "score it again: ./run.sh --stage score")
    return ctx


def _check(ctx: Context, plan: Plan, record: Record) -> None:
    """Refuse what is not whole: the record, the archive and the model belong together."""

    def again(stage: str, why: str, where: object) -> DataError:
        argv = options.without(ctx.options.argv, {"stage", "stop-stage"})
        return DataError(f"the experiment is not published: {why}", where,
                         recipe_line("--stage", stage, *argv))  # fmt: skip

    for path in plan.needs:
        if not path.exists():
            raise again("prepare", "it is not trained", path)
    if not plan.makes[0].exists():
        raise again("pack", "it is not packed", plan.makes[0])
    if why := records.why_run(ctx, PACK, plan, records.current(plan)):
        raise again("pack", f"its archive is out of date ({why})", plan.makes[0])
    if config_sha256(ctx) != record.config_sha256:
        raise again("score", "its scores are of another training", record_path(ctx))
    digest = sha256_file(model_file(ctx, last_phase(ctx)))
    for name, methods in record.sets.items():
        for method in methods:
            cost = ctx.exp / "decode" / method / name / "decode.json"
            if (records.read(cost) or {}).get("model_sha256", digest) != digest:
                raise again("decode", f"'{name}' was decoded by another model", cost)
    if found := doubts.lines(ctx):
        how = "train longer or look at the data"
        raise EspnetExtError(f"the experiment is not published: {found[0]}", ctx.exp, how)
