# SPDX-License-Identifier: Apache-2.0
"""Settings of stage 2, ``format.args`` of recipe.yaml."""

from dataclasses import dataclass
from typing import Annotated

from espnet_ext.recipe.stages import Context
from espnet_ext.settings import Limits, build
from espnet_ext.text.sentence_layout import POOLINGS


@dataclass(frozen=True)
class FormatArgs:
    """``format.args`` of recipe.yaml.

    Attributes:
        sentence_encoder: Folder (from the recipe's folder) or name on the hub of the sentence
            encoder; $SENTENCE_ENCODER goes before it.
        speech_encoder: The same of a wav2vec2-type speech encoder, for trainings with
            ``dual_task.speech_encoder``; empty for none, $SPEECH_ENCODER goes before it.
        pooling: ``auto`` (what the folder says, else its pooler), ``pooled``, ``mean`` or ``cls``.
        candidates: Table ``meaning language text``, if there is one: further texts that decoding
            ranks, and translations by which the encoder is judged.
    """

    sentence_encoder: str = "data/sentence_encoder"
    speech_encoder: str = ""
    pooling: Annotated[str, Limits(POOLINGS)] = "auto"
    candidates: str = "data/candidates.tsv"


def format_args(ctx: Context) -> FormatArgs:
    """Return the checked settings.

    Raises:
        UsageError: A key or a type is not possible.
    """
    return build(FormatArgs, ctx.recipe.format.args, "recipe.yaml", "format.args")
