# SPDX-License-Identifier: Apache-2.0
"""Stages 5-7: one training phase. pretrain, midtrain and finetune differ only in recipe.yaml."""

import dataclasses
import importlib.util
import json
import shlex
import sys
from pathlib import Path

from espnet_ext.data.streams import AUDIO, SOUNDS, find_stream
from espnet_ext.data.tables import iter_table
from espnet_ext.errors import UsageError
from espnet_ext.espnet.stock import lacks
from espnet_ext.files import atomic_path, sha256_json, write_json
from espnet_ext.installation import install
from espnet_ext.plugin import (
    complete_config,
    config_check,
    further_needs,
    phase_off,
    unread_streams,
)
from espnet_ext.progress import count
from espnet_ext.recipe import records
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Phase, Stream
from espnet_ext.recipe.stages import PHASES, Context, Plan, find
from espnet_ext.recipe.steps import earlier, launch, lengths
from espnet_ext.recipe.steps.argv import option
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.streams import loader
from espnet_ext.recipe.steps.tokens import folder, token_options, tokens_of
from espnet_ext.scoring.spent import budget_line
from espnet_ext.yamlfile import read_section


def phase_of(ctx: Context) -> Phase:
    """Return the phase that the current stage stands for."""
    return getattr(ctx.recipe, ctx.stage.name)


def model_file(ctx: Context, phase: str) -> Path:
    """Return the checkpoint of a phase that the next one and decoding take."""
    return ctx.phase_dir(phase) / getattr(ctx.recipe, phase).model


def init_params(ctx: Context) -> list[str]:
    """Turn ``pretrain:encoder:encoder`` into ESPnet's ``FILE:SRC:DST:EXCLUDE``.

    In place of a phase that is off with this configuration stands what it would start from.
    """
    return _init_params(ctx, ctx.stage.name)


def _init_params(ctx: Context, phase: str) -> list[str]:
    out = []
    for text in getattr(ctx.recipe, phase).init:
        head, colon, rest = text.partition(":")
        if head not in PHASES:
            out.append(text)
            continue
        if PHASES.index(head) >= PHASES.index(phase):
            raise UsageError(f"{phase} cannot start from {head}", f"{phase}.init")
        if getattr(ctx.recipe, head) is None:
            how = f"add the section, or take it out: --{phase}.init '[...]'"
            raise UsageError(f"there is no phase '{head}' to start from", f"{phase}.init", how)
        if why_off(dataclasses.replace(ctx, stage=find(head))):
            out += [f"{t.partition(':')[0]}{colon}{rest}" for t in _init_params(ctx, head)]
        else:
            out.append(str(model_file(ctx, head)) + colon + rest)
    return [*dict.fromkeys(out)]  # a phase that is off may take several parts of the same file


def why_off(ctx: Context) -> str:
    """Return why the current phase has nothing to do; an empty text if it has."""
    task = phase_of(ctx).task
    return phase_off(task)(task, training_config(ctx))


def read_streams(ctx: Context) -> list[Stream]:
    """Return the streams that the current phase reads with this configuration."""
    phase = phase_of(ctx)
    unread = unread_streams(phase.task)(phase.task, training_config(ctx))
    return [s for s in phase.streams if s.name not in unread]


def training_config(ctx: Context) -> dict:
    """Return the phase's YAML file with ``args`` and the seed over it."""
    phase = phase_of(ctx)
    path = Path(phase.config)
    where = f"{ctx.stage.name}.config"
    if not path.is_file():
        have = ", ".join(sorted(str(p) for p in path.parent.glob("*.yaml"))) or "none"
        raise UsageError(f"there is no configuration {path}", where, f"there are: {have}")
    config = read_section(path, "a training configuration")
    return {**_merged(_merged(config, ctx.recipe.args), phase.args), "seed": ctx.recipe.seed}


def config_of(ctx: Context, phase: str) -> dict:
    """Return the training configuration of a phase; nothing if its file is not there.

    For what asks besides the phase's own stage, whose plan tells of the missing file.
    """
    own = dataclasses.replace(ctx, stage=find(phase))
    return training_config(own) if Path(phase_of(own).config).is_file() else {}


def _merged(config: dict, over: dict) -> dict:
    """Put options over a configuration: sections key by key, as ESPnet's parser does."""
    out = dict(config)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = {**out[key], **value} if both else value
    return out


def _check(ctx: Context, config: dict) -> None:
    """Let the method check a phase's configuration; a recipe has several, so say which it is."""
    phase, name = phase_of(ctx), ctx.stage.name
    try:
        config_check(phase.task)(config)
    except UsageError as e:
        at = f"{e.where or 'training configuration'} of {name} ({phase.config} and {name}.args)"
        raise UsageError(e.what, at, e.how) from None


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    phase, out = phase_of(ctx), ctx.phase_dir(ctx.stage.name)
    config = training_config(ctx)
    _check(ctx, config)
    if why := why_off(ctx):
        return Plan(off=why)
    needs = [
        Path(phase.config),
        *map(Path, phase.needs),
        *further_needs(phase.task)(phase.task, config),
    ]
    config = complete_config(phase.task)(config)
    for name, streams in _sources(ctx):
        needs += [DUMP / name / s.file for s in streams]
    if phase.tokens is not None and (ctx.recipe.tokens is None or ctx.recipe.tokens.code):
        how = "a section 'tokens' without code: it switches stage 4 on"
        raise UsageError("no stage makes this token list", f"{ctx.stage.name}.tokens", how)
    if (tokens := tokens_of(ctx)) is not None and not tokens.code:
        needs += [folder(ctx) / "tokens.txt"]
    needs += [Path(text.split(":")[0]) for text in init_params(ctx)]
    program, ngpu = ["python", "-m", *_stock_program(phase, config)], str(launch.gpus(ctx.options))
    stock = [
        shlex.join([*program, *_collect_argv(ctx)]),
        shlex.join([*program, *train_argv(ctx), "--ngpu", ngpu]),
    ]
    return Plan(
        needs=needs,
        makes=[out / "config.yaml", model_file(ctx, ctx.stage.name)],
        settings={
            "task": phase.task,
            "config": config,
            "init": init_params(ctx),
            "streams": [[n, [_settings(s) for s in ss]] for n, ss in _sources(ctx)],
            "model": phase.model,
        },
        inputs=[p for p in needs if str(p) != phase.config],
        disk_mb=_disk_mb(config, phase.needs),
        stock=stock,
        notes=_notes(config),
    )


def _notes(config: dict) -> list[str]:
    """Tell of a package that ESPnet's validation needs and for which the runner has a stand-in."""
    model = config.get("model_conf") or {}
    reports = [k for k in ("report_cer", "report_wer") if model.get(k)]
    if not reports or _installed("editdistance"):
        return []
    return [
        f"the stock commands need the package editdistance for {reports[0]}: "
        f"{install('editdistance')} (it has no wheel for Python 3.13 and is compiled there)"
    ]


def _installed(name: str) -> bool:
    """Whether a package is installed; a stand-in that was imported under its name has no spec."""
    if name in sys.modules:
        return getattr(sys.modules[name], "__spec__", None) is not None
    return importlib.util.find_spec(name) is not None


def _settings(s: Stream) -> dict:
    """What a training depends on; ``batch`` came later and is told where it is not the default."""
    return {k: v for k, v in vars(s).items() if k != "batch" or not v}


def _disk_mb(config: dict, needs: list[str]) -> float:
    """Estimate the space of all checkpoints: of encoder, decoder and given weights."""
    weights = [p for p in map(Path, needs) if p.suffix == ".safetensors" and p.exists()]
    params = sum(p.stat().st_size for p in weights) / 4
    for part in ("encoder_conf", "decoder_conf"):
        if not config.keys() & {part, part.removesuffix("_conf")}:
            continue  # a model of another kind
        conf = config.get(part) or {}
        d = (config.get("encoder_conf") or {}).get("output_size", 256)
        layer = 8 * d * d + 4 * d * conf.get("linear_units", 2048)
        params += conf.get("num_blocks", 6) * layer + 18 * d * d
    keep = config.get("keep_nbest_models", 10)
    models = 2 + (keep if isinstance(keep, int) else max(keep))  # and two checkpoints with Adam's
    return 4e-6 * params * (models + 2 * 3)


def _stock_program(phase: Phase, config: dict) -> list[str]:
    own = ["espnet_ext.espnet.train", phase.task]
    return ["espnet2.bin.asr_train"] if phase.task == "asr" and not lacks(config) else own


def _sources(ctx: Context) -> list[tuple[str, list[Stream]]]:
    phase = phase_of(ctx)
    main = [(name, read_streams(ctx)) for name in _train_valid(ctx)]
    return main + [(e.set, e.streams) for e in phase.extra_data.values()]


def _train_valid(ctx: Context) -> tuple[str, str]:
    phase, data = phase_of(ctx), ctx.recipe.data
    return phase.train or data.train, phase.valid or data.valid


def _stats(ctx: Context) -> Path:
    return ctx.exp / "stats" / ctx.stage.name


def _base_argv(ctx: Context) -> list[str]:
    """Options that collecting statistics and training share."""
    phase = phase_of(ctx)
    argv = ["--config", phase.config, *token_options(ctx)]
    given = _merged(ctx.recipe.args, phase.args)
    for key, value in {**given, "seed": ctx.recipe.seed}.items():
        argv += option(key, value)
    return argv


def _data_argv(ctx: Context, stats: Path | None) -> list[str]:
    """Options of the data streams; with ``stats``, also of their shape files."""
    phase, argv = phase_of(ctx), []
    for part, name in zip(("train", "valid"), _train_valid(ctx), strict=True):
        for s in read_streams(ctx):
            path = DUMP / name / s.file
            argv += [f"--{part}_data_path_and_name_and_type", f"{path},{s.name},{loader(s.type)}"]
            if stats and s.batch:
                argv += [f"--{part}_shape_file", str(stats / part / f"{s.name}_shape")]
    for stream, extra in phase.extra_data.items():
        for s in extra.streams:
            path = DUMP / extra.set / s.file
            form = f"{stream},{path},{s.name},{loader(s.type)}"
            argv += ["--stream_data_path_and_name_and_type", form]
            if stats:
                argv += ["--stream_shape_file", f"{stream},{stats / stream / f'{s.name}_shape'}"]
    return argv


def _collect_argv(ctx: Context) -> list[str]:
    """Return the options that collect statistics."""
    argv = [*_base_argv(ctx), *_data_argv(ctx, None), "--output_dir", str(_stats(ctx))]
    if training_config(ctx).get("normalize") == "global_mvn":
        argv += ["--normalize", "null"]  # it cannot be built before there are statistics
    fixed = ["--ngpu", "0", "--num_workers", "0", "--use_amp", "false"]
    return [*argv, "--collect_stats", "true", *fixed]


def train_argv(ctx: Context) -> list[str]:
    """Return the options of ESPnet's training program for this phase."""
    out, stats = ctx.phase_dir(ctx.stage.name), _stats(ctx)
    argv = [*_base_argv(ctx), *_data_argv(ctx, stats), "--output_dir", str(out), "--resume", "true"]
    if init_params(ctx):
        argv += ["--init_param", *init_params(ctx)]
    config = training_config(ctx)
    if config.get("normalize") == "global_mvn":
        argv += ["--normalize_conf", f"stats_file={stats / 'train' / 'feats_stats.npz'}"]
    if pools := _loader_pools(ctx):
        argv += ["--num_workers", str(launch.loader_workers(ctx.options, pools))]
    return argv


def _loader_pools(ctx: Context) -> int:
    """Return how many streams of batches are loaded at a time; 0 if the user set num_workers."""
    return 0 if "num_workers" in training_config(ctx) else 1 + len(phase_of(ctx).extra_data)


def run(ctx: Context, plan: Plan) -> None:
    """Collect statistics, train (or go on), check the result against stock ESPnet."""
    phase, out = phase_of(ctx), ctx.phase_dir(ctx.stage.name)
    _collect_stats(ctx, plan)
    earlier.set_aside_if_changed(plan, phase.task, out)
    earlier.note_commit(out)
    launch.train(ctx, phase.task, train_argv(ctx), _loader_pools(ctx))
    record = json.loads((out / "phase.json").read_text(encoding="utf-8"))
    share = 100 * record["params_trained"] / max(1, record["params"])
    say(
        f"  {record['params_trained']:,} trainable parameters ({share:.3g} %), "
        f"{count(record['epochs'], 'epoch')}"
    )
    say(f"  {budget_line(record)}")
    if not phase.verify:
        return
    from espnet_ext.espnet.loading import verify_told
    from espnet_ext.espnet.task import find_task

    # What other phases train is for stock inference only where their task says so.
    inference = getattr(find_task(phase.task), "stock_task", None)
    if inference or ctx.stage.name == "finetune":
        model = model_file(ctx, ctx.stage.name)
        say(f"  checked: {verify_told(out / 'config.yaml', model, inference)}")


def _collect_stats(ctx: Context, plan: Plan) -> None:
    """Shapes of all data (for batching) and feature statistics, unless they are there already."""
    from espnet_ext.espnet.train import run as train

    phase, stats = phase_of(ctx), _stats(ctx)
    config = plan.settings["config"]
    relevant = {k: v for k, v in config.items() if k.startswith(("frontend", "preprocessor"))}
    inputs = {k: v for k, v in records.current(plan)["inputs"].items() if not k.startswith("exp/")}
    encoder = lengths.encoder_of(ctx, config)
    known = [phase.task, plan.settings["streams"], relevant, inputs, token_options(ctx)]
    key = sha256_json([*known, repr(encoder)])
    if (records.read(stats / "done.json") or {}).get("key") == key:
        return
    (stats / "done.json").unlink(missing_ok=True)
    say("  collecting statistics")
    sound = any(s.name == "speech" and s.type in SOUNDS for s in phase.streams)
    sets = dict(zip(("train", "valid"), _train_valid(ctx), strict=True)) if sound else {}
    short = lengths.leave_out_short(ctx, config, sets, stats)
    train(phase.task, [*_collect_argv(ctx), *short])
    for stream, extra in phase.extra_data.items():
        write_stream_shapes(stats / stream, extra.set, extra.streams)
    if encoder is not None:
        text = next(s.file for s in phase.streams if s.name == "text")
        lengths.leave_out(ctx, stats / "train", DUMP / _train_valid(ctx)[0] / text, encoder)
    write_json(stats / "done.json", {"key": key})


def write_stream_shapes(out: Path, name: str, streams: list[Stream]) -> None:
    """Write the shape files of a further stream: what its type counts, for the size of batches."""
    for s in streams:
        kind, known = find_stream(s.type), DUMP / name / "utt2num_samples"
        measured = s.file == AUDIO and known.exists()  # format has counted them
        with atomic_path(out / f"{s.name}_shape") as tmp, open(tmp, "w", encoding="utf-8") as f:
            for utt, value in iter_table(known if measured else DUMP / name / s.file):
                f.write(f"{utt} {value if measured else kind.length(value)}\n")
