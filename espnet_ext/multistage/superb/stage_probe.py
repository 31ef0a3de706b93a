# SPDX-License-Identifier: Apache-2.0
"""Stage 8: a probe of each task that was prepared, on the encoder that ``decode.args.model`` names.

``decode.args`` are those of :class:`ProbeArgs`. The folder ``exp/<name>/decode/probe/<TASK>_test``
gets the table that the task's metric reads, and ``decode.json`` with score and settings. A probe
that is there and would come out the same is kept.
"""

import contextlib
import dataclasses
import shlex
import time
from dataclasses import dataclass, field
from pathlib import Path

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.files import atomic_dir, sha256_json, write_json
from espnet_ext.multistage.superb.probing import SETS, TASKS, Job
from espnet_ext.multistage.superb.settings import PROTOCOL, Settings
from espnet_ext.recipe import records
from espnet_ext.recipe.console import say
from espnet_ext.recipe.content import Contents
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import launch
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.settings import build

METHOD = "probe"
LIST = DATA / "superb" / "tasks"  # what local/superb.py has prepared
FILES = {"ks": "prediction", "ic": "prediction", "pr": "phones", "sd": "diarisation"}


@dataclass(frozen=True)
class ProbeArgs:
    """``decode.args`` of recipe.yaml.

    Attributes:
        model: Packed model, experiment folder or folder of a phase, of any model with an encoder.
        cache_gb: Features of larger sets are not kept.
        ks, ic, pr, sd: Training of a task's head where it is not that of SUPERB's protocol.
    """

    model: str = ""
    cache_gb: float = 50.0
    ks: dict = field(default_factory=dict)
    ic: dict = field(default_factory=dict)
    pr: dict = field(default_factory=dict)
    sd: dict = field(default_factory=dict)


def probe_args(ctx: Context) -> ProbeArgs:
    """Return the checked settings; a key of a task that is no setting is told by :func:`jobs`."""
    return build(ProbeArgs, ctx.recipe.decode.args, "recipe.yaml", "decode.args")


def settings_of(ctx: Context, task: str) -> Settings:
    """Return how the head of a task is trained.

    Raises:
        UsageError: There is no such setting, or not this value.
    """
    where = f"decode.args.{task}"
    values = {**dataclasses.asdict(PROTOCOL[task]), **getattr(probe_args(ctx), task)}
    return build(Settings, values, "recipe.yaml", where)


def tasks_of(ctx: Context) -> list[str]:
    """Return the tasks that were prepared; none before stage 1.

    Raises:
        DataError: The list names another task.
    """
    found = read_table(LIST) if LIST.is_file() else {}
    if odd := found.keys() - TASKS.keys():
        raise DataError(f"there is no task '{min(odd)}'", LIST, "./run.sh --stage prepare --force")
    return [task for task in TASKS if task in found]


def job_of(ctx: Context, task: str) -> Job:
    """Return what the probe of a task is made of."""
    folders = {name: DATA / f"{task}_{name}" for name in SETS}
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    return Job(task, folders, settings_of(ctx, task), device, ctx.recipe.seed,
               DUMP / "probe_cache", probe_args(ctx).cache_gb)  # fmt: skip


def out_dir(ctx: Context, task: str) -> Path:
    """Return the folder of a task's probe."""
    return ctx.exp / "decode" / METHOD / f"{task}_test"


def check_args(ctx: Context) -> None:
    """Check settings and model before time is spent.

    Raises:
        UsageError: No model is named, or a setting is not possible.
        DataError: There is no such model, or it has no encoder.
    """
    from espnet_ext.espnet.archive import read_yaml
    from espnet_ext.espnet.frozen import model_files

    for task in TASKS:
        settings_of(ctx, task)
    model = probe_args(ctx).model
    if not model:
        how = "--decode.args.model ../../lrs3/multistage1/exp/full, seen from the recipe's folder"
        raise UsageError(
            "no model is named whose encoder is to be probed", "decode.args.model", how
        )
    with model_files(model) as (config, _):
        if not read_yaml(config, "the configuration").get("encoder"):
            raise DataError("the model has no encoder", model, "give a model of ASR, ST or SSL")


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args, tasks = probe_args(ctx), tasks_of(ctx)
    inputs = [p for task in tasks for p in inputs_of(ctx, task)]
    return Plan(
        needs=[LIST],
        inputs=[LIST, *dict.fromkeys([*_model(args.model), *inputs])],
        makes=[out_dir(ctx, t) / f for t in tasks for f in (FILES[t], "decode.json")],
        settings={"tasks": {t: dataclasses.asdict(settings_of(ctx, t)) for t in TASKS},
                  "named": bool(args.model), "seed": ctx.recipe.seed},
        disk_mb=1000 * min(args.cache_gb, 5.0) * len(tasks),
        stock=[_command(ctx, task) for task in tasks],
    )  # fmt: skip


def inputs_of(ctx: Context, task: str) -> list[Path]:
    """Return the tables of a task's sets that are there."""
    files = ("wav.scp", "segments", "text", "rttm")
    paths = [DATA / f"{task}_{name}" / file for name in SETS for file in files]
    return [path for path in paths if path.is_file()]


def _model(model: str) -> list[Path]:
    """Return the files of the model: configuration and checkpoint, or the archive."""
    from espnet_ext.espnet.frozen import model_files

    if not model or not Path(model).is_dir():
        return [Path(model)] if model else []
    with contextlib.suppress(DataError), model_files(model) as files:  # else check_args tells it
        return [*files]
    return []


def identity(ctx: Context, task: str) -> str:
    """Return a hash of all that a task's probe depends on."""
    known = Contents()
    paths = [*_model(probe_args(ctx).model), *inputs_of(ctx, task)]
    parts = [known.fingerprint(path) for path in paths]
    known.save()
    return sha256_json([dataclasses.asdict(settings_of(ctx, task)), ctx.recipe.seed, parts])


def is_done(ctx: Context, task: str) -> bool:
    """Whether the probe that is there is the one that would be made now."""
    about = records.read(out_dir(ctx, task) / "decode.json") or {}
    return about.get("identity") == identity(ctx, task)


def _command(ctx: Context, task: str) -> str:
    args = ["espnet-ext", "probe", "--model", probe_args(ctx).model, "--task", task]
    args += ["--data", str(DATA), *(x for n in SETS for x in (f"--{n}", f"{task}_{n}"))]
    return shlex.join([*args, "--seed", str(ctx.recipe.seed)])


def run(ctx: Context, plan: Plan) -> None:
    """Probe; the sets of all tasks are read before the first probe begins."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.multistage.superb.probing import probe, read_sets

    check_args(ctx)
    todo = []
    for task in tasks_of(ctx):
        if not ctx.options.force and is_done(ctx, task):
            say(f"  {task}: its probe is there")
        else:
            read_sets(job_of(ctx, task))
            todo.append(task)
    fastimport.enable()
    for task in todo:
        start, digest = time.perf_counter(), identity(ctx, task)
        found = probe(job_of(ctx, task), probe_args(ctx).model)
        facts = {**found.facts, "identity": digest, "files": [*found.tables]}
        facts["wall_s"] = round(time.perf_counter() - start, 3)
        with atomic_dir(out_dir(ctx, task)) as tmp:
            for file, rows in found.tables.items():
                write_table(tmp / file, rows)
            write_json(tmp / "decode.json", facts)
        say(f"  {task}: {facts['metric']} {facts['score']:.2f} %")
