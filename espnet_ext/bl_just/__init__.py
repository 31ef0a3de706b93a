# SPDX-License-Identifier: Apache-2.0
"""BL-JUST: bilevel joint unsupervised and supervised training (arXiv 2412.08548, 2401.06980)."""

from typing import Any


def check_config(config: dict[str, Any]) -> None:
    """Check a training configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A key or value of the section ``bl_just`` is not possible, or ``max_epoch`` or
            ``patience`` is given.
    """
    from espnet_ext.bl_just.options import refuse_patience, resolve
    from espnet_ext.errors import UsageError

    resolve(config.get("bl_just"))
    refuse_patience(config.get("patience"))
    if config.get("max_epoch") is not None:
        raise UsageError(
            "the schedule says how many epochs there are", "max_epoch",
            "leave max_epoch out; bl_just.epochs counts exploration and joint phases",
        )  # fmt: skip
