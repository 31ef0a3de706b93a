# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR task with an encoder that really stands still (``multistage.freeze``).

ESPnet's ``freeze_param`` clears ``requires_grad`` alone: dropout of the frozen blocks stays on, and
the running statistics of their batch normalisation go on moving. The model stays a stock one.
"""

import argparse
from typing import Any, Self

from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.tasks.asr import ASRTask
from espnet2.utils.nested_dict_action import NestedDictAction
from torch import Tensor

from espnet_ext.errors import UsageError
from espnet_ext.espnet.task import ExtTask
from espnet_ext.multistage.recognition.cache import EncodedBatches
from espnet_ext.multistage.recognition.options import resolve
from espnet_ext.multistage.starting import EncoderTrainer, StartingFromEncoder
from espnet_ext.progress import progress_log

# What makes frames for the decoder; `specaug` has no parameters and stays as it is.
FROZEN = ("frontend", "normalize", "preencoder", "encoder")


class RecognitionModel(ESPnetASRModel):
    """ESPnet's model, of which parts never change."""

    frozen: tuple[str, ...] = ()
    encoded: EncodedBatches | None = None
    _ids: tuple[str, ...] = ()

    def init_extension(self, args: argparse.Namespace) -> None:
        """Take the frozen parts out of training.

        Args:
            args: Of the training; their section ``multistage`` says what is frozen.
        """
        conf = resolve(args.multistage)
        if conf.freeze == "none":
            return
        if not hasattr(self, "encoder"):
            raise UsageError("there is no encoder to freeze", "multistage.freeze", "none")
        found = (name for name in FROZEN if getattr(self, name, None) is not None)
        self.frozen = tuple(found)
        for name in self.frozen:
            getattr(self, name).requires_grad_(False)
        self.train(self.training)
        if conf.cache_mb and not self.why_not_kept():
            self.encoded = EncodedBatches(conf.cache_mb)

    def why_not_kept(self) -> str:
        """Return why outputs of the encoder cannot be kept; an empty text if they can."""
        if not self.frozen:
            return "the encoder is trained"
        if self.specaug is not None:
            return "specaug changes its input in every epoch"
        return "there is a postencoder, which is trained" if self.postencoder is not None else ""

    def forward(self, *args: Any, utt_id: Any = None, **kwargs: Any) -> Any:
        """Compute the loss as ESPnet's model does; the encoder may have seen the batch already."""
        self._ids = tuple(utt_id or ())
        try:
            return super().forward(*args, **kwargs)
        finally:
            self._ids = ()

    def encode(self, speech: Tensor, speech_lengths: Tensor) -> Any:
        """Return what the encoder makes of speech ``(B, L)``, see ESPnet's model."""
        if self.encoded is None or not self._ids:
            return super().encode(speech, speech_lengths)
        return self.encoded.of(self._ids, speech, speech_lengths, super().encode)

    def train(self, mode: bool = True) -> Self:
        """Switch to training, the frozen parts excepted: they always compute as in inference."""
        super().train(mode)
        for name in self.frozen:
            getattr(self, name).eval()
        return self


class RecognitionTrainer(EncoderTrainer):
    """Tells whether outputs of the encoder are kept."""

    @classmethod
    def _check_start(cls, model: Any) -> None:
        super()._check_start(model)
        bare = getattr(model, "module", model)
        if bare.encoded is not None:
            progress_log.info("the frozen encoder is computed once, its outputs are kept in memory")
        elif bare.frozen and (why := bare.why_not_kept()):
            progress_log.info(f"the frozen encoder is computed in each epoch, as {why}")


class RecognitionTask(StartingFromEncoder, ExtTask, ASRTask):
    """The phase finetune; see the module's text."""

    model_class = RecognitionModel
    trainer = RecognitionTrainer

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        super().add_task_arguments(parser)
        group = parser.add_argument_group("Multi-stage (espnet_ext)")
        group.add_argument(
            "--multistage",
            action=NestedDictAction,
            default={},
            help="freeze=encoder|none, cache_mb=N",
        )
