# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR task with an encoder that really stands still (``multistage.freeze``).

ESPnet's ``freeze_param`` clears ``requires_grad`` alone: dropout of the frozen blocks stays on, and
the running statistics of their batch normalisation go on moving. The model stays a stock one.
"""

import argparse
from typing import Self

from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction

from espnet_ext.errors import UsageError
from espnet_ext.espnet.task import ExtTask
from espnet_ext.multistage.recognition.options import resolve
from espnet_ext.multistage.starting import StartingFromEncoder

# What makes frames for the decoder; `specaug` has no parameters and stays as it is.
FROZEN = ("frontend", "normalize", "preencoder", "encoder")


class RecognitionModel(ESPnetASRModel):
    """ESPnet's model, of which parts never change."""

    frozen: tuple[str, ...] = ()

    def init_extension(self, args: argparse.Namespace) -> None:
        """Take the frozen parts out of training.

        Args:
            args: Of the training; their section ``multistage`` says what is frozen.
        """
        if resolve(args.multistage).freeze == "none":
            return
        if not hasattr(self, "encoder"):
            raise UsageError("there is no encoder to freeze", "multistage.freeze", "none")
        found = (name for name in FROZEN if getattr(self, name, None) is not None)
        self.frozen = tuple(found)
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, the frozen parts excepted: they always compute as in inference."""
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self


class RecognitionTask(StartingFromEncoder, ExtTask, ASRTask):
    """The phase finetune; see the module's text."""

    model_class = RecognitionModel

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Multi-stage (espnet_ext)")
        group.add_argument(
            "--multistage", action=NestedDictAction, default={}, help="freeze=encoder|none"
        )
