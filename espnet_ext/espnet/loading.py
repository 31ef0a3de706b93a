# SPDX-License-Identifier: Apache-2.0
"""Load and check a trained model, also one with an input layer that stock ESPnet lacks.

ESPnet's own inference builds such a model where its module has our task in the place of its own,
for as long as the model is built (:func:`loading`). ESPnet's code is not changed.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from espnet_ext.errors import DataError
from espnet_ext.espnet import input_layers, stock
from espnet_ext.espnet.checkpoint import load
from espnet_ext.espnet.verify import compare, verify_stock


def task_for(stock: type, config: Path | str) -> type:
    """Return the task that builds the model of a ``config.yaml``: ESPnet's, or one over it.

    Args:
        stock: ESPnet's task.
        config: The file.
    """
    if not input_layers.own_layer_of(config):
        return stock
    return type(stock.__name__, (_Whole, input_layers.BuildsInputLayers, stock), {})


class _Whole:
    """Mixin of a task: every tensor comes from the file."""

    @classmethod
    def build_model_from_file(
        cls, config_file: Any = None, model_file: Any = None, device: str = "cpu"
    ) -> tuple[Any, argparse.Namespace]:
        model, args = super().build_model_from_file(config_file, model_file, device)
        if model_file is not None:
            verdict = compare(model.state_dict(), load(model_file))
            if lost := [*verdict.missing, *verdict.reshaped]:
                how = "take configuration and checkpoint of the same training"
                what = f"the checkpoint lacks {len(lost)} of {verdict.total} tensors: {lost[0]}"
                raise DataError(what, model_file, how)
        return model, args


@contextmanager
def loading(module: Any, name: str, config: Path | str) -> Iterator[None]:
    """Let a module of ESPnet's inference build the model of a ``config.yaml``, whatever its layers.

    Args:
        module: ``espnet2.bin.asr_inference``, ...
        name: Its task, e.g. ``ASRTask``; it has its own again afterwards.
        config: The file.
    """
    stock = getattr(module, name)
    setattr(module, name, task_for(stock, config))
    try:
        yield
    finally:
        setattr(module, name, stock)


def verify_told(config: Path, model_file: Path, task: type | None = None) -> str:
    """Check that a model can be loaded, by stock ESPnet if it knows its layers; return what to say.

    Args:
        config: The ``config.yaml`` that training wrote.
        model_file: The checkpoint to be decoded with.
        task: ESPnet's task that inference uses; default: the ASR task.

    Raises:
        EspnetExtError: See :func:`verify_stock`.
    """
    if lack := stock.lacks_of(config):
        if task is None:
            from espnet2.tasks.asr import ASRTask as task
        verdict = verify_stock(config, model_file, task_for(task, config))
        told = f"all {verdict.total} parameter tensors are there; " + stock.refusal(lack)
    else:
        verdict = verify_stock(config, model_file, task)
        told = f"stock ESPnet loads all {verdict.total} parameter tensors"
    return told + (f" and ignores {len(verdict.extra)} of ours" if verdict.extra else "")
