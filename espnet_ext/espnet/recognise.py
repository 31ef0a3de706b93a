# SPDX-License-Identifier: Apache-2.0
"""An ESPnet ASR model that is loaded once and recognises many batches, n-best."""

import logging
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.infer import GreedyCTC, _sampling_rate

Hypothesis = tuple[str, float | None]  # text, log score


class Recogniser(Protocol):
    """What recognises.

    Attributes:
        fs: Sampling rate of the model in Hz.
    """

    fs: int

    def __call__(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        """Recognise a batch.

        Args:
            speech: B arrays ``(N_b,)`` float32 at ``fs``.

        Returns:
            B lists of at least one hypothesis, best first.
        """


class Greedy:
    """Best path of the CTC branch, batched; there is one hypothesis, without a score."""

    def __init__(self, config: Path, model_file: Path, device: str = "cpu"):
        with quiet_import():
            self._recognise = GreedyCTC(config, model_file, device)
        self.fs = self._recognise.fs

    def __call__(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        try:
            return [[(text, None)] for text in self._recognise(speech)]
        except TooShortUttError as e:  # the longest of the batch is shorter than a frame
            logging.warning(f"too short to recognise: {e}")
            return [[("", None)] for _ in speech]


class Beam:
    """ESPnet's own beam search, one utterance after the other.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        options: Further arguments of ``espnet2.bin.asr_inference.Speech2Text``.
        nbest: Hypotheses of an utterance, at most.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: An option that ``Speech2Text`` does not have.
    """

    def __init__(
        self, config: Path, model_file: Path, options: dict, nbest: int = 1, device: str = "cpu"
    ):
        fastimport.enable()
        with quiet_import():
            from espnet2.bin.asr_inference import Speech2Text
        try:
            self._recognise = Speech2Text(
                str(config), str(model_file), device=device, nbest=nbest, **options
            )
        except TypeError as e:
            if "unexpected keyword" not in str(e):
                raise
            how = "give options of espnet2.bin.asr_inference.Speech2Text"
            raise UsageError(f"beam search: {e}", "beam_args", how) from None
        self.fs = _sampling_rate(self._recognise.asr_train_args)

    def __call__(self, speech: list[np.ndarray]) -> list[list[Hypothesis]]:
        return [self._one(x) for x in speech]

    def _one(self, speech: np.ndarray) -> list[Hypothesis]:
        from espnet2.legacy.nets.pytorch_backend.transformer.subsampling import TooShortUttError

        try:
            found: Any = self._recognise(speech)
        except TooShortUttError as e:
            logging.warning(f"too short to recognise: {e}")
            return [("", None)]
        if isinstance(found, tuple):  # with the guesses of intermediate layers
            found = found[0]
        return [(text or "", float(hyp.score)) for text, _, _, hyp in found] or [("", None)]


def load_recogniser(
    config: Path, model_file: Path, beam: dict | None = None, nbest: int = 1, device: str = "cpu"
) -> Recogniser:
    """Load a model: greedy CTC search where ``beam`` is None, else ESPnet's beam search.

    Raises:
        UsageError: Several hypotheses are asked of the greedy search.
    """
    if beam is not None:
        return Beam(config, model_file, beam, nbest, device)
    if nbest > 1:
        raise UsageError("greedy search has one hypothesis", "nbest", "give a beam size")
    return Greedy(config, model_file, device)
