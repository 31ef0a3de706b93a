# SPDX-License-Identifier: Apache-2.0
"""Stage 3: forced alignment, by the function that ``align.run`` names."""

from pathlib import Path

from espnet_ext.plugin import load_object
from espnet_ext.recipe.stages import Context, Plan

ALIGNED = Path("dump/align")


def plan(ctx: Context) -> Plan:
    """See :class:`Plan`."""
    train = Path("dump") / ctx.recipe.data.train
    return Plan(
        needs=[train / "wav.scp", train / "text"],
        makes=[ALIGNED],
        settings=ctx.recipe.align,
        disk_mb=50,
    )


def run(ctx: Context, plan: Plan) -> None:
    """Call ``align.run`` (``module:function``) with the context and the output folder."""
    load_object(ctx.recipe.align.get("run", ""), "align.run")(ctx, ALIGNED)
