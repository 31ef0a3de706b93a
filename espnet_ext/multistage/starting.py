# SPDX-License-Identifier: Apache-2.0
"""What translation and recognition share: they start from an encoder, which must arrive whole."""

import argparse
from typing import Any, ClassVar

from espnet_ext.espnet.trainer import ExtTrainer
from espnet_ext.multistage import arrival
from espnet_ext.progress import progress_log


class EncoderTrainer(ExtTrainer):
    """The adapter's trainer, which looks at the encoder before the first update.

    Attributes:
        init_param: What the model has started from; each training has a subclass with its own.
    """

    init_param: ClassVar[list[str]] = []

    @classmethod
    def _check_start(cls, model: Any) -> None:
        arrived, total = arrival.check_arrival(getattr(model, "module", model), cls.init_param)
        cls.facts = {**cls.facts, "encoder_tensors": total, "encoder_tensors_taken": arrived}
        progress_log.info(arrival.told(arrived, total))
        super()._check_start(model)


class StartingFromEncoder:
    """Mixin of tasks, before the adapter's."""

    trainer = EncoderTrainer

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Compare the features with those of the phase before, then train."""
        if args.collect_stats:
            super().main_worker(args)
            return
        arrival.check_features(vars(args), args.init_param)
        trainer = type("Trainer", (cls.trainer,), {"init_param": list(args.init_param)})
        task = type(cls.__name__, (cls,), {"trainer": trainer})
        super(StartingFromEncoder, task).main_worker(args)
