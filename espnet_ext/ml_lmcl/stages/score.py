# SPDX-License-Identifier: Apache-2.0
"""Stage 9 of a text recipe: accuracy of each decoded set, pictures, run record, RESULTS.md."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import sha256_file, write_text
from espnet_ext.ml_lmcl.options import INFERENCE_MODELS
from espnet_ext.ml_lmcl.stages.decode import decode_args, models_of
from espnet_ext.ml_lmcl.stages.format import LABELS, format_args, read_labels
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.decode import sets_of
from espnet_ext.recipe.steps.format import DUMP
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
from espnet_ext.settings import build

MANUAL = "_manual_text"  # ends the folder's name where manual transcripts were classified
FILES = ("prediction", "decode.json")
ENCODER = DUMP / "text_encoder"


@dataclass(frozen=True)
class ScoreArgs:
    """``score.args`` of recipe.yaml.

    Attributes:
        plots: Draw confusion matrices and pairs of representations of the test sets.
    """

    plots: bool = True


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args = build(ScoreArgs, ctx.recipe.score.args, "recipe.yaml", "score.args")
    refs = [DATA / s / f for s in sets_of(ctx) for f in ("label", "text_manual", "text_asr")]
    labels = [LABELS / f"{head}.txt" for head in format_args(ctx).heads]
    decoded = [_folder(ctx, m, s) / f for m, sets in _decoded(ctx).items() for s in sets
               for f in FILES]  # fmt: skip
    needs = [*decoded, *refs, *labels, *(DUMP / s / "asr_errors" for s in sets_of(ctx))]
    return Plan(
        needs=needs,
        inputs=[*needs, *own_files(ctx.recipe.score.metrics)],
        makes=[ctx.exp / "scores.json", record_path(ctx), Path("RESULTS.md")],
        settings={
            **asdict(args),
            "heads": format_args(ctx).heads,
            "planned": ctx.recipe.results.planned,
            "group": ctx.recipe.group,
            "metrics": [*_metrics(ctx)],
            "trained": config_sha256(ctx),
        },
        disk_mb=5,
    )


def run(ctx: Context, plan: Plan) -> None:
    """Score against the original labels, so that no preparation step can ease the test."""
    sets: dict[str, dict[str, Any]] = {}
    metrics = _metrics(ctx)
    for method, names in _decoded(ctx).items():
        for name in names:
            sets.setdefault(name, {})[method] = _score_set(ctx, metrics, method, name)
    write_record(ctx, {**base_record(ctx), "encoder": _encoder(), "sets": sets})
    if plan.settings["plots"]:
        _draw(ctx)
    say(f"  results: {write_page().relative_to(Path.cwd())}")
    for line in summary(ctx):
        say(f"  {line}")


def summary(ctx: Context) -> list[str]:
    """Return a line with the accuracy of each set and inference model; empty before scoring."""
    from espnet_ext.scoring.intent import wilson_interval

    lines = []
    for name, methods in read_scores(ctx).items():
        for method, scored in methods.items():
            if "metrics" not in scored:
                continue  # of an older release
            parts = [f"{m['title'].lower()} {m['value']:.2f} %" for m in scored["metrics"].values()]
            accuracy = scored["metrics"]["accuracy"]["totals"]
            low, high = wilson_interval(accuracy["correct"], accuracy["utterances"])
            lines.append(
                f"{name}: {', '.join(parts)} (95 % interval of the accuracy {low:.2f} to "
                f"{high:.2f}; input WER {scored['intent']['input_wer']['rate']:.1f} %, {method}, "
                f"{scored['utterances']} utterances)"
            )
    return lines + doubts.warnings(ctx)


def _metrics(ctx: Context) -> dict[str, Metric]:
    """Return accuracy, and what recipe.yaml names beside it; its default is for recognition."""
    further = [m for m in ctx.recipe.score.metrics if m not in ("accuracy", "wer", "cer")]
    return load(["accuracy", *further])


def _encoder() -> dict[str, int | str]:
    """Tell which encoder training started from: a stronger one is a gain of its own."""
    about, weights = (ENCODER / name for name in ("about.json", "model.safetensors"))
    if not about.exists():
        return {}
    found = json.loads(about.read_text(encoding="utf-8"))
    out = {"source": found["source"] or "own, random weights", "sub-words": found["vocab_size"]}
    out |= {key: found[key] for key in ("name", "layers", "layers_of") if found.get(key)}
    if found.get("random_head"):
        out["masked-LM head"] = "random"
    if weights.exists():
        out["weights"] = sha256_file(weights)[:12]
    return out


def _folder(ctx: Context, method: str, name: str) -> Path:
    return ctx.exp / "decode" / method / name


def _decoded(ctx: Context) -> dict[str, list[str]]:
    """Return the sets to score by method: asked for, or by another inference model of this run."""
    suffix = "" if decode_args(ctx).input == "asr" else MANUAL
    asked = {f"{which}{suffix}": sets_of(ctx) for which in models_of(ctx)}
    also = [f"{which}{s}" for s in ("", MANUAL) for which in INFERENCE_MODELS]
    return decodings(ctx, asked, also, "prediction")


def _score_set(ctx: Context, metrics: dict[str, Metric], method: str, name: str) -> dict[str, Any]:
    from espnet_ext.scoring.intent import score_intents
    from espnet_ext.scoring.score import score_files

    heads, out = format_args(ctx).heads, _folder(ctx, method, name)
    labels = read_labels(DATA / name / "label", heads)
    found = _predictions(out)
    kind = "manual" if method.endswith(MANUAL) else "asr"
    errors = _asr_errors(DUMP / name / "asr_errors")
    if kind == "manual":  # this text has no recognition errors
        errors = {utt: (0, words) for utt, (_, words) in errors.items()}
    try:
        intent = score_intents(labels, found, heads, errors)
    except DataError as e:
        raise DataError(e.what, f"{out}: {e.where}", e.how or "./run.sh --stage decode") from None
    scored = score_files(metrics, DATA / name, out)
    _write_errors(out / "errors.tsv", name, labels, found)
    cost = json.loads((out / "decode.json").read_text(encoding="utf-8"))
    return {
        **scored,
        "input_sha256": sha256_file(DATA / name / f"text_{kind}"),
        "decode_wall_s": cost["wall_s"],
        "intent": {
            **{key: intent[key] for key in ("heads", "input_wer", "wer_groups")},
            "wer_text": format_args(ctx).wer_text,
        },
        "command": decoding_command(ctx, method, name, scored["hyp_sha256"]),
    }


def _predictions(out: Path) -> dict[str, tuple[str, ...]]:
    return {utt: tuple(v.split()) for utt, v in read_table(out / "prediction").items()}


def _asr_errors(path: Path) -> dict[str, tuple[int, int]]:
    out = {}
    for number, (utt, value) in enumerate(read_table(path).items(), 1):
        counts = value.split()
        if len(counts) != 2 or not all(c.isdecimal() for c in counts):
            how = "./run.sh --stage format --force"
            raise DataError("the line needs 'utterance edits words'", f"{path}:{number}", how)
        out[utt] = (int(counts[0]), int(counts[1]))
    return out


def _write_errors(
    path: Path,
    name: str,
    labels: dict[str, tuple[str, ...]],
    found: dict[str, tuple[str, ...]],
) -> None:
    """Write what went wrong, for a person: label, prediction and both transcripts."""
    manual, asr = (read_table(DATA / name / f"text_{kind}") for kind in ("manual", "asr"))
    rows = [("utterance", "label", "predicted", "manual", "asr")]
    rows += [
        (utt, " ".join(labels[utt]), " ".join(found[utt]), manual.get(utt, ""), asr.get(utt, ""))
        for utt in sorted(labels, key=str.encode)
        if labels[utt] != found[utt]
    ]
    write_text(path, "".join("\t".join(row) + "\n" for row in rows))


def _draw(ctx: Context) -> None:
    """Draw the pictures of the test sets; without matplotlib say so, for the scores stand."""
    try:
        for method, names in _decoded(ctx).items():
            for name in names:
                if name in ctx.recipe.data.test:
                    _draw_set(ctx, method, name)
    except SetupError as e:
        say(f"  no pictures: {e.what} ({e.how})")
        return
    say(f"  pictures: {ctx.exp / 'images'}")


def _draw_set(ctx: Context, method: str, name: str) -> None:
    import numpy as np

    from espnet_ext.scoring.intent_plots import confusion_matrix, representation_pairs

    heads, images = format_args(ctx).heads, ctx.exp / "images"
    labels = read_labels(DATA / name / "label", heads)
    found = _predictions(_folder(ctx, method, name))
    for i, head in enumerate(heads):
        known = (LABELS / f"{head}.txt").read_text(encoding="utf-8").split()
        unseen = sorted({row[i] for row in labels.values()} - set(known), key=str.encode)
        confusion_matrix(
            {utt: row[i] for utt, row in labels.items()},
            {utt: row[i] for utt, row in found.items()},
            [*known, *unseen],
            images / f"confusion_{name}_{method}_{head}.png",
        )
    vectors = _folder(ctx, method, name) / "vectors.npz"
    if vectors.exists():
        with np.load(vectors, allow_pickle=False) as arrays:
            pairs = {key: arrays[key] for key in ("manual", "asr", "utts")}
        representation_pairs(
            pairs["manual"],
            pairs["asr"],
            [labels[str(utt)][0] for utt in pairs["utts"]],
            images / f"pairs_{name}_{method}.png",
        )
