# SPDX-License-Identifier: Apache-2.0
"""Stage 9: the standard scores of the final model, and those of the phases before.

They are BLEU, or what else is a metric of translations, of those of mid-training, and how well
pre-training reconstructs clips and finds their other side; the page shows those that
``score.metrics`` names.
"""

import dataclasses

from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file
from espnet_ext.multistage.stages import pretrain
from espnet_ext.multistage.stages.decode import METHOD, PHASE, out_dir, split_args
from espnet_ext.recipe import records
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import record, score, train
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.train import model_file
from espnet_ext.scoring.metrics import Metric
from espnet_ext.scoring.score import score_files

TRANSLATION = "translation"  # table of what was translated
FILES = (TRANSLATION, "decode.json")
OF_CLIPS = ("mae_audio", "mae_video", "audio_to_video", "video_to_audio")


def translated_sets(ctx: Context) -> list[str]:
    """Return the translated sets that are to be scored."""
    if ctx.recipe.decode is None or not translation_metrics(ctx):
        return []
    return split_args(ctx)[1]


def translation_metrics(ctx: Context) -> dict[str, Metric]:
    """Return the metrics of translations."""
    return {name: m for name, m in score.metrics_of(ctx).items() if m.hyp_file == TRANSLATION}


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    standard, names = score.plan(ctx), translated_sets(ctx)
    further = [out_dir(ctx, s) / f for s in names for f in FILES]
    further += [DATA / s / "text" for s in names]
    if clips := clip_metrics(ctx):
        further.append(pretrain.out_dir(ctx) / "measure.json")
    return dataclasses.replace(
        standard,
        needs=[*standard.needs, *further],
        inputs=[*(standard.inputs or standard.needs), *further],
        settings={
            **standard.settings,
            **({"translated": names} if names else {}),
            **({"clips": list(clips)} if clips else {}),
        },
    )


def run(ctx: Context, plan: Plan) -> None:
    """Score both, then write the record and the page.

    Raises:
        DataError: A set was translated by another model than that of mid-training.
    """
    sets, metrics = score.scored_sets(ctx), translation_metrics(ctx)
    for name in translated_sets(ctx):
        about = records.read(out_dir(ctx, name) / "decode.json") or {}
        model = model_file(ctx, PHASE)
        if model.exists() and about.get("model_sha256") != sha256_file(model):
            what = f"the translations of {name} are of another model than {model}"
            raise DataError(what, out_dir(ctx, name), "./run.sh --stage decode")
        sets.setdefault(name, {})[METHOD] = score.score_set(ctx, metrics, METHOD, name)
    if clips := clip_metrics(ctx):
        name, scored = _score_clips(ctx, clips)
        sets.setdefault(name, {})[pretrain.PHASE] = scored
    score.finish(ctx, sets)


def clip_metrics(ctx: Context) -> dict[str, Metric]:
    """Return the metrics of stage 1 that are to be scored; none where it was not measured."""
    named = {name: m for name, m in score.metrics_of(ctx).items() if name in OF_CLIPS}
    return named if pretrain.measured_set(ctx) else {}


def _score_clips(ctx: Context, metrics: dict[str, Metric]) -> tuple[str, dict]:
    """Return the development set of stage 1 and its part of the record.

    Raises:
        DataError: It was measured with another model than the present one.
    """
    folder, model = pretrain.out_dir(ctx), train.model_file(ctx, pretrain.PHASE)
    about = records.read(folder / "measure.json") or {}
    if model.exists() and about.get("model_sha256") != sha256_file(model):
        what = f"the measurement of {pretrain.PHASE} is of another model than {model}"
        raise DataError(what, folder, "./run.sh --stage pretrain --stop-stage pretrain --force")
    scored = score_files(metrics, folder, folder)
    command = record.command(ctx)
    return about["set"], {**scored, "decode_wall_s": about["wall_s"], "command": command}


def summary(ctx: Context) -> list[str]:
    """Return a line with the metrics of each set and method; empty before scoring."""
    return score.summary(ctx)
