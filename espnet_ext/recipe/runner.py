# SPDX-License-Identifier: Apache-2.0
"""Run the stages of a recipe: ``python -m espnet_ext.recipe`` in the recipe's folder."""

import dataclasses
import logging
import signal
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from espnet_ext import files
from espnet_ext.errors import EspnetExtError, UsageError, close_stdout, of_system, told
from espnet_ext.installation import named_here, recipe_line
from espnet_ext.progress import duration
from espnet_ext.recipe import (
    config,
    content,
    corpus_lines,
    options,
    presets,
    processes,
    records,
    stages,
    tracking,
)
from espnet_ext.recipe.console import say, stage_log
from espnet_ext.recipe.executor import dask_settings
from espnet_ext.recipe.schema import Recipe
from espnet_ext.recipe.stages import Context, Plan, Stage
from espnet_ext.recipe.turn import Turn
from espnet_ext.text import source


def main(argv: list[str] | None = None) -> int:
    """Run from the current directory; return the exit code (0 to 3; 128 + n on signal n)."""
    try:
        with processes.stop_on_signals():
            code = _main(sys.argv[1:] if argv is None else argv)
            sys.stdout.flush()
            return code
    except BrokenPipeError:  # the reader has enough, as in './run.sh --help | head'
        close_stdout()
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as e:
        return processes.tell_stopped(e)


def _main(argv: list[str]) -> int:
    # Else the first warning of any package would open a handler to the terminal for all logging.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        opts = options.parse(argv, {f.name for f in dataclasses.fields(Recipe)})
        if opts.help:
            return _help(opts.help_key)
        chosen = stages.select(opts.stage, opts.stop_stage)
        ctx = Context(config.load(Path("recipe.yaml"), opts.overrides), opts)
        if opts.list_only:
            return _list(ctx, chosen)
        if opts.dry_run:
            return _dry_run(ctx, chosen)
        if opts.doctor:
            from espnet_ext.recipe import preflight

            return preflight.doctor(ctx, chosen)
        return _run(ctx, chosen)
    except EspnetExtError as e:
        print(f"error: {e}", file=sys.stderr)
        return e.exit_code
    except BrokenPipeError:
        raise
    except Exception as e:
        if "--debug" in argv:
            raise
        if known := of_system(e):
            print(f"error: {known}", file=sys.stderr)
            return known.exit_code
        frame = _frame(e)
        print(f"error: {told(e)}\n  where: {frame}  (add --debug)", file=sys.stderr)
        return 1


def _help(key: str) -> int:
    from espnet_ext.recipe import keys

    found = presets.names(Path("recipe.yaml"))
    if key:
        print(keys.describe(key))
    else:
        print(named_here(options.__doc__.partition("\n\n")[2].rstrip()))
        print(f"\nKeys of recipe.yaml (--help KEY: type and default):\n{keys.summary()}")
    if found and key.removeprefix("--") in ("", presets.KEY, presets.SECTION):
        print(presets.line(found))
    return 0


def _list(ctx: Context, chosen: tuple[Stage, ...]) -> int:
    say(f"{ctx.recipe.recipe}: {ctx.recipe.title}")
    for key, value in ctx.recipe.expect.items():
        say(f"  {key}: {value}")
    for line in corpus_lines.lines(ctx.recipe.corpus):
        say(line)
    for stage in chosen:
        on = getattr(ctx.recipe, stage.section) is not None
        say(f"{stage.number:3d} {stage.name:9s} {'on ' if on else 'off'} {stage.does}")
    _notes(ctx)
    if ctx.recipe.presets:
        say(presets.line([*ctx.recipe.presets]))
    return 0


def _notes(ctx: Context) -> None:
    for note in ctx.recipe.notes:
        say(f"note: {note}")


def _dry_run(ctx: Context, chosen: tuple[Stage, ...]) -> int:
    total = 0.0
    dask_settings(ctx.options)  # raise if what is asked for does not exist
    tracking.check(ctx.options.track)
    _notes(ctx)
    for stage in chosen:
        plan = stages.plan(ctx, stage)
        say(f"{_label(stage)}: {plan.off or plan.does or stage.does}")
        if plan.off:
            continue
        for line in corpus_lines.lines(ctx.recipe.corpus) if stage.name == "prepare" else ():
            say(line)
        total += plan.disk_mb
        say("  needs: " + (", ".join(map(str, plan.needs)) or "nothing"))
        say("  makes: " + ", ".join(map(str, plan.makes)))
        say(f"  disk:  about {plan.disk_mb:.0f} MB")
        for note in plan.notes:
            say(f"  note:  {note}")
        for command in plan.stock:
            stock = command.startswith("python -m espnet2.")
            say(f"  {'stock' if stock else 'own'}:{'' if stock else '  '} {command}")
    say(f"disk in all: about {total:.0f} MB; experiment folder: {ctx.exp}")
    return 0


def _run(ctx: Context, chosen: tuple[Stage, ...]) -> int:
    from espnet_ext.recipe import preflight

    with Turn(ctx.recipe.name, say, ctx.options.wait) as turn:
        if turn.killed:
            _sweep(ctx, turn)
        say(f"{ctx.recipe.recipe}, experiment '{ctx.recipe.name}', folder {ctx.exp}")
        _notes(ctx)
        off = [stages.plan(ctx, s).off for s in chosen]
        if all(off):
            raise UsageError("nothing to run in this range", off[0], "see --list")
        preflight.check(ctx, chosen)
        turn.begin()
        source.remember({s.name: stages.plan(ctx, s).settings for s in chosen})
        start, ran = time.monotonic(), 0
        for stage in chosen:
            processes.raise_if_swallowed()
            if not stage.shared:
                turn.share()
            plan = stages.plan(ctx, stage)
            if plan.off:
                say(f"{_label(stage)}: off, {plan.off}")
                continue
            code = _run_stage(ctx, stage, plan, turn)
            if code is None:
                continue
            if code:
                return code
            ran += 1
        say(f"done: {ran} stage(s) run in {duration(time.monotonic() - start)}")
        if chosen[-1] is stages.STAGES[-1]:
            _summary(ctx)
    return 0


def _sweep(ctx: Context, turn: Turn) -> None:
    root, folders = Path(), ["data", "dump", "exp", "results", ".stages"]
    if turn.others():  # what they write at the moment is not half written
        root = ctx.exp
        folders = [p.name for p in root.iterdir() if p.is_dir()] if root.is_dir() else []
    for path in files.sweep(root, folders) if root.is_dir() else ():
        say(f"removed what was half written when the run was killed: {path}")


def _summary(ctx: Context) -> None:
    """After the last stage: what was reached, where it is written, how to use the model."""
    for line in _told(ctx, "score", "summary"):
        say(f"  {line}")
    if Path("RESULTS.md").exists():
        say(f"results: {Path('RESULTS.md').resolve()}")
    if ctx.recipe.pack is not None:
        for line in _told(ctx, "pack", "usage"):
            say(f"  {line}")


def _told(ctx: Context, stage_name: str, function: str) -> list[str]:
    """Return what the code of a stage has to say at the end, if anything."""
    code = [s.code(ctx.recipe) for s in stages.STAGES if s.name == stage_name]
    return [line for c in code for line in getattr(c, function, lambda ctx: [])(ctx)]


def _run_stage(ctx: Context, stage: Stage, plan: Plan, turn: Turn) -> int | None:
    """Run one stage if needed; return None when it is up to date, else its exit code."""
    records.check_needs(ctx, stage, plan)
    now = records.current(plan)
    why = records.why_run(ctx, stage, plan, now) or ("--force" if ctx.options.force else "")
    label = _label(stage)
    if not why:
        edited = records.edited(ctx, stage)
        say(f"{label}: up to date" + (f"; edited since: {', '.join(edited)}" if edited else ""))
        return None
    if stage.shared:
        turn.alone(label)
    say(f"{label}: {plan.does or stage.does} ... running ({why})")
    ctx.done_path(stage).unlink(missing_ok=True)
    log = ctx.exp / "log" / f"{stage.number:02d}_{stage.name}.log"
    start = time.monotonic()
    try:
        with stage_log(log, _header(ctx, stage)):
            stage.code(ctx.recipe).run(ctx, plan)
            plan = stages.plan(ctx, stage)  # which products there are may depend on the data
            for path in plan.makes:
                if path.suffix == ".scp" and path.exists():
                    content.make_relative(path)
        _check_made(stage, plan)
    except SystemExit as e:  # what ESPnet's parser does with a value that it cannot read
        last = [x for x in log.read_text(encoding="utf-8").splitlines() if x.strip()][-1:]
        said = last[0] if last else "no message"
        return _failed(ctx, stage, log, EspnetExtError(f"it ended with code {e.code}: {said}"))
    except Exception as e:
        return _failed(ctx, stage, log, e)
    wall_s = time.monotonic() - start
    records.write(ctx, stage, plan, now, wall_s)
    say(f"{label}: done in {duration(wall_s)}")
    return 0


def _label(stage: Stage) -> str:
    return f"stage {stage.number}/{len(stages.STAGES)} {stage.name}"


def _check_made(stage: Stage, plan: Plan) -> None:
    gone = [p for p in plan.makes if not p.exists()]
    if gone:
        raise EspnetExtError(f"stage {stage.name} ended without making what it should", gone[0])


def _header(ctx: Context, stage: Stage) -> list[str]:
    from espnet_ext.recipe.environment import header_lines

    head = [f"stage {stage.number} {stage.name}", f"command: {command(ctx)}"]
    return [*head, *header_lines()]


def command(ctx: Context) -> str:
    """Return the command line that started this run."""
    return recipe_line(*ctx.options.argv)


def _failed(ctx: Context, stage: Stage, log: Path, error: Exception) -> int:
    """Tell once what failed, where, how to fix it, and how to run only this stage again."""
    processes.raise_if_stopped()
    trace = traceback.format_exception(error)
    if not isinstance(error, EspnetExtError):
        error = of_system(error) or error
    expected = isinstance(error, EspnetExtError)
    text = str(error) if expected else told(error)
    if not expected:
        text += f"\n  where: {_frame(error)}"
    with suppress(OSError), open(log, "a", encoding="utf-8") as f:  # the disk may be full
        f.writelines(trace)
    if ctx.options.debug:
        print("".join(trace), end="", file=sys.stderr)
    print(f"error: stage {stage.number} ({stage.name}) failed: {text}", file=sys.stderr)
    print(f"  log:   {log}" + ("" if ctx.options.debug else "  (or add --debug)"), file=sys.stderr)
    print(f"  rerun: {rerun(ctx, stage)}", file=sys.stderr)
    return error.exit_code if expected else 1


def _frame(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}"


def rerun(ctx: Context, stage: Stage) -> str:
    """Return the command that runs only ``stage``, with every other option as it was."""
    keep = options.without(ctx.options.argv, {"stage", "stop-stage"})
    n = str(stage.number)
    return recipe_line("--stage", n, "--stop-stage", n, *keep)
