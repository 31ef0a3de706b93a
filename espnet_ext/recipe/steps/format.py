# SPDX-License-Identifier: Apache-2.0
"""Stage 2: from ``data/<set>`` to ``dump/<set>``, ready for training."""

import dataclasses
from pathlib import Path

from espnet_ext.recipe.console import Progress, say
from espnet_ext.recipe.schema import Prepare
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.prepare import DATA, sets

DUMP = Path("dump")


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    names = sets(ctx)
    prepare = ctx.recipe.prepare or Prepare()
    return Plan(
        needs=[DATA / s / "wav.scp" for s in names],
        inputs=[p for s in names for p in sorted((DATA / s).glob("*")) if p.is_file()],
        makes=[DUMP / s / "wav.scp" for s in names],
        settings={**dataclasses.asdict(ctx.recipe.format), "units": _units(ctx)},
        # Speed copies are written; otherwise only what has to be cut or resampled.
        disk_mb=5 + prepare.disk_mb * sum(x != 1.0 for x in ctx.recipe.format.speeds),
    )


def _units(ctx: Context) -> str | None:
    """What an utterance needs at least one CTC frame for: exact for characters, else a bound."""
    if ctx.recipe.tokens is None:
        return None
    return "char" if ctx.recipe.tokens.type == "char" else "word"


def run(ctx: Context, plan: Plan) -> None:
    """Format every set; tell what was dropped and why."""
    from collections import Counter

    from espnet_ext.data.format import FormatOptions, format_dir
    from espnet_ext.recipe.executor import make_executor

    f = ctx.recipe.format
    with make_executor(ctx.options) as executor:
        for name in sets(ctx):
            training = name == ctx.recipe.data.train
            options = FormatOptions(
                fs=f.fs,
                # A test set is never made easier by leaving utterances out.
                min_s=f.min_s if training else 0.0,
                max_s=f.max_s if training else float("inf"),
                speeds=tuple(f.speeds) if training else (1.0,),
                audio_format=f.audio_format,
                ctc_units=_units(ctx) if training else None,
                ctc_stride=f.ctc_stride,
            )
            report = format_dir(
                DATA / name,
                DUMP / name,
                options,
                n_jobs_map=executor.map,
                progress=Progress(f"format {name}"),
                allow_pipes=f.allow_pipes,
            )
            why = Counter(reason for _, reason, _ in report.dropped)
            lost = ", ".join(f"{n} {reason}" for reason, n in sorted(why.items()))
            listed = f" (list: {DUMP / name / 'dropped.tsv'})" if lost else ""
            say(
                f"  {name}: {report.read} read, {report.written} written, "
                f"{len(report.dropped)} dropped{': ' + lost if lost else ''}{listed}"
            )
