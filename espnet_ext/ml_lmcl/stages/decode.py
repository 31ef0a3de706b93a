# SPDX-License-Identifier: Apache-2.0
"""Stage 8 of a text recipe: classify the transcripts of each set with the final model."""

import dataclasses
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError, nearest
from espnet_ext.files import atomic_dir, sha256_file, write_json, write_text
from espnet_ext.ml_lmcl.options import INFERENCE_MODELS
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import launch
from espnet_ext.recipe.steps.decode import last_phase, sets_of
from espnet_ext.recipe.steps.format import DUMP
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.train import model_file
from espnet_ext.settings import build

if TYPE_CHECKING:
    from espnet_ext.ml_lmcl.classifier import IntentClassifier, Prediction

TEXTS = ("asr", "manual")


@dataclasses.dataclass(frozen=True)
class DecodeArgs:
    """``decode.args`` of recipe.yaml.

    Attributes:
        inference_model: ``asr``, ``clean``, ``average``, or ``all`` that the model has.
        input: Transcripts to classify, ``asr`` or ``manual``.
        batch_size: Utterances classified at once.
        vectors: Sets whose representations are written for plots; default: the test sets that
            are no copy (named ``<set>_...``) of another test set.
    """

    inference_model: str = "asr"
    input: str = "asr"
    batch_size: int = 64
    vectors: list[str] | None = None


def decode_args(ctx: Context) -> DecodeArgs:
    """Return the checked settings.

    Raises:
        UsageError: A key or value is not possible.
    """
    args = build(DecodeArgs, ctx.recipe.decode.args, "recipe.yaml", "decode.args")
    for key, allowed in (("inference_model", (*INFERENCE_MODELS, "all")), ("input", TEXTS)):
        if (value := getattr(args, key)) not in allowed:
            how = nearest(value, allowed)
            raise UsageError(f"{key} cannot be '{value}'", f"decode.args.{key}", how)
    if args.batch_size < 1:
        raise UsageError("batch_size must be at least 1", "decode.args.batch_size")
    for name in args.vectors or ():
        if name not in sets_of(ctx):
            how = nearest(name, sets_of(ctx))
            raise UsageError(f"there is no set '{name}'", "decode.args.vectors", how)
    return args


def models_of(ctx: Context) -> tuple[str, ...]:
    """Return the inference models to decode with; for ``all``, those that training makes.

    Raises:
        UsageError: The model is trained without what the inference model needs.
    """
    from espnet_ext.ml_lmcl.options import resolve
    from espnet_ext.recipe.stages import find
    from espnet_ext.recipe.steps.train import training_config

    asked = decode_args(ctx).inference_model
    phase = dataclasses.replace(ctx, stage=find(last_phase(ctx)))
    both = len(resolve(training_config(phase).get("ml_lmcl")).model_names) > 1
    if asked == "all":
        return INFERENCE_MODELS if both else ("asr",)
    if asked != "asr" and not both:
        what = f"the model has one classifier only, called asr, not {asked}"
        raise UsageError(what, "decode.args.inference_model", "asr")
    return (asked,)


def out_dir(ctx: Context, which: str, name: str) -> Path:
    """Return the folder of a set's predictions by an inference model."""
    suffix = "" if decode_args(ctx).input == "asr" else "_manual_text"
    return ctx.exp / "decode" / f"{which}{suffix}" / name


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    args, phase = decode_args(ctx), last_phase(ctx)
    files = [out_dir(ctx, w, s) / f for w in models_of(ctx) for s in sets_of(ctx)
             for f in ("prediction", "posterior.tsv", "decode.json")]  # fmt: skip
    vectors = [out_dir(ctx, w, s) / "vectors.npz" for w in models_of(ctx) for s in _vectors(ctx)]
    texts = {s: [f"text_{args.input}"] for s in sets_of(ctx)}
    texts |= {s: ["text_asr", "text_manual"] for s in _vectors(ctx)}
    return Plan(
        needs=[
            model_file(ctx, phase),
            ctx.phase_dir(phase) / "config.yaml",
            *(DUMP / s / f for s in sets_of(ctx) for f in texts[s]),
        ],
        makes=[*files, *vectors],
        settings=dataclasses.asdict(args),
        disk_mb=5 + 50 * len(vectors),
        stock=[_command(ctx, w, s) for w in models_of(ctx) for s in sets_of(ctx)],
    )


def _vectors(ctx: Context) -> list[str]:
    asked, tests = decode_args(ctx).vectors, ctx.recipe.data.test
    if asked is not None:
        return list(asked)
    copies = {t for t in tests for other in tests if t.startswith(f"{other}_")}
    return [t for t in tests if t not in copies and t in sets_of(ctx)]


def _command(ctx: Context, which: str, name: str) -> str:
    table = DATA / name / f"text_{decode_args(ctx).input}"
    argv = ["espnet-ext", "decode", "--model", str(ctx.phase_dir(last_phase(ctx)))]
    return shlex.join([*argv, "--inference-model", which, "--table", str(table)])


def run(ctx: Context, plan: Plan) -> None:
    """Write predictions, posteriors and cost of each set; count in = count out."""
    from espnet_ext.ml_lmcl.classifier import IntentClassifier
    from espnet_ext.ml_lmcl.load import load_classifier

    args, phase = decode_args(ctx), last_phase(ctx)
    config, model = ctx.phase_dir(phase) / "config.yaml", model_file(ctx, phase)
    device = "cuda" if launch.gpus(ctx.options) else "cpu"
    loaded = load_classifier(config, model, device=device)
    for which in models_of(ctx):
        classify = IntentClassifier(*loaded, device, which, args.batch_size)
        for name in sets_of(ctx):
            with atomic_dir(out_dir(ctx, which, name)) as tmp:
                _decode_set(ctx, classify, name, tmp)


def _decode_set(ctx: Context, classify: "IntentClassifier", name: str, out: Path) -> None:
    texts = read_table(DUMP / name / f"text_{decode_args(ctx).input}")
    start = time.perf_counter()
    found = dict(zip(texts, classify(list(texts.values())), strict=True))
    wall_s = time.perf_counter() - start
    write_table(out / "prediction", {utt: str(p) for utt, p in found.items()})
    rows = [
        f"{utt}\t{head}\t{found[utt].posteriors[head][0][1]:.6f}\n"
        for utt in sorted(found, key=str.encode)
        for head in classify.heads
    ]
    write_text(out / "posterior.tsv", "".join(rows))
    rate = len(found) / max(wall_s, 1e-9)
    cost = {"wall_s": round(wall_s, 3), "utterances": len(found), "per_s": round(rate, 2)}
    cost["model_sha256"] = sha256_file(model_file(ctx, last_phase(ctx)))
    doubt = _doubt(classify, found)
    write_json(out / "decode.json", {**cost, doubts.KEY: doubt})
    if name in _vectors(ctx):
        _write_vectors(classify, name, out / "vectors.npz")
    which = classify.inference_model
    say(f"  {name}: {len(found)} sentences by {which}, {rate:.0f} a second on {classify.device}")
    if doubt:
        say(f"  WARNING: {name} by {which}: {doubt}")


def _doubt(classify: "IntentClassifier", found: dict[str, "Prediction"]) -> str:
    """Return which heads give all utterances the same class; empty if none does."""
    told = [
        doubts.of_classes((p.labels[head] for p in found.values()), head, len(known))
        for head, known in classify.heads.items()
    ]
    return "; ".join(filter(None, told))


def _write_vectors(classify: "IntentClassifier", name: str, path: Path) -> None:
    """Write arrays ``manual`` and ``asr`` ``(N, D)`` float32 and ``utts`` ``(N,)``."""
    import numpy as np

    manual, asr = (read_table(DUMP / name / f"text_{kind}") for kind in ("manual", "asr"))
    if manual.keys() != asr.keys():
        lost = sorted(manual.keys() ^ asr.keys())
        how = "./run.sh --stage prepare --force"
        raise DataError(f"{len(lost)} utterances have one transcript only", lost[:5], how)
    utts = sorted(manual, key=str.encode)
    arrays = {k: classify.represent([t[u] for u in utts]) for k, t in
              (("manual", manual), ("asr", asr))}  # fmt: skip
    np.savez_compressed(path, utts=np.array(utts), **arrays)
