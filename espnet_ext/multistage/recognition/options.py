# SPDX-License-Identifier: Apache-2.0
"""The section ``multistage`` of a fine-tuning's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from espnet_ext.settings import Limits, build


@dataclass(frozen=True)
class RecognitionConf:
    """See the fields."""

    freeze: Annotated[
        str,
        "encoder: front end, normalisation and encoder stand still, dropout and the statistics of "
        "batch normalisation included; none: everything is trained",
        Limits(("encoder", "none")),
    ] = "encoder"
    cache_mb: Annotated[
        float,
        "Memory for outputs of the frozen encoder, which are then computed once; 0: none are kept",
        Limits(at_least=0),
    ] = 1000.0


def resolve(section: Mapping[str, Any] | None) -> RecognitionConf:
    """Return the checked section.

    Raises:
        UsageError: A key or value is not possible.
    """
    return build(RecognitionConf, dict(section or {}), "training configuration", "multistage")
