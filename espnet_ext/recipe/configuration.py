# SPDX-License-Identifier: Apache-2.0
"""Checks of a recipe's configuration before anything runs: by reading it, and by building it.

What ESPnet would refuse, or take in silence, hours later is told in seconds: the model, its
optimisers and one loss are built on the CPU from the options that the training will get.
"""

import contextlib
import dataclasses
import math
import sys
from collections.abc import Iterator
from pathlib import Path

from espnet_ext.data.streams import SOUNDS, find_stream
from espnet_ext.errors import EspnetExtError, UsageError, nearest
from espnet_ext.files import sha256_json
from espnet_ext.frames import encoder_of_config, features_of_config, usual_encoder
from espnet_ext.recipe import decoding, records, stages
from espnet_ext.recipe.console import say
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.schema import Phase, Recipe, Tokens
from espnet_ext.recipe.stages import PHASES, Context, Plan, Stage
from espnet_ext.recipe.steps import tokens_given, train
from espnet_ext.recipe.steps.prepare import sets
from espnet_ext.recipe.steps.tokens import tokens_of
from espnet_ext.scoring.settings import read_settings

Check = tuple[str, EspnetExtError | None]
MADE = ("data", "dump", "exp", ".stages")  # folders that stages fill
STAND_IN_TOKENS = 30  # of a token list that is not made yet and whose size is not given


def problems(
    ctx: Context, plans: list[tuple[Stage, Plan]], told: set[str] | None = None
) -> Iterator[Check]:
    """Yield the name of each check, with the error where it fails.

    Args:
        ctx: What is asked for.
        plans: The stages to check.
        told: What was said of other experiments of a series, and is not said again.
    """
    told = set() if told is None else told
    yield "names of sets", caught(_check_sets, ctx)
    built: dict[str, dict] = {}
    made = _made(ctx)
    for stage, plan in plans:
        own = dataclasses.replace(ctx, stage=stage)
        if stage.name == "score":
            yield "results settings", caught(read_settings, Path("recipe.yaml"))
        used = (records.read(ctx.done_path(stage)) or {}).get("settings") == plan.settings
        if stage.name == "decode" and not used and (check := decoding.check_of(ctx)):
            yield "decode options", caught(check, own)  # before the files: it names the option
        yield f"{stage.name} files", caught(_check_needs, stage, plan, made)
        if used:
            continue  # this configuration has been used to the end
        if stage.name in PHASES:
            yield f"{stage.name} audio", caught(_check_audio_of, own, plan, told)
            yield f"{stage.name} configuration", caught(_check_phase, own, plan, built, told)


def check_points(points: list[tuple[str, Recipe]], options: Options) -> None:
    """Check the configurations of a sweep: all of its points, before the first one runs.

    Args:
        points: Name and recipe of each; those that differ by name and seed only are built once.
        options: Of the command line.

    Raises:
        EspnetExtError: The first problem; its message begins with the name of the point.
    """
    seen: set[str] = set()
    told: set[str] = set()
    for name, recipe in points:
        key = sha256_json(
            dataclasses.asdict(dataclasses.replace(recipe, name="", group="", seed=0))
        )
        if key in seen:
            continue
        seen.add(key)
        ctx = Context(recipe, options)
        try:
            of_models = [s for s in stages.STAGES if s.name in ("tokens", *PHASES, "decode")]
            plans = [(s, p) for s in of_models if not (p := stages.plan(ctx, s)).off]
            for _, problem in problems(ctx, plans, told):
                if problem is not None:
                    raise problem
        except EspnetExtError as e:
            raise type(e)(f"{name}: {e.what}", e.where, e.how) from e.__cause__


def caught(check, *args) -> EspnetExtError | None:
    """Return what a check raises, or None."""
    try:
        check(*args)
    except EspnetExtError as e:
        return e
    return None


def _check_sets(ctx: Context) -> None:
    """A name that local/data.sh does not make would be missed when its stage begins."""
    recipe = ctx.recipe
    if recipe.prepare is None or (recipe.format is not None and not stages.formats_audio(recipe)):
        return
    used = {"decode.sets": recipe.decode.sets if recipe.decode else []}
    used["align.sets"] = (recipe.align or {}).get("sets") or []
    for name, phase in recipe.phases.items():
        used |= {f"{name}.train": [phase.train], f"{name}.valid": [phase.valid]}
        used |= {f"{name}.extra_data.{k}.set": [e.set] for k, e in phase.extra_data.items()}
    for key, names in used.items():
        for name in filter(None, names):
            if name not in sets(ctx) and not any((Path(x) / name).exists() for x in MADE[:2]):
                how = f"{nearest(name, sets(ctx))}, or add it to data.also"
                raise UsageError(f"there is no set '{name}'", key, how)


def _made(ctx: Context) -> set[Path]:
    """Return what any stage makes."""
    made: set[Path] = set()
    for stage in stages.STAGES:
        with contextlib.suppress(EspnetExtError):  # told of the stages that are to run
            made |= set(stages.plan(dataclasses.replace(ctx), stage).makes)
    return made


def _check_needs(stage: Stage, plan: Plan, made: set[Path]) -> None:
    """Files that no stage makes must be there from the start."""
    for path in plan.needs:
        if path.parts[0] not in MADE and path not in made and not path.exists():
            have = sorted(str(p) for p in path.parent.glob(f"*{path.suffix}"))
            how = "there are: " + ", ".join(have[:8]) if have else "give the path of a file"
            raise UsageError(f"stage {stage.name} needs a missing file", path, how)


def _check_audio_of(ctx: Context, plan: Plan, told: set[str]) -> None:
    """The front end must be of the audio's rate, and format's frames must be the encoder's."""
    form, config = ctx.recipe.format, plan.settings["config"]
    phase: Phase = getattr(ctx.recipe, ctx.stage.name)
    if not stages.formats_audio(ctx.recipe) or not any(s.type in SOUNDS for s in phase.streams):
        return
    features, encoder = features_of_config(config), encoder_of_config(config)
    if features is not None and features.rate != form.fs:
        raise UsageError(
            f"the front end is for {features.rate:g} Hz, and format makes audio of {form.fs} Hz",
            _where(ctx, "frontend_conf.fs"), f"frontend_conf: {{fs: {form.fs}}}, or format.fs",
        )  # fmt: skip
    fmax = (config.get("frontend_conf") or {}).get("fmax")
    if features is not None and fmax is not None and fmax > form.fs / 2:
        what = f"audio of {form.fs} Hz has nothing above {form.fs / 2:g} Hz, and fmax is {fmax}"
        raise UsageError(what, _where(ctx, "frontend_conf.fmax"), "leave fmax out")
    if encoder is None or tokens_of(ctx) is None:
        return
    usual = usual_encoder(form.fs, form.ctc_stride)
    if encoder.shift_s > usual.shift_s + 1e-9:
        right = math.ceil(encoder.shift_s / 0.01 - 1e-9)  # 64 ms need 7
        raise UsageError(
            f"the encoder makes a frame of {1000 * encoder.shift_s:g} ms, and format keeps what is "
            f"long enough for {1000 * usual.shift_s:g} ms: utterances would have no CTC path",
            "format.ctc_stride", f"format.ctc_stride: {right}",
        )  # fmt: skip
    if encoder.shift_s < usual.shift_s / 1.5:
        _say_once(
            f"note: format drops what is too short for encoder frames of {1000 * usual.shift_s:g} "
            f"ms (ctc_stride {form.ctc_stride}); those of {ctx.stage.name} are of "
            f"{1000 * encoder.shift_s:g} ms",
            told,
        )


def _where(ctx: Context, key: str) -> str:
    """Return where a training option comes from: recipe.yaml's args, or the configuration."""
    phase: Phase = getattr(ctx.recipe, ctx.stage.name)
    for args, name in ((phase.args, f"{ctx.stage.name}.args"), (ctx.recipe.args, "args")):
        node, parts = args, key.split(".")
        while parts and isinstance(node, dict) and parts[0] in node:
            node = node[parts.pop(0)]
        if not parts:
            return f"{name}.{key}"
    return f"{phase.config}: {key}"


def _check_phase(ctx: Context, plan: Plan, built: dict[str, dict], told: set[str]) -> None:
    """Build what the phase would train; ``built`` gets the shapes of its model."""
    phase: Phase = getattr(ctx.recipe, ctx.stage.name)
    if "espnet2" not in sys.modules:
        say("checking the configuration: importing ESPnet takes some seconds, once for this run")
    task = _parser_knows(ctx, phase, plan)
    from espnet_ext.espnet import options, trial
    from espnet_ext.espnet.train import parse

    args = parse(task, train.train_argv(ctx))
    streams = train.read_streams(ctx)
    names = {s.name for s in streams}
    _check_streams(task, names, ctx)
    extra = [s for e in phase.extra_data.values() for s in e.streams]
    for stream in (*streams, *extra):
        if stream.type not in options.stream_types():  # ESPnet has more than we
            find_stream(stream.type)
    stock = {"speech", "text"} <= names and set(task.required_data_names()) == {"speech", "text"}
    try:
        made = trial.build(task, args, _vocabulary(tokens_of(ctx)), phase.model, stock)
        if made.shapes:
            _check_init(args, made.shapes, made.tokens, built)
    except EspnetExtError as e:
        key = str(e.where or "")
        if key in ("model", "init"):  # keys of the phase, not of ESPnet
            raise type(e)(e.what, f"{ctx.stage.name}.{key}", e.how) from e.__cause__
        if key.split(".")[0] in vars(args):
            raise type(e)(e.what, _where(ctx, key), e.how) from e.__cause__
        raise
    built[str(train.model_file(ctx, ctx.stage.name))] = made.shapes
    line = f"{ctx.stage.name}: the model can be built, {made.parameters:,} parameters to train"
    if made.waits:
        line = (
            f"{ctx.stage.name}: its model can only be built after earlier stages made {made.waits}"
        )
    _say_once(line, told)


def _say_once(line: str, told: set[str]) -> None:
    if line not in told:
        say(line)
        told.add(line)


def _vocabulary(tokens: Tokens | None) -> int | list[str]:
    """Return the token list that the user gives, else the size of the one that will be made."""
    if tokens is not None and tokens.file:
        return tokens_given.read_list(tokens)
    return tokens.size if tokens is not None and tokens.type == "bpe" else STAND_IN_TOKENS


def _parser_knows(ctx: Context, phase: Phase, plan: Plan) -> type:
    """Return the task; every key of the configuration is an option of its parser."""
    from espnet_ext.espnet import fastimport
    from espnet_ext.espnet.compat import quiet_import

    fastimport.enable()
    with quiet_import():
        from espnet_ext.espnet.task import find_task

        task = find_task(phase.task)
        valid = {a.dest for a in task.get_parser()._actions}
    for key in plan.settings["config"]:
        if key not in valid:
            where = _where(ctx, key).removesuffix(f": {key}").removesuffix(f".{key}")
            raise UsageError(f"ESPnet's training has no option '{key}'", where, nearest(key, valid))
    return task


def _check_streams(task: type, names: set[str], ctx: Context) -> None:
    required, optional = task.required_data_names(), task.optional_data_names()
    where = f"{ctx.stage.name}.streams"
    for name in sorted(names - {*required, *optional}):
        known = [*required, *optional]
        raise UsageError(f"the task has no input '{name}'", where, nearest(name, known))
    if lost := sorted({*required} - names):
        raise UsageError(f"the task needs the input '{lost[0]}'", where, f"add a stream {lost[0]}")


def _check_init(args, shapes: dict, tokens: list[str] | None, built: dict[str, dict]) -> None:
    from espnet_ext.espnet import init

    for text in args.init_param:
        one = init.Init.of(text)
        saved = Path(one.file).exists()
        source = init.read_shapes(one.file) if saved else built.get(one.file)
        if not source:
            continue  # another phase makes it, and checks itself
        init.check_prefix(one, source)
        if saved and tokens is None:  # there is a stand-in: the training itself checks again
            continue
        if saved:
            init.check_tokens(one, source, init.token_list_of(one.file), tokens)
        init.check_shapes(one, source, shapes, args.ignore_init_mismatch)
