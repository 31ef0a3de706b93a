# SPDX-License-Identifier: Apache-2.0
"""Several experiments of one recipe, one after the other: what sweeps and evidence share.

An experiment is a command line of ``run.sh``. What is finished is up to date for the runner, so a
series that was stopped is simply started again.
"""

import json
import os
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_ext.errors import EspnetExtError, UsageError, nearest
from espnet_ext.installation import recipe_line
from espnet_ext.progress import duration
from espnet_ext.recipe import config, configuration, options, runner
from espnet_ext.recipe.console import say
from espnet_ext.recipe.experiment import Experiment, states_of
from espnet_ext.recipe.jobs import Jobs
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import find
from espnet_ext.recipe.steps.launch import gpus

OWN_KEYS = ("name", "group", "seed")  # set for each experiment
PASSED_ON = ("nj", "ngpu", "executor", "num-nodes", "num-procs")


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


def parse(argv: list[str], command: str, own: Iterable[str] = (), how: str = "") -> options.Options:
    """Parse what follows the file of ``espnet-ext COMMAND FILE.yaml``.

    Args:
        argv: The file and the options.
        command: For messages.
        own: Further options of the command, or first parts of them, which stand among
            ``overrides``.
        how: What to do instead, where an option is not known.

    Raises:
        UsageError: The file does not come first, or the command does not know an option or what
            ``--jobs`` says.
    """
    if argv[0].startswith("--"):
        raise UsageError("the file comes first", argv[0], f"espnet-ext {command} FILE.yaml")
    known = {"dry-run", "debug", *PASSED_ON, *own}
    for name in (a[2:].partition("=")[0].replace("_", "-") for a in argv[1:] if a[:2] == "--"):
        first, dot, _ = name.partition(".")
        if first not in known or (dot and first not in Recipe.__dataclass_fields__):
            how = "; ".join(x for x in (nearest(name, known), how) if x)
            raise UsageError(f"'{command}' has no option --{name}", None, how)
    if not Path(argv[0]).exists() and not Path("recipe.yaml").exists():
        how = "enter egs2/<corpus>/<method>1"
        raise UsageError(f"there is neither {argv[0]} nor a recipe here", Path.cwd(), how)
    found = options.parse(argv[1:], set(own))
    jobs(found)
    return found


def listed(opts: options.Options, name: str) -> list[str]:
    """Return the comma-separated values of an option; empty where it is not given."""
    return [x for key, text in opts.overrides if key == name for x in text.split(",") if x]


def seeds(opts: options.Options) -> list[int]:
    """Return what ``--seeds`` names; empty where it is not given.

    Raises:
        UsageError: A seed is no whole number.
    """
    given = listed(opts, "seeds")
    if wrong := [s for s in given if not s.isdecimal()]:
        raise UsageError(f"a seed is a whole number from 0, not '{wrong[0]}'", "--seeds")
    return [int(s) for s in given]


def jobs(opts: options.Options) -> int:
    """Return how many runs ``--jobs`` asks for at a time; 1 where it is not given.

    Raises:
        UsageError: It is no whole number from 1.
    """
    given = [text for key, text in opts.overrides if key == "jobs"][-1:] or ["1"]
    if not given[0].isdecimal() or int(given[0]) < 1:
        raise UsageError(f"--jobs must be a whole number from 1, not '{given[0]}'")
    return int(given[0])


def check(
    runs: Sequence[Experiment], path: Path, further: Sequence[tuple[str, str]] = ()
) -> list[Recipe]:
    """Check every run against recipe.yaml; return the recipe of each.

    Args:
        runs: The experiments.
        path: The file that they come from, for messages.
        further: Overrides from the command line, the same for all.

    Raises:
        UsageError: Two runs have one name, a key is set that belongs to the series, or a run has an
            unknown key or value.
    """
    names = [r.name for r in runs]
    for run in runs:
        if names.count(run.name) > 1:
            how = "give each seed and value once"
            raise UsageError(f"two runs would be named '{run.name}'", path, how)
        for key, _ in (*run.overrides, *further):
            if key in OWN_KEYS:
                how = f"leave out '{key}': it is set for each run"
                raise UsageError(f"'{key}' cannot be set here", path, how)
    try:
        find(runs[0].last_stage)
        return [config.load(Path("recipe.yaml"), [*r.overrides, *further]) for r in runs]
    except EspnetExtError as e:
        raise UsageError(e.what, f"{path} ({e.where})" if e.where else path, e.how) from None


def build_all(
    runs: Sequence[Experiment], opts: options.Options, further: Sequence[tuple[str, str]] = ()
) -> None:
    """Build the models and options of all runs, so that none of them fails after the first.

    Raises:
        EspnetExtError: A run cannot be built; the message begins with its name.
    """
    recipe = Path("recipe.yaml")
    points = [(r.name, config.load(recipe, [*r.overrides, *further])) for r in runs]
    configuration.check_points(points, opts)


def run_all(
    runs: Sequence[Experiment], passed_on: Sequence[str], title: str, again: str,
    opts: options.Options,
) -> int:  # fmt: skip
    """Run the experiments; return the exit code of the first that fails, or 0.

    Args:
        runs: The experiments.
        passed_on: Further options of ``run.sh`` for each.
        title: Of the series.
        again: The command that goes on with it.
        opts: The command line; ``--jobs`` says how many run at a time.
    """
    os.environ.setdefault("ESPNET_EXT_CALLED_FROM", os.getcwd())
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as run.sh: --nj says how many processes
    if (at_a_time := jobs(opts)) > 1:
        if code := Jobs(runs, passed_on, title, at_a_time, gpus(opts)).run():
            print(f"error: the {title.split()[0]} stopped\n  again: {again}", file=sys.stderr)
        return code
    for number, run in enumerate(runs, 1):
        say(f"{title}: run {number} of {len(runs)}, {run.name}")
        for argv in run.commands(passed_on):
            if code := runner.main(argv):
                where = f"the {title.split()[0]} stopped at run {number} of {len(runs)}"
                command = recipe_line(*argv)
                print(f"error: {where}\n  run:   {command}\n  again: {again}", file=sys.stderr)
                return code
    return 0


def plan_lines(runs: Sequence[Experiment], passed_on: Sequence[str]) -> list[str]:
    """Return a line for each run with its state, estimated time and command, and a sum.

    Below a run that changed stands what did; of a run that is made again, all is counted as left.
    """
    times = {group: estimate_s(group) for group in dict.fromkeys(r.group for r in runs)}
    states = states_of(runs, passed_on)
    lines = []
    for run in runs:
        told = "unknown time" if times[run.group] is None else duration(times[run.group])
        command = recipe_line(*run.argv(passed_on))
        lines.append(f"{states[run.name].word:8s}  {told:>12s}  {command}")
        lines += [f"          {states[run.name].why}"] if states[run.name].why else []
    left = [r for r in runs if states[r.name].word != "done"]
    known = [t for r in left if (t := times[r.group]) is not None]
    hours = f", about {sum(known) / 3600:.1f} h" if known else ""
    unknown = f", {len(left) - len(known)} of unknown time" if len(known) < len(left) else ""
    without = sum(not r.record.exists() for r in runs)
    here = f"{len(left)} to run here{hours}{unknown}"
    return [*lines, f"{len(runs)} runs, {without} without a record yet, {here}"]


def estimate_s(group: str) -> float | None:
    """Return how long a run of a group takes, in seconds: the mean of the runs that there were.

    Trainings in ``exp/`` count first, which this machine has done, then the run records.
    """
    here: dict[str, float] = {}
    for path in Path("exp").glob(f"{group}_s*/*/phase.json"):
        run = path.parts[1]
        if run.removeprefix(f"{group}_s").isdecimal():
            here[run] = here.get(run, 0.0) + _json(path).get("train_wall_s", 0.0)
    if here:
        return statistics.fmean(here.values())
    recorded = [r for p in Path("results").glob("*.json") if (r := _json(p)).get("group") == group]
    times = [
        sum(phase.get("train_wall_s", 0.0) for phase in r.get("phases", {}).values())
        + sum(d.get("decode_wall_s", 0.0) for m in r.get("sets", {}).values() for d in m.values())
        for r in recorded
        if r.get("phases")
    ]
    return statistics.fmean(times) if times else None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
