# SPDX-License-Identifier: Apache-2.0
"""Stage 10: the final ASR model as always; what only translating needs is no option of its use."""

from pathlib import Path

from espnet_ext.multistage.stages.decode import split_args
from espnet_ext.recipe.stages import Context, Plan
from espnet_ext.recipe.steps import pack


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    return pack.plan(ctx)


def run(ctx: Context, plan: Plan) -> None:
    """Pack the model of the final phase, as the standard stage does."""
    pack.run(ctx, plan)


def check(plan: Plan, packed: Path) -> None:
    """Check an archive or a published folder, as the standard stage does."""
    pack.check(plan, packed)


def usage(ctx: Context) -> list[str]:
    """Return the lines of Python that transcribe a wav with the trained model."""
    return pack.usage(ctx if ctx.recipe.decode is None else split_args(ctx)[0])
