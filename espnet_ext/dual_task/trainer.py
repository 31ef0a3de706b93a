# SPDX-License-Identifier: Apache-2.0
"""Trainer of the method: two optimisers under one gradient scaler."""

from functools import partial
from pathlib import Path
from typing import Any

from espnet_ext.dual_task.options import SLU
from espnet_ext.dual_task.retention import make
from espnet_ext.espnet.trainer import ExtTrainer


class SharedScaler:
    """A gradient scaler whose scale changes once a batch, after all optimisers.

    ESPnet updates the scale after each optimiser. The scaler forgets then that the gradients of the
    next optimiser are unscaled already and divides them by the scale again.

    Args:
        scaler: torch's.
        optimisers: Their number.
    """

    def __init__(self, scaler: Any, optimisers: int):
        self.scaler, self.optimisers, self.asked = scaler, optimisers, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.scaler, name)

    def unscale_(self, optimizer: Any) -> None:
        """As torch's; an optimiser without any gradient has nothing to unscale."""
        if _has_gradient(optimizer):
            self.scaler.unscale_(optimizer)

    def step(self, optimizer: Any) -> Any:
        """As torch's, which fails on an optimiser without any gradient."""
        return self.scaler.step(optimizer) if _has_gradient(optimizer) else None

    def update(self) -> None:
        """Update when all optimisers have asked for it."""
        self.asked = (self.asked + 1) % self.optimisers
        if self.asked == 0:
            self.scaler.update()


def _has_gradient(optimizer: Any) -> bool:
    return any(p.grad is not None for group in optimizer.param_groups for p in group["params"])


class DualTaskTrainer(ExtTrainer):
    """See the module's text."""

    @classmethod
    def run(cls, model, optimizers, schedulers, trainer_options, distributed_option, **rest):
        """Train; a baseline against forgetting looks at the model before anything is resumed."""
        conf, folder = model.dual_conf, Path(trainer_options.output_dir)
        if SLU in model.losses:
            batches = partial(rest["train_iter_factory"].build_iter, 1)
            model.retention = make(conf.retain, conf.retain_weight, model, folder, batches)
        super().run(model, optimizers, schedulers, trainer_options, distributed_option, **rest)

    @classmethod
    def train_one_epoch(cls, model, iterator, optimizers, reporter, scaler=None, **rest):
        """One epoch."""
        if scaler is not None:
            scaler = SharedScaler(scaler, len(optimizers))
        return super().train_one_epoch(
            model=model, iterator=iterator, optimizers=optimizers, reporter=reporter,
            scaler=scaler, **rest,
        )  # fmt: skip
