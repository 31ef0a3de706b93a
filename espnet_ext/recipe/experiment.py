# SPDX-License-Identifier: Apache-2.0
"""One experiment of a series: its command line, and how far it has come in this folder."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.errors import EspnetExtError
from espnet_ext.recipe import config, options, records, stages
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import PHASES, Context, find

LAST_STAGE = "score"  # it leaves the record; a file may name another
Overrides = tuple[tuple[str, str], ...]  # keys of recipe.yaml and values as text


@dataclass(frozen=True)
class Experiment:
    """One run of the recipe; those that differ by their seed only share a group."""

    name: str
    group: str
    seed: int
    overrides: Overrides = ()
    last_stage: str = LAST_STAGE
    # By which the model is decoded as well.
    searches: tuple[Overrides, ...] = field(default=(), kw_only=True)
    after: tuple[str, ...] = field(default=(), kw_only=True)  # names of those that end before

    def argv(self, passed_on: Sequence[str]) -> list[str]:
        """Return the options of ``run.sh`` that this experiment is, without further searches."""
        return self._argv(self.overrides, ["--stop-stage", self.last_stage, *passed_on])

    def commands(self, passed_on: Sequence[str]) -> list[list[str]]:
        """Return the options of each ``run.sh``: training, and then a search each."""
        first, *_ = found = [self.argv(passed_on)]
        span = ["--stage", "decode", *first[first.index("--stop-stage") :]]
        return found + [self._argv((*self.overrides, *search), span) for search in self.searches]

    def _argv(self, overrides: Overrides, rest: Sequence[str]) -> list[str]:
        argv = ["--name", self.name, "--group", self.group, "--seed", str(self.seed)]
        return [*argv, *(x for key, text in overrides for x in (f"--{key}", text)), *rest]

    @property
    def record(self) -> Path:
        """Where the score stage leaves the run record."""
        return Path("results") / f"{self.name}.json"


@dataclass(frozen=True)
class State:
    """How far an experiment has come.

    Attributes:
        word: ``done`` here; ``changed``: done, and a stage runs again, as its configuration or what
            it reads has changed; ``recorded`` but not by this folder; ``started``; or ``to run``.
        why: Which stage of a ``changed`` one runs again, and why.
        trains: Whether a model will be trained from which another experiment may start.
    """

    word: str
    why: str = ""
    trains: bool = True


def states_of(runs: Sequence[Experiment], passed_on: Sequence[str]) -> dict[str, State]:
    """Return the states of experiments by name, in the order in which they will run.

    Args:
        runs: The experiments.
        passed_on: Further options of ``run.sh`` for each.
    """
    states: dict[str, State] = {}
    for run in runs:
        states[run.name] = _state(run, passed_on, states)
    return states


def _state(run: Experiment, passed_on: Sequence[str], before: Mapping[str, State]) -> State:
    folder, last = Path("exp") / run.name, find(run.last_stage)
    scored = last.number >= find(LAST_STAGE).number
    *earlier, final = run.commands(passed_on)
    ctx = _context(final)
    if not ctx.done_path(last).exists():
        known = "recorded" if run.record.exists() else ""
        return State(known or ("started" if folder.exists() else "to run"))
    if scored and not run.record.exists():
        return State("started", trains=False)  # it is scored again
    for path in starts_from(ctx.recipe):
        if (name := _experiment_of(path)) in before and before[name].trains:
            return State("changed", f"it starts from {path}, which is made again")
    # Scores are of all that was decoded: those of the last search stand for all.
    spans = [*((_context(argv), "decode") for argv in earlier), (ctx, run.last_stage)]
    found = (_changed(*span) for span in spans)
    return next(filter(None, found), None) or State("done", trains=False)


def _context(argv: list[str]) -> Context:
    """Return what ``run.sh`` makes of its options."""
    opts = options.parse(argv, {f.name for f in dataclasses.fields(Recipe)})
    return Context(config.load(Path("recipe.yaml"), opts.overrides), opts)


def _changed(ctx: Context, last_stage: str) -> State | None:
    """Return the state of a finished experiment of which a stage is going to run again."""
    for stage in stages.select("", last_stage):
        try:
            plan = stages.plan(ctx, stage)
            why = "" if plan.off else records.why_run(ctx, stage, plan, records.current(plan))
        except EspnetExtError as e:
            why = str(e.what)  # the run itself tells all of it
        if why:
            trains = stage.number <= find(PHASES[-1]).number
            return State("changed", f"stage {stage.number} ({stage.name}) {why}", trains)
    return None


def starts_from(recipe: Recipe) -> Iterator[Path]:
    """Yield the files from which the phases of a recipe start, but for those of its own phases."""
    for phase in recipe.phases.values():
        for text in phase.init:
            file = text.partition(":")[0]
            if file not in PHASES:
                yield Path(file)


def _experiment_of(path: Path) -> str:
    """Return the name of the experiment whose file this is; empty for any other file."""
    return path.parts[1] if len(path.parts) > 2 and path.parts[0] == "exp" else ""


def needs(run: Experiment, passed_on: Sequence[str]) -> set[str]:
    """Return the names of the experiments that must have ended before a run begins.

    They are those that it comes after, that it starts from, or whose files any of its values names.
    """
    files = starts_from(_context(run.argv(passed_on)).recipe)
    values = (text for keys in (run.overrides, *run.searches) for _, text in keys)
    named = (name for text in values for name in re.findall(r"\bexp/([^/\s'\"]+)/", text))
    return {*run.after, *filter(None, map(_experiment_of, files)), *named} - {run.name}


def missing_start(
    runs: Sequence[Experiment], recipes: Sequence[Recipe]
) -> tuple[Experiment, Path, str] | None:
    """Return the first run that starts from a file of ``exp/`` that no earlier run will make.

    Args:
        runs: The experiments in the order in which they will run.
        recipes: The recipe of each.

    Returns:
        The run, the missing file, and the name of the experiment that has to make it.
    """
    made: set[str] = set()
    for run, recipe in zip(runs, recipes, strict=True):
        for path in starts_from(recipe):
            name = _experiment_of(path)
            if name not in ("", run.name, *made) and not path.exists():
                return run, path, name
        made.add(run.name)
    return None
