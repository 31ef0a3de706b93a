# SPDX-License-Identifier: Apache-2.0
"""Did the whole encoder of the phase before arrive? ESPnet tolerates tensors that are missing.

Compared are the tensors themselves, after ESPnet has loaded them and before the first update, and
the front ends: an encoder is of little use on features that it was not trained with.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_ext.errors import DataError, UsageError
from espnet_ext.espnet.init import Init
from espnet_ext.yamlfile import read_section

ENCODER = "encoder."
FEATURES = ("frontend", "frontend_conf", "normalize")  # keys of config.yaml


def check_arrival(model: nn.Module, init_param: list[str]) -> tuple[int, int]:
    """Check that the encoder, if any of it is taken, was taken whole and unchanged.

    Args:
        model: As it stands after initialisation; its encoder is ``model.encoder``.
        init_param: ``FILE[:SRC[:DST[:EXCLUDE]]]``, all that it started from.

    Returns:
        Tensors of the encoder that arrived, and all that it has. ``(0, n)``: it starts at random.

    Raises:
        DataError: Some arrived and others are missing or differ; feature statistics differ.
    """
    taken: dict[str, torch.Tensor] = {}
    source: dict[str, torch.Tensor] = {}
    for text in init_param:
        one = Init.of(text)
        state = torch.load(one.file, map_location="cpu", weights_only=True, mmap=True)
        taken |= one.taken(state)
        source |= state
    here = {k: v for k, v in model.state_dict().items() if k.startswith(ENCODER)}
    arrived = {k for k in here if k in taken}
    if not arrived:
        return 0, len(here)
    files = ", ".join(dict.fromkeys(Init.of(t).file for t in init_param))
    if lost := sorted(here.keys() - arrived):
        what = f"{len(lost)} of {len(here)} tensors of the encoder would start at random: "
        how = "the same encoder_conf in both phases, and init: [PHASE:encoder:encoder]"
        raise DataError(what + ", ".join(lost[:3]), files, how)
    if differ := sorted(k for k in here if not _same(here[k], taken[k])):
        what = f"{len(differ)} tensors of the encoder differ from those taken: {differ[0]}"
        raise DataError(what, files, "name each part of the model once in init")
    _check_statistics(model, source, files)
    return len(arrived), len(here)


def _same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.cpu(), b.cpu().to(a.dtype))


def _check_statistics(model: nn.Module, source: Mapping[str, torch.Tensor], files: str) -> None:
    """Means and variances of features belong to the encoder that learnt with them."""
    for name, value in model.state_dict().items():
        known = source.get(name)
        if name.startswith("normalize.") and known is not None and not _same(value, known):
            how = "normalize: utterance_mvn in all phases, or init PHASE:normalize:normalize"
            raise DataError(f"{name} is not that of the phase before", files, how)


def check_features(args: Mapping[str, Any], init_param: list[str]) -> None:
    """Check that the encoder gets the features that it has learnt with.

    Args:
        args: Options of the training that begins.
        init_param: What it starts from; the ``config.yaml`` beside each file is read, if any.

    Raises:
        UsageError: Front end or normalisation is another; ``where`` is the option.
    """
    for file, before in _configurations(init_param):
        for key in FEATURES:
            old, new = before.get(key), args.get(key)
            if key.endswith("_conf"):
                old, new = dict(old or {}), dict(new or {})
                key = next((f"{key}.{k}" for k in sorted(old.keys() | new.keys())
                            if old.get(k) != new.get(k)), key)  # fmt: skip
            if old != new:
                what = f"the encoder of {file} has learnt with other features"
                raise UsageError(what, key, "give front end and normalize once, in args of all")


def _configurations(init_param: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for text in init_param:
        one = Init.of(text)
        config = Path(one.file).with_name("config.yaml")
        encoder = (one.dst or "encoder").split(".")[0] == "encoder"
        if encoder and config.exists():
            yield one.file, read_section(config, "a training's configuration", DataError)


def told(arrived: int, total: int) -> str:
    """Return the line that a training says of it."""
    if not arrived:
        return f"encoder: all {total} tensors start at random"
    return f"encoder: {arrived} of {total} tensors came from the phase before"
