# SPDX-License-Identifier: Apache-2.0
"""Stage 2: from ``data/<set>`` to ``dump/<set>``, ready for training."""

import contextlib
import dataclasses
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.data.streams import AUDIO, USUAL
from espnet_ext.errors import DataError, EspnetExtError, UsageError, nearest
from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.schema import Format, Prepare
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.prepare import DATA, sets
from espnet_ext.recipe.steps.streams import DUMP, main_file, streams_of

if TYPE_CHECKING:
    from espnet_ext.data.format import FormatReport

FORMATS_AUDIO = True  # as code that calls this module: its audio can be checked beforehand


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    names = sets(ctx)
    prepare = ctx.recipe.prepare or Prepare()
    f = ctx.recipe.format
    _check_join(f, names)
    # Speed copies and joined utterances are written; else only what has to be cut or resampled.
    copies = sum(x != 1.0 for x in f.speeds) + len(f.join_sets)
    return Plan(
        needs=[DATA / s / main_file(ctx, s) for s in names],
        inputs=[p for s in names for p in sorted((DATA / s).glob("*")) if p.is_file()],
        makes=[DUMP / s / file for s in names for file in _tables(ctx, s)],
        settings={**_settings(f), "units": _units(ctx), **_further(ctx, names)},
        disk_mb=5 + prepare.disk_mb * copies,
    )


def _tables(ctx: Context, name: str) -> list[str]:
    main = main_file(ctx, name)
    tables = [main, "utt2spk", *(["utt2num_samples"] if main == AUDIO else [])]
    tables += [file for file in streams_of(ctx, name) if file not in (main, "text")]
    return [*tables, "text"] if (DATA / name / "text").exists() else tables


def _settings(f: Format) -> dict:
    """What formatting depends on; what came later is told where it is asked for."""
    settings = dataclasses.asdict(f)
    del settings["code"], settings["args"]  # of another way of formatting
    if not f.join_s:
        del settings["join_s"], settings["join_sets"]
    if f.channel is None:
        del settings["channel"]
    return settings


def _further(ctx: Context, names: list[str]) -> dict:
    """Streams besides audio and text, told where there are any."""
    streams = {name: streams_of(ctx, name) for name in names}
    further = {n: own for n, s in streams.items() if (own := dict(s.items() - USUAL.items()))}
    labelled = labelled_sets(ctx)
    return {
        **({"streams": further} if further else {}),
        **({"labelled": labelled} if labelled[1:] else {}),
    }


def _check_join(f: Format, names: list[str]) -> None:
    for name in f.join_sets:
        if name not in names:
            raise UsageError(f"there is no set '{name}'", "format.join_sets", nearest(name, names))
        if (DATA / name / "text").exists():
            how = "join sets without text only: joined audio would need joined texts"
            raise UsageError(f"{DATA / name} has a text", "format.join_sets", how)
    if f.join_s < 0 or bool(f.join_s) != bool(f.join_sets):
        how = "give both, e.g. join_s: 3.0 and join_sets: [unlabelled], or none"
        raise UsageError(f"join_s {f.join_s:g} with join_sets {f.join_sets}", "format", how)


def _check_streams(ctx: Context) -> None:
    """Miss a stream's table before the first set is formatted, not when its set's turn comes."""
    for name in sets(ctx):
        for file in streams_of(ctx, name):
            if file not in USUAL and not (DATA / name / file).exists():
                how = "./run.sh --stage prepare --force, or list each utterance and its value in it"
                raise DataError(f"set {name} has no {file}", DATA / name / file, how)


def _units(ctx: Context) -> str | None:
    """What an utterance needs at least one CTC frame for: exact for characters, else a bound."""
    if ctx.recipe.tokens is None:
        return None
    t = ctx.recipe.tokens
    if t.type != "char":
        return "word"
    return "tagged" if t.tagged and not t.symbols else "word" if t.symbols else "char"


def run(ctx: Context, plan: Plan) -> None:
    """Format every set; tell what was dropped and why."""
    from espnet_ext.data import content
    from espnet_ext.data.format import FormatOptions, format_dir
    from espnet_ext.recipe.executor import make_executor

    f = ctx.recipe.format
    _check_streams(ctx)
    warn_of_sets(ctx)
    with make_executor(ctx.options) as executor:
        for name in sets(ctx):
            labelled = name in labelled_sets(ctx)
            training = labelled or name in ctx.recipe.data.also
            options = FormatOptions(
                fs=f.fs,
                # A test set is never made easier by leaving utterances out.
                min_s=f.min_s if training else 0.0,
                max_s=f.max_s if training else float("inf"),
                speeds=tuple(f.speeds) if labelled else (1.0,),
                audio_format=f.audio_format,
                ctc_units=_units(ctx) if labelled else None,
                ctc_stride=f.ctc_stride,
                channel=f.channel,
                faults=content.ALL if training else content.BROKEN,
            )
            report = format_dir(
                DATA / name,
                DUMP / name,
                options,
                n_jobs_map=executor.map,
                progress=Progress(f"format {name}"),
                allow_pipes=f.allow_pipes,
                join_s=f.join_s if name in f.join_sets else 0.0,
                streams=streams_of(ctx, name),
            )
            _tell(name, report)


def labelled_sets(ctx: Context) -> list[str]:
    """Return the sets whose texts CTC learns: those that the token list is made of."""
    data, tokens = ctx.recipe.data, ctx.recipe.tokens
    return [data.train, *(data.also if tokens is not None and tokens.also else [])]


def warn_of_sets(ctx: Context) -> None:
    """Say what the sets of ``data/`` share, as a test must not be in the training; odd texts."""
    from espnet_ext.data.overlap import overlaps
    from espnet_ext.data.text_form import punctuated, unlearnt

    data = ctx.recipe.data
    for name in sets(ctx):
        _warn_of_rate(DATA / name / AUDIO, ctx.recipe.format.fs)
    lines = overlaps({s: DATA / s for s in sets(ctx)}, [data.train, *data.also])
    # Sets of ``also`` may share utterances, but not the two that one phase trains and is judged on.
    phases = ctx.recipe.phases.values()
    pairs = {(p.train or data.train, p.valid or data.valid) for p in phases}
    for train, valid in sorted(pairs):
        if valid in data.also and train != valid:
            lines += overlaps({train: DATA / train, valid: DATA / valid}, [train])
    learnt = [DATA / name / "text" for name in labelled_sets(ctx)]
    lines += punctuated(learnt[0], data.train)
    for name in dict.fromkeys([data.valid, *data.test]):
        lines += unlearnt(learnt, DATA / name / "text", name)
    for line in lines:
        say(f"  warning: {line}")


def _warn_of_rate(scp: Path, fs: int) -> None:
    """Resampling cannot bring back what a lower rate lost; the first file tells of its set."""
    from espnet_ext.data.audio import info
    from espnet_ext.data.tables import iter_table

    with contextlib.suppress(EspnetExtError):  # told where all audio is read
        path = next((value for _, value in iter_table(scp)), "|") if scp.exists() else "|"
        if not path.endswith("|") and (rate := info(path).rate) < fs:
            say(f"  warning: the audio of {scp.parent.name} is of {rate} Hz: nothing above "
                f"{rate / 2:g} Hz is in it, and format.fs is {fs}")  # fmt: skip


def _tell(name: str, report: "FormatReport") -> None:
    why = Counter(reason for _, reason, _ in report.dropped)
    lost = ", ".join(f"{n} {reason}" for reason, n in sorted(why.items()))
    listed = f" (list: {DUMP / name / 'dropped.tsv'})" if lost else ""
    joined = ""
    if report.joined:
        joined = f"{report.joined} joined to others (list: {DUMP / name / 'joined.tsv'}), "
    say(
        f"  {name}: {report.read} read, {report.written} written, {joined}"
        f"{len(report.dropped)} dropped{': ' + lost if lost else ''}{listed}"
    )
    for line in report.summary:
        say(f"  {name}: {line}; see {DUMP / name / 'notes.tsv'}")
