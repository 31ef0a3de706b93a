# SPDX-License-Identifier: Apache-2.0
"""Dual-task fine-tuning of a semantic speech encoder for SLU (arXiv 2406.12141)."""

from pathlib import Path
from typing import Any

ROLE_OF = {"PretrainTask": "pretrain", "SpecialiseTask": "midtrain"}  # others: finetune


def check_config(config: dict[str, Any]) -> None:
    """Check a training configuration; the recipe's runner calls this before its first stage.

    Raises:
        UsageError: A key or value of the section ``dual_task`` is not possible.
    """
    from espnet_ext.dual_task.options import resolve

    resolve(config.get("dual_task"))


def complete_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return a training configuration with what a converted speech encoder settles.

    Raises:
        UsageError: They do not go together.
    """
    from espnet_ext.dual_task import options, speech_encoder

    return speech_encoder.complete(config, options.resolve(config.get(options.SECTION)))


def needs(task: str, config: dict[str, Any]) -> list[Path]:
    """Return the files that a training of a configuration depends on, besides its data.

    Another sentence encoder is another training; further texts of the same one are not.
    """
    from espnet_ext.dual_task import options, speech_encoder

    conf = options.resolve(config.get(options.SECTION))
    with_sentences = conf.schedule != "slu" or options.SAMU in conf.losses("pretrain")
    sentences = [Path(conf.sentences) / "about.json"] if with_sentences else []
    learnt = conf.phones and options.PHONES in conf.losses(role_of(task))
    phones = [Path(conf.phones)] if learnt else []
    return [*speech_encoder.files(conf)[:1], *sentences, *phones]


def unread_streams(task: str, config: dict[str, Any]) -> tuple[str, ...]:
    """Return the streams that a training does not look at: the phones, where it learns none."""
    from espnet_ext.dual_task.options import PHONES, SECTION, resolve

    return () if PHONES in resolve(config.get(SECTION)).losses(role_of(task)) else ("phones",)


def phase_off(task: str, config: dict[str, Any]) -> str:
    """Tell why a training phase has nothing to do, or return an empty text.

    Raises:
        UsageError: It has, and lacks an option for it.
    """
    from espnet_ext.dual_task.options import check, resolve

    conf, role = resolve(config.get("dual_task")), role_of(task)
    if role == "pretrain" and conf.pretrain == "none":
        return "pretrain is none"
    if role == "pretrain" and conf.speech_encoder and conf.pretrain != "samu":
        return f"the speech encoder {conf.speech_encoder} is pre-trained"
    if role == "midtrain" and conf.schedule != "sequential":
        return f"schedule {conf.schedule} has no specialisation of its own"
    check(conf, role)
    return ""


def role_of(task: str) -> str:
    """Return the role of the phase that a task, ``module:Class``, trains."""
    return ROLE_OF.get(task.rpartition(":")[2], "finetune")
