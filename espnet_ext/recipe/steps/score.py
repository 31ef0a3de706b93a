# SPDX-License-Identifier: Apache-2.0
"""Stage 9: the metrics of each decoded set, the run record, RESULTS.md."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from espnet_ext.data.transcripts import read_texts
from espnet_ext.errors import SetupError, UsageError
from espnet_ext.files import write_text
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.decode import label, sets_of
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.record import (
    base_record,
    config_sha256,
    decoding_command,
    decodings,
    read_scores,
    record_path,
    write_page,
    write_record,
)
from espnet_ext.scoring.metrics import Metric, load, own_files


def metrics_of(ctx: Context) -> dict[str, Metric]:
    """Return the metrics that recipe.yaml names.

    Raises:
        UsageError: There is none, or no such one.
    """
    if not ctx.recipe.score.metrics:
        raise UsageError("there is nothing to score by", "score.metrics", "for example [wer, cer]")
    return load(ctx.recipe.score.metrics)


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    if ctx.recipe.decode is None:
        raise UsageError("there is nothing to score: recipe.yaml has no section 'decode'", "score")
    metrics, method = metrics_of(ctx), label(ctx.recipe.decode)
    found = _tables(ctx, [m for m in metrics.values() if m.optional])
    needs = _tables(ctx, [m for m in metrics.values() if not m.optional])
    needs += [ctx.exp / "decode" / method / s / "decode.json" for s in sets_of(ctx)]
    return Plan(
        needs=needs,
        makes=[ctx.exp / "scores.json", record_path(ctx), Path("RESULTS.md")],
        inputs=[*needs, *found, *own_files(ctx.recipe.score.metrics)],
        settings={
            "metrics": ctx.recipe.score.metrics,
            "planned": ctx.recipe.results.planned,
            **({"compare": ctx.recipe.results.compare} if ctx.recipe.results.compare else {}),
            "group": ctx.recipe.group,
            "trained": config_sha256(ctx),
        },
        disk_mb=1,
    )


def _tables(ctx: Context, metrics: Iterable[Metric]) -> list[Path]:
    """Return the references and hypotheses of metrics for each set."""
    method, metrics = label(ctx.recipe.decode), list(metrics)
    hyps = {m.hyp_file for m in metrics}
    refs = {f for m in metrics for f in (m.ref_file, *([m.ref_else] if m.ref_else else []))}
    out = ctx.exp / "decode" / method
    return [
        *(out / s / f for s in sets_of(ctx) for f in sorted(hyps)),
        *(DATA / s / f for s in sets_of(ctx) for f in sorted(refs)),
    ]


def run(ctx: Context, plan: Plan) -> None:
    """Score against the original references, so that no preparation step can ease the test."""
    finish(ctx, scored_sets(ctx))


def scored_sets(ctx: Context) -> dict[str, dict[str, dict]]:
    """Score all that the final model has decoded; return the part of the record, by set, method."""
    metrics, asked = metrics_of(ctx), {label(ctx.recipe.decode): sets_of(ctx)}
    folders = ctx.exp / "decode"
    also = [p.name for p in sorted(folders.iterdir()) if p.is_dir()] if folders.is_dir() else []
    hyp_file = next(iter(metrics.values())).hyp_file
    sets: dict[str, dict[str, dict]] = {}
    for method, names in decodings(ctx, asked, also, hyp_file).items():
        for name in names:
            sets.setdefault(name, {})[method] = score_set(ctx, metrics, method, name)
    return sets


def finish(ctx: Context, sets: dict[str, dict[str, dict]]) -> None:
    """Write the run record and the page."""
    write_record(ctx, {**base_record(ctx), "sets": sets})
    say(f"  results: {write_page().relative_to(Path.cwd())}")
    for line in summary(ctx):
        say(f"  {line}")


def summary(ctx: Context) -> list[str]:
    """Return a line with the metrics of each set and method; empty before scoring."""
    lines, order = [], [*load(ctx.recipe.score.metrics)] if ctx.recipe.score else []
    for name, methods in read_scores(ctx).items():
        for method, scored in methods.items():
            # An older release wrote no such section.
            found = scored.get("metrics", {})
            shown = sorted(found, key=lambda m: order.index(m) if m in order else len(order))
            parts = [f"{found[m]['title']} {found[m]['value']:.2f} %" for m in shown]
            lines.append(
                f"{name}: {'  '.join(parts)}  ({method}, {scored['utterances']} utterances)"
            )
    return lines + doubts.warnings(ctx)


def score_set(ctx: Context, metrics: dict[str, Metric], method: str, name: str) -> dict:
    """Score one decoded set; return its part of the record."""
    from espnet_ext.scoring.score import score_files

    refs, out = DATA / name, ctx.exp / "decode" / method / name
    scored = score_files(metrics, refs, out)
    if any((m.ref_file, m.hyp_file) == ("text", "text") for m in metrics.values()):
        _write_errors(out / "errors.txt", read_texts(refs / "text"), read_texts(out / "text"))
    _write_files(metrics, refs, out)
    cost = json.loads((out / "decode.json").read_text(encoding="utf-8"))
    return {
        **scored,
        "decode_wall_s": cost["wall_s"],
        **{key: cost[key] for key in ("audio_s", "rtf") if key in cost},
        "command": decoding_command(ctx, method, name, scored["hyp_sha256"]),
    }


def _write_files(metrics: Mapping[str, Metric], refs: Path, out: Path) -> None:
    """Write what the metrics have for a person; without matplotlib say so, for the scores stand."""
    for metric in (m for m in metrics.values() if m.files is not None):
        tables = read_texts(metric.references(refs)), read_texts(out / metric.hyp_file)
        try:
            metric.files(*tables, out)
        except SetupError as e:
            say(f"  no picture for {metric.title}: {e.what} ({e.how})")


def _write_errors(path: Path, refs: dict[str, str], hyps: dict[str, str]) -> None:
    """Write each utterance's alignment, for a person."""
    from espnet_ext.scoring.edits import alignment_lines

    utts = sorted(refs, key=str.encode)
    lines = [x for u in utts for x in (u, *alignment_lines(refs[u], hyps[u]), "")]
    write_text(path, "\n".join(lines))
