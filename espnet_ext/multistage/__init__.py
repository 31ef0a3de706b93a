# SPDX-License-Identifier: Apache-2.0
"""Audio-visual pre-training, translation mid-training, ASR fine-tuning (arXiv 2403.19822)."""

from typing import Any


def check_config(config: dict[str, Any]) -> None:
    """Check a pre-training's configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A key or value of the section ``multistage`` is not possible.
    """
    from espnet_ext.multistage.options import resolve

    resolve(config.get("multistage"))


def unread_streams(task: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Return the streams that a training does not look at: the video, with audio alone."""
    from espnet_ext.multistage.options import resolve

    return () if resolve(config.get("multistage")).with_video else ("video",)
