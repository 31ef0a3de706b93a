# SPDX-License-Identifier: Apache-2.0
"""Can stock ESPnet load the model of a training configuration, and if not, why not?

The one place that knows: what verifies, decodes, packs or prints commands asks here. A part of ours
that stock ESPnet would build a model without is no case of these: it must be refused by ESPnet, by
a name that ESPnet does not have.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.espnet.input_layers import own_layer
from espnet_ext.yamlfile import read_section

# Of ESPnet's ASR and LM tasks; others have no choice.
MODELS = (None, "espnet", "maskctc", "pit_espnet", "lm")


def lacks(config: Mapping[str, Any]) -> str:
    """Return what stock ESPnet lacks for a model, e.g. ``input layer conv1d4``; else an empty text.

    Args:
        config: A training configuration.

    Raises:
        UsageError: The encoder is none that can have the input layer.
    """
    if layer := own_layer(config):
        return f"input layer {layer}"
    model = config.get("model")
    return "" if model in MODELS else f"model {model}"


def lacks_of(config: Path | str) -> str:
    """Return the same of a ``config.yaml``; an empty text where there is no such file yet."""
    if not Path(config).is_file():
        return ""
    return lacks(read_section(config, "a training's configuration", DataError))


def refusal(lack: str) -> str:
    """Return what is said of a model that stock ESPnet lacks something for."""
    return f"stock ESPnet refuses it, as it has no {lack}: it loads by espnet_ext"
