# SPDX-License-Identifier: Apache-2.0
"""What can be known to fail before time is spent: configuration, corpus, disk, machine, audio."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.data.streams import USUAL, find_stream
from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.paths import absolute
from espnet_ext.recipe import configuration, edits, records, stages
from espnet_ext.recipe.configuration import caught
from espnet_ext.recipe.console import say
from espnet_ext.recipe.environment import check_environment, require_environment
from espnet_ext.recipe.executor import dask_settings
from espnet_ext.recipe.stages import PHASES, Context, Plan, Stage, find
from espnet_ext.recipe.steps import launch, prepare
from espnet_ext.recipe.steps.format import warn_of_sets
from espnet_ext.recipe.steps.prepare import sets
from espnet_ext.recipe.steps.streams import DATA, DUMP, streams_of

SAMPLE = 3  # audio files opened per set


def check(ctx: Context, chosen: tuple[Stage, ...]) -> None:
    """Raise the first thing that would make a chosen stage fail."""
    resolve_corpus(ctx)
    plans = [(s, p) for s in chosen if not (p := stages.plan(ctx, s)).off]
    require_environment(_needs(ctx, plans))
    for _, problem in _problems(ctx, plans):
        if problem:
            raise problem


def doctor(ctx: Context, chosen: tuple[Stage, ...]) -> int:
    """Print every check; return 0, or the exit code of the first that fails."""
    resolve_corpus(ctx)
    plans, code = [], 0
    for stage in chosen:
        try:
            plan = stages.plan(ctx, stage)
            plans += [] if plan.off else [(stage, plan)]
        except EspnetExtError as e:
            code = code or e.exit_code
            say(f"FAIL  stage {stage.name}: {e}")
    for c in check_environment(_needs(ctx, plans)):
        say(str(c))
        code = code or (0 if c.ok or not c.required else 3)
    for name, problem in _problems(ctx, plans):
        say(f"{'FAIL' if problem else 'ok  '}  {name}" + (f": {problem}" if problem else ""))
        code = code or (problem.exit_code if problem else 0)
    for stage, plan in plans:
        if stage.name == "prepare" and ctx.recipe.prepare.check and code == 0:
            problem = caught(prepare.check, dataclasses.replace(ctx, stage=stage), plan)
            say(f"{'FAIL' if problem else 'ok  '}  files of the preparation"
                + (f": {problem}" if problem else ""))  # fmt: skip
            code = problem.exit_code if problem else 0
    if stages.formats_audio(ctx.recipe):
        warn_of_sets(ctx)
    say("ready" if code == 0 else "not ready")
    return code


def _needs(ctx: Context, plans: list[tuple[Stage, Plan]]) -> dict:
    return {
        "path": ".",
        "disk_gb": sum(p.disk_mb for _, p in plans) / 1000,
        "ngpu": ctx.options.ngpu or 0,
        "extras": _extras(ctx, plans),
    }


def _extras(ctx: Context, plans: list[tuple[Stage, Plan]]) -> list[str]:
    """Return the extras that the preparation needs, if it is going to run."""
    runs = any(s.name == "prepare" and records.will_run(ctx, s, plan) for s, plan in plans)
    return ctx.recipe.prepare.extras if runs else []


def _problems(
    ctx: Context, plans: list[tuple[Stage, Plan]]
) -> Iterator[tuple[str, EspnetExtError | None]]:
    if problem := caught(edits.check, Path()):
        yield "EDIT", problem
    yield "executor", caught(dask_settings, ctx.options)
    if any(stage.name in PHASES for stage, _ in plans):
        yield "start of training", caught(launch.check, ctx.options)
    for stage, _ in plans:
        done = records.read(ctx.done_path(stage))
        if stage.name == "prepare" and done is None:
            yield "corpus", caught(_check_corpus, ctx)
    if any(stage.name in ("format", *PHASES) for stage, _ in plans):
        yield "streams", caught(_check_streams, ctx, {s.name for s, _ in plans})
    yield from configuration.problems(ctx, plans)
    yield "audio", caught(_check_audio, ctx, {s.name: p for s, p in plans})


def resolve_corpus(ctx: Context) -> None:
    """Make the corpus's paths absolute; a relative one is meant from where run.sh was called."""
    for name in (ctx.recipe.corpus.env, *ctx.recipe.corpus.more_env):
        if name and (path := os.environ.get(name)):
            os.environ[name] = str(absolute(path))


def _check_corpus(ctx: Context) -> None:
    corpus = ctx.recipe.corpus
    path = os.environ.get(corpus.env) if corpus.env else None
    if corpus.env and not path and not corpus.download:
        raise DataError(
            f"The environment variable {corpus.env} is not set. It must point to your copy of "
            f"{corpus.name}.",
            ctx.recipe.recipe,
            f"{corpus.env}=/path/to/it ./run.sh; source: {corpus.source} "
            f"(licence: {corpus.licence}; size: {corpus.size})",
        )
    if path and corpus.file and not Path(path).exists():
        how = f"correct the path; a file or a folder with {corpus.layout}"
        raise DataError(f"{corpus.env} names nothing that exists", path, how)
    if not path or (corpus.file and Path(path).is_file()):
        return
    if not Path(path).is_dir():
        raise DataError(f"{corpus.env} is not a folder", path, "give the corpus's folder")
    layouts = [x.strip() for x in corpus.layout.split("|") if x.strip()]
    if layouts and not any(found for x in layouts for found in Path(path).glob(x)):
        raise DataError(f"{path} does not look like {corpus.name}: there is no {corpus.layout}",
                        corpus.env, f"get it from {corpus.source}; of another layout: correct "
                        "corpus.layout in recipe.yaml")  # fmt: skip


def _check_audio(ctx: Context, plans: dict[str, Plan]) -> None:
    """Open some files that will be read first: the corpus's, or what formatting made of them."""
    from espnet_ext.data.audio import info
    from espnet_ext.data.tables import read_table
    from espnet_ext.data.tar_member import file_of

    folder = Path("data") if "format" in plans else Path("dump")
    prepare = plans.get("prepare") if folder.name == "data" else None
    if prepare and records.will_run(ctx, find("prepare"), prepare):
        return  # it will be made again
    for name in (ctx.recipe.data.train, *ctx.recipe.data.test):
        scp = folder / name / "wav.scp"
        if not scp.exists():
            continue
        rows = list(read_table(scp).items())
        for utt, path in rows[:: max(1, len(rows) // SAMPLE)]:
            if path.endswith("|"):
                continue
            if not Path(file_of(path)).exists():
                raise DataError(
                    f"the audio of '{utt}' is gone: {path}", scp, _how_moved(ctx, folder)
                )
            if folder.name == "dump":  # formatting leaves damaged audio out, and says which
                info(path)


def _check_streams(ctx: Context, chosen: set[str]) -> None:
    """Open one value of each stream besides audio and text: what reads it may not be installed."""
    from espnet_ext.data.tables import iter_table

    folder = DATA if "format" in chosen else DUMP
    for name in sets(ctx):
        for file, kind in streams_of(ctx, name).items():
            table = folder / name / file
            if file in USUAL or not table.exists():
                continue
            with contextlib.suppress(DataError):  # stages tell of each that cannot be used
                for _, value in itertools.islice(iter_table(table), 1):
                    list(find_stream(kind).check(value, full=False))


def _how_moved(ctx: Context, folder: Path) -> str:
    if folder.name == "dump":
        return "./run.sh --stage format writes the table again"
    env = ctx.recipe.corpus.env
    again = f"{env}=/new/path ./run.sh" if env else "./run.sh --force --stage 1 --stop-stage 1"
    return f"if the corpus moved: {again}"
