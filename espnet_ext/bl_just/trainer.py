# SPDX-License-Identifier: Apache-2.0
"""Trainer with three optimisers: what happens to them between epochs, clipping, counts.

ESPnet's loop does the updates: the model's ``optim_idx`` says which optimiser. That loop clears
the gradients of this one alone, which is enough: no loss reaches a parameter that its optimiser
does not hold.
"""

import copy
import math
from typing import Any

import torch

from espnet_ext.bl_just.bilevel import clip_groups
from espnet_ext.bl_just.fitting import fit_unsup
from espnet_ext.bl_just.options import BlJustConf
from espnet_ext.bl_just.schedule import OPTIMISER, Schedule
from espnet_ext.espnet.iterators import PersistentIterFactory
from espnet_ext.espnet.trainer import ExtTrainer


class BLJustTrainer(ExtTrainer):
    """See the module's text. ``schedule`` and ``conf`` are set by the task before ``run``."""

    schedule: Schedule
    conf: BlJustConf
    unlabelled: PersistentIterFactory | None

    @classmethod
    def run(cls, model, optimizers, schedulers, trainer_options, distributed_option, **rest):
        """Train; ``grad_clip`` bounds the gradient of each parameter group apart."""
        bound, norm_type = trainer_options.grad_clip, trainer_options.grad_clip_type
        trainer_options.grad_clip = math.inf  # the loop then tells the norm and clips nothing

        def clip(optimiser: torch.optim.Optimizer, *_: Any) -> None:
            clip_groups(optimiser, bound, norm_type)

        # Just before the update, where gradients of mixed precision have been unscaled.
        cls.unlabelled = rest["train_iter_factory"].unlabelled
        handles = [o.register_step_pre_hook(clip) for o in optimizers]
        try:
            super().run(
                model=model,
                optimizers=optimizers,
                schedulers=schedulers,
                trainer_options=trainer_options,
                distributed_option=distributed_option,
                **rest,
            )
        finally:
            for handle in handles:
                handle.remove()

    @classmethod
    def train_one_epoch(cls, model, iterator, optimizers, reporter, **rest):
        """One epoch of the schedule."""
        fit_unsup(model, cls.unlabelled)
        cls._start_epoch(reporter.get_epoch(), optimizers)
        invalid = super().train_one_epoch(
            model=model, iterator=iterator, optimizers=optimizers, reporter=reporter, **rest
        )
        counts = iterator.counts
        cls.state.spent[str(reporter.get_epoch())] |= {
            "labelled_batches": counts.labelled,
            "unlabelled_batches": counts.unlabelled,
            "passes": counts.passes,
            "data_passes": round(counts.labelled / cls.state.pass_batches, 4),
        }
        return invalid

    @classmethod
    def _start_epoch(cls, epoch: int, optimizers: list[torch.optim.Optimizer]) -> None:
        """Reset or hand over the state of optimisers.

        The first epoch of the last phase starts from what the checkpoint of the epoch before
        holds, so a resumed training does the same again.
        """
        if epoch == cls.schedule.first("final") and not cls.conf.final_reset:
            hand_over(optimizers[OPTIMISER["joint"]], optimizers[OPTIMISER["final"]])
        if not cls.conf.keep_state:
            for kind in ("explore", "joint"):
                optimizers[OPTIMISER[kind]].state.clear()

    @classmethod
    def _work_of(cls, epoch: int) -> int:
        return cls.schedule.counts(epoch).passes

    @classmethod
    def _epoch_line(cls, reporter, options) -> str:
        segments = cls.schedule.epochs[reporter.get_epoch() - 1]
        told = " + ".join(f"{s.updates} {s.kind}" for s in segments)
        gamma = max((s.gamma_at(s.updates - 1) for s in segments), default=0.0)
        told += f", gamma {gamma:.3g}" if gamma > 0 else ""
        means = [f"{k} {cls.state.train_stats[k]:.3f}" for k in "fg" if k in cls.state.train_stats]
        line = super()._epoch_line(reporter, options)
        return f"{line} [{told}{': ' if means else ''}{', '.join(means)}]"


def hand_over(source: torch.optim.Optimizer, target: torch.optim.Optimizer) -> None:
    """Copy the state, e.g. Adam's moments, of the parameters that both optimisers hold."""
    for group in target.param_groups:
        for p in group["params"]:
            if p in source.state:
                target.state[p] = copy.deepcopy(source.state[p])
