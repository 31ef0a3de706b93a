# SPDX-License-Identifier: Apache-2.0
"""ML-LMCL: mutual learning and large-margin contrastive learning for SLU (arXiv 2311.11375)."""

from typing import Any


def check_config(config: dict[str, Any]) -> None:
    """Check a training configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A key or value of the section ``ml_lmcl`` is not possible.
    """
    from espnet_ext.ml_lmcl.options import resolve

    resolve(config.get("ml_lmcl"))


def phase_off(task: str, config: dict[str, Any]) -> str:
    """Tell why a training phase has nothing to do, or return an empty text."""
    from espnet_ext.ml_lmcl.options import resolve
    from espnet_ext.text.source import encoder_source

    conf, name = resolve(config.get("ml_lmcl")), task.rpartition(":")[2]
    if name == "PretrainTask" and (source := encoder_source()):
        return f"the encoder {source} is pre-trained"
    if name == "ContrastiveTask" and conf.stage1 == "none":
        return f"stage1 is none (preset {conf.preset})"
    return ""
