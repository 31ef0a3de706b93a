# SPDX-License-Identifier: Apache-2.0
"""The translator: an ESPnet ST model with ESPnet's beam search, as the recogniser is used."""

from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.errors import UsageError
from espnet_ext.espnet import fastimport
from espnet_ext.espnet.compat import quiet_import
from espnet_ext.espnet.loading import loading
from espnet_ext.espnet.recognise import LONGEST_S, BeamSearch


class Translator(BeamSearch):
    """ESPnet's beam search over the words of another language, one utterance after the other.

    Args:
        config: ``config.yaml`` of the training.
        model_file: Its checkpoint.
        options: Further arguments of ``espnet2.bin.st_inference.Speech2Text``.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        longest_s: Longer audio is cut at pauses.

    Raises:
        UsageError: An option that ``Speech2Text`` does not have, or a value that it cannot have.
    """

    def __init__(
        self,
        config: Path,
        model_file: Path,
        options: dict[str, Any],
        device: str = "cpu",
        longest_s: float = LONGEST_S,
    ):
        fastimport.enable()
        with quiet_import():
            import espnet2.bin.st_inference as st_inference

            from espnet_ext.espnet.search_options import check_translation

            check_translation(options, "translation")
            with loading(st_inference, "STTask", config):
                self._translate = st_inference.Speech2Text(
                    str(config), str(model_file), device=device, **options
                )
        super().__init__(self._translate.st_model, self._translate.st_train_args, longest_s)

    def _found(self, speech: np.ndarray) -> list[tuple]:
        found = self._translate(speech)
        if isinstance(found, tuple):
            raise UsageError("the model recognises before it translates", "midtrain", "a plain one")
        return found
