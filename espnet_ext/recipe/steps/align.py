# SPDX-License-Identifier: Apache-2.0
"""Stage 3: forced alignment of the training audio, by ``espnet_ext.align`` or by ``align.run``."""

import dataclasses
from pathlib import Path

from espnet_ext.align.models import folder
from espnet_ext.align.options import AlignOptions, from_dict
from espnet_ext.errors import EspnetExtError
from espnet_ext.plugin import load_object
from espnet_ext.recipe.console import say
from espnet_ext.recipe.schema import Stream
from espnet_ext.recipe.stages import Context, Plan, find
from espnet_ext.recipe.steps import train
from espnet_ext.recipe.steps.format import DUMP

FOLDER = "align"
ALIGNED = DUMP / FOLDER


def sets(ctx: Context) -> list[str]:
    """Return the sets to align, the training set first."""
    data, given = ctx.recipe.data, ctx.recipe.align.get("sets") or []
    others = [name for name in given or [data.valid] if name != data.train]
    return [data.train, *others]


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    if not _is_read(ctx):
        return Plan(off="no training of this configuration reads its labels")
    if ctx.recipe.align.get("run"):
        train = DUMP / ctx.recipe.data.train
        return Plan(
            needs=[train / "wav.scp", train / "text"],
            makes=[ALIGNED],
            settings=ctx.recipe.align,
            disk_mb=50,
        )
    o = _options(ctx)  # a wrong key is told before time is spent
    tables = ("wav.scp", o.text, "utt2num_samples", "utt2spk")
    needs = [DUMP / s / file for s in sets(ctx) for file in tables]
    made = [DUMP / s / "align" / "targets.scp" for s in sets(ctx)]
    given = ctx.recipe.align.get("alignments") or {}
    if given:
        for d in map(Path, given.values()):
            needs += [d / "header.json", d / "labels.scp"]
            needs += [f for n in ("frame_phones.scp", "frame_words.scp") if (f := d / n).is_file()]
    elif o.lexicon:
        needs.append(Path(o.lexicon))
    if o.model:
        needs.append(folder(o.model))  # training it again may leave model.json as it was
    return Plan(
        needs=needs,
        makes=made if given or o.model else [ALIGNED / "model", *made],
        settings={**ctx.recipe.align, "sets": sets(ctx), "fs": _fs(ctx)},
        disk_mb=50 + 0.5 * (ctx.recipe.prepare.disk_mb if ctx.recipe.prepare else 100),
    )


def run(ctx: Context, plan: Plan) -> None:
    """Train the aligner and write ``dump/<set>/align`` for each set."""
    if ctx.recipe.align.get("run"):
        load_object(ctx.recipe.align["run"], "align.run")(ctx, ALIGNED)
        return
    from espnet_ext.align.stage import align_sets
    from espnet_ext.recipe.executor import make_executor

    train, *others = sets(ctx)
    speeds = ctx.recipe.format.speeds if ctx.recipe.format else [1.0]
    prefixes = {f"sp{s:g}-": s for s in speeds if s != 1.0}

    def original(utt: str) -> tuple[str, float]:
        for prefix, speed in prefixes.items():
            if utt.startswith(prefix):
                return utt[len(prefix) :], speed
        return utt, 1.0

    with make_executor(ctx.options) as executor:
        align_sets(DUMP, train, others, _options(ctx), executor.map, say, original)


def _is_read(ctx: Context) -> bool:
    """Tell whether the labels have a reader; recipes without any align for another purpose."""
    phases = [dataclasses.replace(ctx, stage=find(p)) for p in ctx.recipe.phases]
    if not any(_labels(getattr(c.recipe, c.stage.name).streams) for c in phases):
        return True
    for own in phases:
        try:
            if not train.why_off(own) and _labels(train.read_streams(own)):
                return True
        except EspnetExtError:  # the phase itself tells what is wrong with it
            return True
    return False


def _labels(streams: list[Stream]) -> bool:
    return any(Path(s.file).parts[0] == FOLDER for s in streams)


def _options(ctx: Context) -> AlignOptions:
    return from_dict({**ctx.recipe.align, "fs": _fs(ctx)})


def _fs(ctx: Context) -> int:
    return int(ctx.recipe.align.get("fs") or (ctx.recipe.format.fs if ctx.recipe.format else 16000))
