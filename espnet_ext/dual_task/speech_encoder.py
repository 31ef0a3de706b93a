# SPDX-License-Identifier: Apache-2.0
"""A training on a converted speech encoder: ``dual_task.speech_encoder: dump/speech_encoder``.

Stage 2 writes that folder (:mod:`espnet_ext.dual_task.hf_encoder`). What it says about the encoder
takes the place of the configuration's own sections; config.yaml has the result, so a trained model
does not need the folder.
"""

import argparse
from pathlib import Path
from typing import Any

from espnet_ext import yamlfile
from espnet_ext.dual_task.options import SECTION, DualTaskConf
from espnet_ext.errors import DataError, UsageError
from espnet_ext.frames import RAW_ENCODER

WEIGHTS, SECTIONS, ABOUT = "encoder.pth", "encoder.yaml", "about.json"
MAKE = "SPEECH_ENCODER=/path/to/folder ./run.sh --stage format --stop-stage format"
# Keys of encoder_conf that a configuration may set: they change the training, not the weights.
FREE = ("mask_", "no_mask_", "encoder_layer_drop")
# Of every such encoder, known before stage 2.
USUAL: dict[str, Any] = {"encoder": RAW_ENCODER, "frontend": None, "input_size": 1}


def files(conf: DualTaskConf) -> list[Path]:
    """Return the files that a training depends on; none without such an encoder."""
    folder = Path(conf.speech_encoder)
    return [folder / ABOUT, folder / SECTIONS, folder / WEIGHTS] if conf.speech_encoder else []


def waits(conf: DualTaskConf) -> bool:
    """Whether stage 2 has still to make the folder."""
    return any(not path.exists() for path in files(conf))


def sections(conf: DualTaskConf) -> dict[str, Any]:
    """Return the sections of a training configuration that the encoder settles.

    Raises:
        DataError: The folder is not there, or damaged.
    """
    for path in files(conf):
        if not path.is_file():
            raise DataError("the speech encoder has not been converted", path, MAKE)
    return yamlfile.read_section(files(conf)[1], "a description of a speech encoder", DataError)


def complete(config: dict[str, Any], conf: DualTaskConf) -> dict[str, Any]:
    """Return a training configuration as the training will see it.

    Args:
        config: Of the recipe; where the encoder is still to be converted, it is supposed to have
            frames of 20 ms, as all of its kind.
        conf: The method's options of it.

    Raises:
        UsageError: The configuration describes another encoder.
        DataError: The folder is damaged.
    """
    if not conf.speech_encoder:
        return config
    found = USUAL if waits(conf) else sections(conf)
    own = config.get("encoder_conf") or {}
    for key in sorted((found.keys() | {"specaug", "normalize"}) & config.keys()):
        if key != "encoder_conf" and config[key] not in (None, {}, found.get(key)):
            what = f"the speech encoder {conf.speech_encoder} goes without this {key}"
            raise UsageError(what, key, f"leave out {key}, or {SECTION}.speech_encoder: ''")
    for key in own:
        if not key.startswith(FREE) and not key.endswith("_dropout"):
            what = f"encoder_conf.{key} is settled by the weights of {conf.speech_encoder}"
            raise UsageError(what, f"encoder_conf.{key}", "dropout and masks can be chosen")
    return {**config, **found, "encoder_conf": {**found.get("encoder_conf", {}), **own}}


def settle(args: argparse.Namespace, conf: DualTaskConf) -> None:
    """Put the encoder into the options of a training, as far as it is known.

    Raises:
        DataError: The folder is damaged.
    """
    if not conf.speech_encoder:
        return
    found = USUAL if waits(conf) else sections(conf)
    own = getattr(args, "encoder_conf", None) or {}
    for key, value in {**found, "encoder_conf": {**found.get("encoder_conf", {}), **own}}.items():
        setattr(args, key, value)


def apply(args: argparse.Namespace, conf: DualTaskConf) -> None:
    """Put the encoder into the options of a training, and its weights at the start.

    Raises:
        DataError: The folder is not there, or damaged.
    """
    if not conf.speech_encoder:
        return
    sections(conf)
    settle(args, conf)
    start = f"{files(conf)[2]}:encoder:encoder"
    given = list(getattr(args, "init_param", None) or [])
    if start not in given:  # weights of an earlier phase come after it
        args.init_param = [start, *given]
