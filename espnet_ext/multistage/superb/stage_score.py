# SPDX-License-Identifier: Apache-2.0
"""Stage 9: accuracy, phone and diarisation error rates of the probes, run record, RESULTS.md."""

import dataclasses
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.files import sha256_json
from espnet_ext.multistage.superb.stage_probe import (
    FILES,
    LIST,
    METHOD,
    inputs_of,
    is_done,
    out_dir,
    probe_args,
    settings_of,
    tasks_of,
)
from espnet_ext.recipe import records
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import score
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.record import (
    base_record,
    decoding_command,
    record_path,
    write_page,
    write_record,
)
from espnet_ext.scoring.score import score_files


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    tasks = tasks_of(ctx)
    made = [out_dir(ctx, t) / f for t in tasks for f in (FILES[t], "decode.json")]
    needs = [LIST, *made]
    labels = [p for t in tasks for p in inputs_of(ctx, t) if p.name in ("text", "rttm")]
    return Plan(
        needs=needs,
        inputs=[*needs, *labels],
        makes=[ctx.exp / "scores.json", record_path(ctx), Path("RESULTS.md")],
        settings={"metrics": ctx.recipe.score.metrics, "planned": ctx.recipe.results.planned,
                  "group": ctx.recipe.group, "tasks": tasks},
        disk_mb=1,
    )  # fmt: skip


def run(ctx: Context, plan: Plan) -> None:
    """Score each probe against the labels of its test set; write the record and the page.

    Raises:
        DataError: A probe is of another model, of other settings or data.
    """
    metrics, sets, probed = score.metrics_of(ctx), {}, {}
    for task in tasks_of(ctx):
        out = out_dir(ctx, task)
        if not is_done(ctx, task):
            what = f"the probe of {task} is of another model, or of other settings or data"
            raise DataError(what, out, "./run.sh --stage decode")
        about = records.read(out / "decode.json") or {}
        # The references of diarisation are compared while probing: it needs the times of frames.
        scored = score_files(metrics, out if task == "sd" else DATA / f"{task}_test", out)
        command = decoding_command(ctx, METHOD, out.name, scored["hyp_sha256"])
        sets[out.name] = {METHOD: {**scored, "decode_wall_s": about["wall_s"], "command": command}}
        probed[task] = {k: v for k, v in about.items() if k not in ("identity", "files", "curve")}
    write_record(ctx, {**base_record(ctx), **_trained(ctx, probed), "sets": sets})
    say(f"  results: {write_page().relative_to(Path.cwd())}")
    for line in score.summary(ctx):
        say(f"  {line}")


def _trained(ctx: Context, probed: dict[str, dict]) -> dict[str, Any]:
    """Return what of a record is of the heads, as the recipe itself trains no model."""
    settings = {task: dataclasses.asdict(settings_of(ctx, task)) for task in probed}
    models = sorted({about["model_sha256"] for about in probed.values()})
    return {
        "config_sha256": sha256_json([models, settings, ctx.recipe.seed]),
        "budget": {"updates": sum(s["updates"] for s in settings.values())},
        "model": probe_args(ctx).model,
        "probes": probed,
    }


def summary(ctx: Context) -> list[str]:
    """Return a line with the score of each task; empty before scoring."""
    return score.summary(ctx)
