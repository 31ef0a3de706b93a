# SPDX-License-Identifier: Apache-2.0
"""Stage 9: the standard scores of the final model, and BLEU of the translations of mid-training.

The page shows BLEU of each translated set beside the others where ``score.metrics`` names ``bleu``.
"""

import dataclasses

from espnet_ext.errors import DataError
from espnet_ext.files import sha256_file
from espnet_ext.multistage.stages.decode import METHOD, PHASE, out_dir, split_args
from espnet_ext.recipe import records
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import score
from espnet_ext.recipe.steps.prepare import DATA
from espnet_ext.recipe.steps.train import model_file

BLEU = "bleu"
FILES = ("translation", "decode.json")


def translated_sets(ctx: Context) -> list[str]:
    """Return the translated sets that are to be scored."""
    if ctx.recipe.decode is None or BLEU not in score.metrics_of(ctx):
        return []
    return split_args(ctx)[1]


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    standard, names = score.plan(ctx), translated_sets(ctx)
    further = [out_dir(ctx, s) / f for s in names for f in FILES]
    further += [DATA / s / "text" for s in names]
    return dataclasses.replace(
        standard,
        needs=[*standard.needs, *further],
        inputs=[*(standard.inputs or standard.needs), *further],
        settings={**standard.settings, **({"translated": names} if names else {})},
    )


def run(ctx: Context, plan: Plan) -> None:
    """Score both, then write the record and the page.

    Raises:
        DataError: A set was translated by another model than that of mid-training.
    """
    sets = score.scored_sets(ctx)
    metric = {name: m for name, m in score.metrics_of(ctx).items() if name == BLEU}
    for name in translated_sets(ctx):
        about = records.read(out_dir(ctx, name) / "decode.json") or {}
        model = model_file(ctx, PHASE)
        if model.exists() and about.get("model_sha256") != sha256_file(model):
            what = f"the translations of {name} are of another model than {model}"
            raise DataError(what, out_dir(ctx, name), "./run.sh --stage decode")
        sets.setdefault(name, {})[METHOD] = score.score_set(ctx, metric, METHOD, name)
    score.finish(ctx, sets)


def summary(ctx: Context) -> list[str]:
    """Return a line with the metrics of each set and method; empty before scoring."""
    return score.summary(ctx)
