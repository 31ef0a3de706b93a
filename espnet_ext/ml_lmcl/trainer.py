# SPDX-License-Identifier: Apache-2.0
"""Trainers: of both stages, what frozen layers say; of stage 2, teachers and how far gamma gets.

Epoch 1 has no teachers: the cycle of gamma starts with epoch 2, unless labels stand in for them.
Teachers are those of the epoch before. ``full``: the training set is predicted at the start of
each epoch from the second on, by the model as the checkpoint holds it, so a resumed training has
the same ones without a file. ``on_the_fly``: what the epoch's own updates put into the store is
written at its end, before the checkpoint is.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from espnet_ext.espnet.random_state import unchanged_random_state
from espnet_ext.espnet.trainer import ExtTrainer
from espnet_ext.ml_lmcl import annealing
from espnet_ext.ml_lmcl.network import Texts
from espnet_ext.ml_lmcl.options import MlLmclConf
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.precision import EMULATED, has_bfloat16, resolve
from espnet_ext.progress import progress_log


class TextTrainer(ExtTrainer):
    """The output of frozen layers is there before a process trains its first epoch.

    It is computed in a fixed order: in that of the first batches it would differ by rounding in a
    training that was killed and goes on. The attributes are set by the task before ``run``.
    """

    conf: MlLmclConf
    predictions: Any = None  # iterator factory over the training set, in a fixed order
    started: bool = False

    @classmethod
    def train_one_epoch(cls, model, **rest):
        """One epoch."""
        start = time.perf_counter()
        first, cls.started = not cls.started, True
        if first:
            _tell_precision(cls.conf.precision, next(model.parameters()).device.type)
        if first and cls.conf.freeze_layers and cls.predictions:
            with unchanged_random_state():  # a process that goes on fills in another epoch
                fill(getattr(model, "module", model), cls.predictions.build_iter(1, shuffle=False))
        before_s = time.perf_counter() - start
        invalid = super().train_one_epoch(model=model, **rest)
        cls.state.epoch_s += before_s
        spent = cls.state.spent[str(rest["reporter"].get_epoch())]
        spent["passes"] = spent["batches"] * getattr(model, "module", model).texts_per_batch
        return invalid


class ClassifyTrainer(TextTrainer):
    """See the module's text."""

    store: TeacherStore | None = None

    @classmethod
    def train_one_epoch(cls, model, iterator, optimizers, reporter, **rest):
        """One epoch, with its teachers."""
        own, epoch, options = getattr(model, "module", model), reporter.get_epoch(), rest["options"]
        updates = len(iterator) // options.accum_grad
        own.total_updates = updates * options.max_epoch
        start = time.perf_counter()
        if cls.store is not None:
            own.teacher = cls.store
            own.untaught_updates = updates if cls.conf.first_teacher == "none" else 0
            if epoch == 1:
                _tell_gamma(cls.conf, own.total_updates, own.untaught_updates)
            elif cls.store.epoch != epoch - 1:
                cls._make_teachers(own, epoch - 1)
        before_s = time.perf_counter() - start
        invalid = super().train_one_epoch(
            model=model, iterator=iterator, optimizers=optimizers, reporter=reporter, **rest
        )
        if cls.store is not None and cls.conf.teacher_refresh == "on_the_fly":
            cls._keep_teachers(own, epoch)
        cls.state.epoch_s += before_s
        return invalid

    @classmethod
    def _make_teachers(cls, model: Any, epoch: int) -> None:
        """Set the store to what it was after ``epoch``."""
        if cls.conf.teacher_refresh == "on_the_fly":
            cls.store.load(cls._file(epoch))
        else:
            refresh(model, cls.store, cls.predictions.build_iter(1, shuffle=False))
            cls.store.epoch = epoch

    @classmethod
    def _keep_teachers(cls, model: Any, epoch: int) -> None:
        """Write the store; that of the epoch before stays for a training killed right now."""
        cls.store.gather(next(model.parameters()).device)
        cls.store.epoch = epoch
        if torch.distributed.is_initialized() and torch.distributed.get_rank():
            return
        cls.store.save(cls._file(epoch))
        cls._file(epoch - 2).unlink(missing_ok=True)

    @classmethod
    def _file(cls, epoch: int) -> Path:
        return Path(cls.state.options.output_dir) / f"teacher.{epoch}epoch.pth"


def _tell_precision(wanted: str, device: str) -> None:
    if wanted == "bfloat16" and not has_bfloat16(device):
        progress_log.info(EMULATED)
    elif wanted == "auto":
        progress_log.info(f"precision: {resolve(wanted, device)}, the faster one here")


def fill(model: Any, batches: Any) -> None:
    """Compute what the frozen layers say of all texts, and tell how much that is.

    Args:
        model: Of either stage.
        batches: Yields ``(utterance ids, batch)``.
    """
    frozen = []
    for _, texts in _texts(model, batches):
        frozen = model.fill(texts)
    for one in frozen:
        progress_log.info(str(one))


def refresh(model: Any, store: TeacherStore, batches: Any) -> None:
    """Predict all utterances in evaluation mode and store their logits.

    Args:
        model: Of stage 2.
        store: Is emptied first.
        batches: Yields ``(utterance ids, batch)``.
    """
    from espnet_ext.ml_lmcl.model import named_logits

    store.forget()
    model.eval()
    with torch.inference_mode():
        for utts, texts in _texts(model, batches):
            store.put(utts, named_logits(model.views(texts)))
    model.train()
    store.gather(next(model.parameters()).device)


def _texts(model: Any, batches: Any) -> Iterator[tuple[list[str], Texts]]:
    """Yield the utterance ids and the transcripts of each batch, on the model's device."""
    from espnet_ext.ml_lmcl.model import texts_of

    device = next(model.parameters()).device
    for utts, batch in batches:
        on_device = {k: v.to(device) for k, v in batch.items()}
        yield utts, texts_of(on_device, model.conf.use_manual)


def _tell_gamma(conf: MlLmclConf, updates: int, untaught: int = 0) -> None:
    """Warn of self-distillation that never acts, and of a cycle longer than what it has.

    Args:
        conf: Options.
        updates: Of the whole training.
        untaught: Those of epoch 1, if it has no teachers.
    """
    left = updates - untaught
    if left <= 0:
        progress_log.warning(
            "self-distillation and soft positives never act: the training has one epoch, and "
            "their teachers are those of the epoch before; set max_epoch to 2 or more, or "
            "ml_lmcl.gamma_mode=zero and ml_lmcl.soft_positives=false"
        )
        return
    if conf.gamma_mode != "cyclic" or conf.gamma_weight == 0:
        return
    period = annealing.period_of(conf.gamma_period, conf.gamma_period_fraction, left)
    highest = annealing.reachable(left, period, conf.gamma_ratio)
    if highest < 1:
        after = " after epoch 1" if untaught else ""
        progress_log.warning(
            f"self-distillation: in the {left} updates{after} gamma gets to {highest:.2f} of its "
            f"height (a period has {period} updates); ml_lmcl.gamma_period_fraction=0.5 makes it "
            "half of them"
        )
