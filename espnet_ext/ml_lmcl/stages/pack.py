# SPDX-License-Identifier: Apache-2.0
"""Stage 10 of a text recipe: one archive of the final model, and the lines that use it."""

import shlex
from pathlib import Path

from espnet_ext.errors import EspnetExtError
from espnet_ext.ml_lmcl.stages.encoder import FOLDER
from espnet_ext.ml_lmcl.stages.format import LABELS, format_args
from espnet_ext.recipe import doubts
from espnet_ext.recipe.console import say
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps.decode import last_phase
from espnet_ext.recipe.steps.pack import archive
from espnet_ext.recipe.steps.train import model_file

_PROBES = ("", "show me the flights from boston to denver", "a")


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    phase, args = last_phase(ctx), format_args(ctx)
    return Plan(
        needs=[
            ctx.phase_dir(phase) / "config.yaml",
            model_file(ctx, phase),
            FOLDER / "about.json",
            *(LABELS / f"{name}.txt" for name in (*args.heads, "heads")),
        ],
        makes=[archive(ctx)],
        settings={"normalize": args.normalize},
        disk_mb=1000,
    )


def run(ctx: Context, plan: Plan) -> None:
    """Pack the model, and check that what was packed answers as the model in ``exp`` does."""
    from espnet_ext.ml_lmcl.model_files import pack_classifier

    doubts.refuse(ctx)
    config, model, out = *plan.needs[:2], archive(ctx)
    about = {"recipe": ctx.recipe.recipe, "name": ctx.recipe.name, "seed": ctx.recipe.seed}
    pack_classifier(config, model, FOLDER, LABELS, out, format_args(ctx).normalize, about)
    check(plan, out)
    say(f"  {out}: {out.stat().st_size / 1e6:.1f} MB")


def check(plan: Plan, packed_at: Path) -> None:
    """Check that an archive, or a folder with its files, answers as the model in ``exp`` does.

    Raises:
        EspnetExtError: It does not.
    """
    from espnet_ext.ml_lmcl.classifier import IntentClassifier
    from espnet_ext.ml_lmcl.load import load_classifier

    config, model = plan.needs[:2]
    packed = IntentClassifier.from_pretrained(packed_at)
    here = IntentClassifier(
        *load_classifier(config, model), normalize_mode=packed.normalize_mode
    ).posteriors(_PROBES)
    there = packed.posteriors(_PROBES)
    if here.keys() != there.keys() or any((here[h] != there[h]).any() for h in here):
        raise EspnetExtError(
            "the packed model answers otherwise than the trained one", packed_at,
            "train again: dump/ has changed since the training",
        )  # fmt: skip


def usage(ctx: Context) -> list[str]:
    """Return the lines that classify a sentence with the trained model."""
    path = archive(ctx).resolve()
    return [
        "the trained model in Python:",
        "from espnet_ext.ml_lmcl.classifier import IntentClassifier",
        f'classify = IntentClassifier.from_pretrained("{path}")',
        'print(classify("show me the flights from boston to denver").labels)',
        f"and in the shell: espnet-ext decode --model {shlex.quote(str(path))} sentences.txt",
    ]
