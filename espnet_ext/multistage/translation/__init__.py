# SPDX-License-Identifier: Apache-2.0
"""Mid-training: the pre-trained encoder learns to translate, by ESPnet's own ST model."""

from typing import Any


def check_config(config: dict[str, Any]) -> None:
    """Check a training configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A second loss is asked for. The transcripts of the source are not read here.
            Or a section of the other two phases, which would have no effect.
    """
    from espnet_ext.errors import UsageError

    if "multistage" in config:
        how = "finetune.args.multistage has freeze, pretrain.args.multistage all of stage 1"
        raise UsageError("translation trains all of its model, without options", "multistage", how)
    model = config.get("model_conf") or {}
    for key in ("asr_weight", "mt_weight"):
        if model.get(key):
            how = f"{key}: 0; recognition as mid-training is the task asr on these sets"
            raise UsageError("the translation loss stands alone", f"model_conf.{key}", how)
