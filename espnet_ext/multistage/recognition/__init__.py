# SPDX-License-Identifier: Apache-2.0
"""Fine-tuning: ESPnet's own ASR model on the pre-trained encoder, which may stand still."""

from typing import Any

EXTENDABLE = ("multistage.cache_mb",)  # with the cache or without it, the losses are the same bits


def check_config(config: dict[str, Any]) -> None:
    """Check a training configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A key or value of the section ``multistage`` is not possible.
    """
    from espnet_ext.multistage.recognition.options import resolve

    resolve(config.get("multistage"))
