# SPDX-License-Identifier: Apache-2.0
"""Input layers of the Conformer that ESPnet does not have: ``encoder_conf.input_layer: conv1d4``.

All tasks of this project build them. Stock ESPnet refuses such a model with "unknown input_layer",
so it loads by this package (:mod:`espnet_ext.espnet.loading`).
"""

import argparse
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError, UsageError
from espnet_ext.yamlfile import read_section

OWN = ("conv1d4",)
STAND_IN = "conv2d"  # what ESPnet builds, and what is then replaced


def own_layer(config: Mapping[str, Any]) -> str:
    """Return the input layer of a training configuration if ESPnet lacks it, else an empty text.

    Raises:
        UsageError: The encoder is none that can have it.
    """
    layer = (config.get("encoder_conf") or {}).get("input_layer")
    if layer not in OWN:
        return ""
    if config.get("encoder") != "conformer":
        what = f"the encoder {config.get('encoder')} cannot have the input layer {layer}"
        raise UsageError(what, "encoder_conf.input_layer", "encoder: conformer")
    return layer


def own_layer_of(config: Path | str) -> str:
    """Return the same of a ``config.yaml``; an empty text where there is no such file yet."""
    if not Path(config).is_file():
        return ""
    return own_layer(read_section(config, "a training's configuration", DataError))


class BuildsInputLayers:
    """Mixin of ESPnet's tasks, before them."""

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        """Build a model; its Conformer may have an input layer of ours."""
        layer, given = own_layer(vars(args)), getattr(args, "encoder_conf", None)
        if not layer:
            return super().build_model(args)
        args.encoder_conf = {**given, "input_layer": STAND_IN}
        try:
            model = super().build_model(args)
        finally:
            args.encoder_conf = given
        front = model.preencoder or model.frontend
        install(model.encoder, layer, args.input_size or front.output_size())
        return model


def install(encoder: Any, layer: str, features: int) -> None:
    """Replace the input layer of a Conformer that was built with :data:`STAND_IN`.

    Args:
        encoder: ESPnet's.
        layer: One of :data:`OWN`.
        features: Features of a frame.
    """
    made = _class(layer)(features, encoder.output_size(), encoder.embed.pos_enc)
    encoder.embed = made.to(next(encoder.parameters()).device)


@functools.cache
def _class(layer: str) -> type:
    """Return the layer as a kind of ``Conv2dSubsampling``: ESPnet's encoder hands a mask to these
    alone."""
    from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import Conv2dSubsampling

    from espnet_ext.conv1d4 import Conv1d4

    return type("Conv1d4Subsampling", ({"conv1d4": Conv1d4}[layer], Conv2dSubsampling), {})
