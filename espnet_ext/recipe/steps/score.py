# SPDX-License-Identifier: Apache-2.0
"""Stage 9: error rates of each decoded set, the run record, RESULTS.md."""

import dataclasses
import datetime
import json
import shlex
from pathlib import Path

from espnet_ext.data.tables import read_table
from espnet_ext.errors import UsageError, nearest
from espnet_ext.files import sha256_file, sha256_json, write_json, write_text
from espnet_ext.plugin import load_object
from espnet_ext.recipe.console import say
from espnet_ext.recipe.options import without
from espnet_ext.recipe.stages import PHASES, Context, Plan, find
from espnet_ext.recipe.steps.decode import label, out_dir, sets_of
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.train import init_params, why_off

METRICS = ("wer", "cer")
NOT_IN_COMMAND = {"stage", "stop-stage", "force", "debug"}


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    for metric in ctx.recipe.score.metrics:
        if metric not in METRICS and ":" not in metric:
            how = nearest(metric, METRICS)
            raise UsageError(f"there is no metric '{metric}'", "score.metrics", how)
    hyps = [out_dir(ctx, s) / f for s in sets_of(ctx) for f in ("text", "decode.json")]
    refs = [DATA / s / "text" for s in sets_of(ctx)]
    return Plan(
        needs=[*hyps, *refs],
        makes=[ctx.exp / "scores.json", record_path(ctx), Path("RESULTS.md")],
        settings={
            "metrics": ctx.recipe.score.metrics,
            "baseline": ctx.recipe.results.baseline,
            "group": ctx.recipe.group,
        },
        disk_mb=1,
    )


def record_path(ctx: Context) -> Path:
    """Return the path of the run record, which git keeps."""
    return Path("results") / f"{ctx.recipe.name}.json"


def run(ctx: Context, plan: Plan) -> None:
    """Score against the original references, so that no preparation step can ease the test."""
    from espnet_ext.scoring.results import write_results

    method = label(ctx.recipe.decode)
    sets = {name: {method: _score_set(ctx, name)} for name in sets_of(ctx)}
    record = {**base_record(ctx), "sets": sets}
    before = _read(record_path(ctx))
    if before.get("config_sha256") == record["config_sha256"]:  # decoded by another method, too
        for name, methods in before.get("sets", {}).items():
            record["sets"][name] = {**methods, **record["sets"].get(name, {})}
    write_json(ctx.exp / "scores.json", record)
    write_json(record_path(ctx), record)
    page = write_results(Path.cwd())
    say(f"  results: {Path(page).resolve().relative_to(Path.cwd())}")
    for line in summary(ctx):
        say(f"  {line}")


def summary(ctx: Context) -> list[str]:
    """Return a line with the error rates of each set and method; empty before scoring."""
    return [
        f"{name}: " + "  ".join(f"{m.upper()} {scored[m]['rate']:.2f} %" for m in METRICS)
        + f"  ({method}, {scored['utterances']} utterances)"
        for name, methods in _read(ctx.exp / "scores.json").get("sets", {}).items()
        for method, scored in methods.items()
    ]  # fmt: skip


def _score_set(ctx: Context, name: str) -> dict:
    from espnet_ext.scoring.edits import alignment_lines, score_sets

    ref_file, out = DATA / name / "text", out_dir(ctx, name)
    refs, hyps = read_table(ref_file), read_table(out / "text")
    words, chars = score_sets(refs, hyps, "word"), score_sets(refs, hyps, "char")
    lines = [x for u in words.utt_ids for x in (u, *alignment_lines(refs[u], hyps[u]), "")]
    write_text(out / "errors.txt", "\n".join(lines))
    cost = json.loads((out / "decode.json").read_text(encoding="utf-8"))
    scored = {
        "utterances": len(refs),
        "ref_sha256": sha256_file(ref_file),
        "hyp_sha256": sha256_file(out / "text"),
        "decode_wall_s": cost["wall_s"],
        "audio_s": cost["audio_s"],
        "rtf": cost["rtf"],
        "command": command(ctx),
        "wer": words.totals(),
        "cer": chars.totals(),
        "per_utt": {
            "ids_sha256": words.ids_sha256,
            "word_errors": words.errors.tolist(),
            "word_ref": words.ref_len.tolist(),
        },
    }
    for metric in ctx.recipe.score.metrics:
        if metric not in METRICS:
            scored[metric.rpartition(":")[2]] = load_object(metric, "score.metrics")(ctx, name)
    return scored


def base_record(ctx: Context) -> dict:
    """Return a run record without its ``sets``: what was trained, how, where, at what cost."""
    from espnet_ext.recipe.environment import describe_device, git_state, versions
    from espnet_ext.scoring.budget import total_budget

    phases, configs = {}, {}
    for phase, folder in _trained(ctx).items():
        cost = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
        commits = json.loads((folder / "commits.json").read_text(encoding="utf-8"))
        phases[phase] = {**cost, "wall_s": cost["train_wall_s"], "commits": commits}
        configs[phase] = _read(folder / "identity.json")
    state = git_state()
    return {
        "schema": 1,
        "recipe": ctx.recipe.recipe,
        "title": ctx.recipe.title,
        "name": ctx.recipe.name,
        "group": ctx.recipe.group or ctx.recipe.name,
        "seed": ctx.recipe.seed,
        "date": datetime.date.today().isoformat(),
        "commit": state["commit"] or "unknown",
        "dirty": bool(state["dirty"]),
        "command": command(ctx),
        "config_sha256": sha256_json(configs),
        "device": describe_device(),
        "versions": versions(),
        "phases": phases,
        # What two runs must share to be compared; data and reference are checked apart.
        "budget": total_budget(phases.values()),
        "alignment": _alignment(ctx),
    }


def _trained(ctx: Context) -> dict[str, Path]:
    """Return the folders of the phases that made the model, those of other experiments as well.

    A phase may start from a file of another experiment, whose training has its cost, too.
    """
    folders: dict[str, Path] = {}
    for phase in PHASES:
        if not _is_on(ctx, phase):
            continue
        folders[phase] = ctx.phase_dir(phase)
        for text in init_params(dataclasses.replace(ctx, stage=find(phase))):
            folder = Path(text.partition(":")[0]).parent
            folders.setdefault(folder.name, folder)
    return {p: folders[p] for p in PHASES if p in folders and (folders[p] / "phase.json").exists()}


def _is_on(ctx: Context, phase: str) -> bool:
    """Whether the model of this configuration comes from a phase, or one is left from another."""
    if getattr(ctx.recipe, phase) is None:
        return False
    return not why_off(dataclasses.replace(ctx, stage=find(phase)))


def _alignment(ctx: Context) -> dict:
    """Tell where the labels of frames came from; a stronger outside model would leak knowledge."""
    header = DUMP / ctx.recipe.data.train / "align" / "header.json"
    if ctx.recipe.align is None or not header.exists():
        return {}
    about = json.loads(header.read_text(encoding="utf-8"))
    return {k: about[k] for k in ("unit", "num_classes", "source", "source_train_data")}


def command(ctx: Context) -> str:
    """Return the command of the whole experiment: that of this run without its range of stages."""
    return shlex.join(["./run.sh", *without(ctx.options.argv, NOT_IN_COMMAND)])


def _read(path: Path) -> dict:
    from espnet_ext.recipe import records

    return records.read(path) or {}
