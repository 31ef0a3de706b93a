# SPDX-License-Identifier: Apache-2.0
"""Stage 5: the standard training, then what it has learnt, on its development set.

``exp/<name>/pretrain/measure`` gets ``measure.json`` and a table for each metric of stage 1, and
``exp/<name>/pretrain/pictures`` reconstructions of three clips. Stage 9 puts the metrics that
recipe.yaml names into the run record.
"""

import dataclasses
import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import SetupError
from espnet_ext.files import atomic_dir, sha256_file, write_json
from espnet_ext.multistage.options import SECTION, resolve
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan, find
from espnet_ext.recipe.steps import launch, train
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.scoring.pretraining import CLIPS, CONDITIONS, error_line, found_line

if TYPE_CHECKING:
    from espnet_ext.multistage.clip_reading import Reader
    from espnet_ext.multistage.measure import Errors, Measured

PHASE = "pretrain"
MEASURE, PICTURES = "measure", "pictures"
LARGEST = 2000  # clips that are measured at most, taken evenly
SHOWN = 3
LISTENS = 1.02  # times the error, where what the model sees is of another clip


def out_dir(ctx: Context) -> Path:
    """Return the folder of the measurement."""
    return ctx.phase_dir(PHASE) / MEASURE


def measured_set(ctx: Context) -> str:
    """Return the set that stage 1 is measured on; empty where this code does not train it."""
    phase = getattr(ctx.recipe, PHASE)
    if phase is None or phase.code != __name__:
        return ""
    if train.why_off(dataclasses.replace(ctx, stage=find(PHASE))):
        return ""
    return phase.valid or ctx.recipe.data.valid


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    plan = train.plan(ctx)
    if plan.off:
        return plan
    return dataclasses.replace(plan, makes=[*plan.makes, out_dir(ctx) / "measure.json"])


def run(ctx: Context, plan: Plan) -> None:
    """Train, then measure and draw."""
    train.run(ctx, plan)
    from espnet_ext.multistage.clip_reading import Reader, load
    from espnet_ext.multistage.measure import measure

    name, model_file = measured_set(ctx), train.model_file(ctx, PHASE)
    start, folder = time.perf_counter(), ctx.phase_dir(PHASE)
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    model = load(folder / "config.yaml", model_file, device)
    conf = resolve(train.training_config(ctx).get(SECTION))
    reader = Reader(_chosen(name), conf, model, device)
    measured = measure(model, reader.batches())
    facts = {"set": name, "clips": len(reader.clips), "short_videos": reader.short}
    facts |= {"model": model_file.name, "model_sha256": sha256_file(model_file)}
    with atomic_dir(out_dir(ctx)) as tmp:
        facts |= _write(tmp, reader, measured)
        facts["wall_s"] = round(time.perf_counter() - start, 3)
        write_json(tmp / "measure.json", facts)
    for line in told(facts):
        say(f"  {name}: {line}")
    if measured.errors:
        _draw(model, reader, folder / PICTURES)


def _chosen(name: str) -> dict[str, tuple[str, str, str]]:
    """Return sound, picture and speaker of the clips that are measured, by id."""
    tables = [
        read_table(path) if (path := DUMP / name / file).exists() else {}
        for file in ("wav.scp", "video.scp", "utt2spk")
    ]
    every = list(tables[0])
    step = max(1, -(-len(every) // LARGEST))
    return {u: (tables[0][u], tables[1].get(u, ""), tables[2].get(u, u)) for u in every[::step]}


def _write(out: Path, reader: "Reader", measured: "Measured") -> dict[str, Any]:
    """Write the tables of the metrics; return what they sum up to."""
    clips, facts = list(reader.clips), {}
    write_table(out / CLIPS, {u: u for u in clips})
    for name, errors in measured.errors.items():
        constant = errors.constant()
        rows = zip(clips, errors.predicted, constant, errors.own_mean, strict=True)
        write_table(out / f"mae_{name}", {u: error_line(*values) for u, *values in rows})
        facts[f"mae_{name}"] = _per_token(errors, float(constant.sum()))
    if measured.embeddings:
        facts["retrieval"] = _write_found(out, reader, measured)
    return facts


def _per_token(errors: "Errors", constant: float) -> dict[str, float]:
    tokens = max(1, sum(errors.tokens))
    sums = {"model": sum(errors.predicted), "mean_predictor": constant}
    sums |= {"own_mean_of_each_token": sum(errors.own_mean)}
    facts = {"hidden_tokens": tokens, **{k: round(x / tokens, 6) for k, x in sums.items()}}
    deaf = errors.deafness() * facts["model"]
    return {**facts, "seen_of_another_clip": None if math.isnan(deaf) else round(deaf, 6)}


def _write_found(out: Path, reader: "Reader", measured: "Measured") -> dict[str, Any]:
    from espnet_ext.multistage.clip_retrieval import retrieve

    clips, vectors = list(reader.clips), measured.embeddings
    speakers = [speaker for *_, speaker in reader.clips.values()]
    found, in_time = retrieve(
        vectors["audio"], vectors["video"], vectors["late"], speakers, reader.seconds
    )
    facts: dict[str, Any] = {}
    for way, one in found.items():
        lines = {
            u: found_line(
                [clips[one.nearest[c][i]] for c in CONDITIONS],
                clips[one.late[i]],
                bool(in_time[i]),
                [int(one.among[c][i]) for c in CONDITIONS],
            )
            for i, u in enumerate(clips)
        }
        write_table(out / way, lines)
        facts[way] = {c: {"top1": one.top1(c), "chance": one.chance(c)} for c in CONDITIONS}
        facts[way]["late_top1"] = one.late_top1()
    return {**facts, "nearer_than_late": float(in_time.mean())}


def told(facts: dict[str, Any]) -> list[str]:
    """Return the measurement in lines."""
    lines = []
    for name in ("audio", "video"):
        if found := facts.get(f"mae_{name}"):
            share = 100 * found["model"] / max(1e-9, found["mean_predictor"])
            lines.append(
                f"MAE {name} {found['model']:.3f}, mean predictor {found['mean_predictor']:.3f} "
                f"({share:.1f} %)"
            )
            deaf = found["seen_of_another_clip"]
            if deaf is not None and deaf < LISTENS * found["model"]:
                lines.append(
                    f"WARNING: with what is seen of another clip the error of hidden {name} is "
                    f"{deaf:.3f}, hardly more: the clips are alike, or the model does not look at "
                    "them and must train longer (pretrain.args.max_epoch) or at another rate"
                )
    retrieval = facts.get("retrieval", {})
    for way in ("audio_to_video", "video_to_audio"):
        if found := retrieval.get(way):
            shares = [
                f"{c.replace('_', ' and ')} {100 * found[c]['top1']:.1f} % "
                f"(chance {100 * found[c]['chance']:.1f} %)"
                for c in CONDITIONS
            ]
            late = f"pictures 0.5 s late {100 * found['late_top1']:.1f} %"
            lines.append(f"{way.replace('_', ' ')}: {', '.join([*shares, late])}")
    if retrieval:
        share = 100 * retrieval["nearer_than_late"]
        lines.append(f"nearer to the picture than to the late one {share:.1f} % (chance 50 %)")
    if facts["short_videos"]:
        lines.append(f"{facts['short_videos']} clips have too few pictures: the last is repeated")
    return lines


def _draw(model: Any, reader: "Reader", out: Path) -> None:
    """Draw clips spread over the set; without matplotlib say so, for the figures stand."""
    from espnet_ext.multistage.pictures import draw

    clips = list(reader.clips)
    chosen = [clips[round(i * (len(clips) - 1) / (SHOWN - 1))] for i in range(SHOWN)]
    shutil.rmtree(out, ignore_errors=True)
    try:
        for utt in dict.fromkeys(chosen):
            draw(out / f"{utt}.png", utt, model, reader.read([utt]))
    except SetupError as e:
        say(f"  no pictures of reconstructions: {e.what} ({e.how})")
        return
    say(f"  reconstructions: {out}")
