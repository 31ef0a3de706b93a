# SPDX-License-Identifier: Apache-2.0
"""Trainer of stage 2: teachers of self-distillation, and how far gamma gets.

Teachers are those of the epoch before. ``full``: the training set is predicted at the start of
each epoch from the second on, by the model as the checkpoint holds it, so a resumed training has
the same ones without a file. ``on_the_fly``: what the epoch's own updates put into the store is
written at its end, before the checkpoint is.
"""

import time
from pathlib import Path
from typing import Any

import torch

from espnet_ext.espnet.trainer import ExtTrainer
from espnet_ext.ml_lmcl import annealing
from espnet_ext.ml_lmcl.options import MlLmclConf
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.progress import progress_log


class ClassifyTrainer(ExtTrainer):
    """See the module's text. The attributes are set by the task before ``run``."""

    conf: MlLmclConf
    store: TeacherStore | None = None
    predictions: Any = None  # iterator factory over the training set, in a fixed order

    @classmethod
    def train_one_epoch(cls, model, iterator, optimizers, reporter, **rest):
        """One epoch, with its teachers."""
        own, epoch, options = getattr(model, "module", model), reporter.get_epoch(), rest["options"]
        updates = len(iterator) // options.accum_grad
        own.total_updates = updates * options.max_epoch
        start = time.perf_counter()
        if cls.store is not None:
            own.teacher = cls.store
            if epoch == 1:
                _tell_gamma(cls.conf, own.total_updates)
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


def refresh(model: Any, store: TeacherStore, batches: Any) -> None:
    """Predict all utterances in evaluation mode and store their logits.

    Args:
        model: Of stage 2.
        store: Is emptied first.
        batches: Yields ``(utterance ids, batch)``.
    """
    from espnet_ext.ml_lmcl.model import named_logits, texts_of

    device = next(model.parameters()).device
    store.forget()
    model.eval()
    with torch.inference_mode():
        for utts, batch in batches:
            on_device = {k: v.to(device) for k, v in batch.items()}
            store.put(utts, named_logits(model.views(texts_of(on_device, model.conf.use_manual))))
    model.train()
    store.gather(device)


def _tell_gamma(conf: MlLmclConf, updates: int) -> None:
    """Warn of a cycle that is longer than the training."""
    if conf.gamma_mode != "cyclic":
        return
    period = annealing.period_of(conf.gamma_period, conf.gamma_period_fraction, max(updates, 1))
    highest = annealing.reachable(updates, period, conf.gamma_ratio)
    if highest < 1:
        progress_log.warning(
            f"self-distillation: in {updates} updates gamma gets to {highest:.2f} of its height "
            f"(a period has {period} updates); ml_lmcl.gamma_period_fraction, e.g. 0.5, "
            "makes it a share of the training"
        )
