# SPDX-License-Identifier: Apache-2.0
"""Alignment from Python: arrays in, words and phones with times out.

::

    aligner = Aligner.from_folder("exp/ali")
    for word in aligner.align(samples, 16000, "turn the lights on").words:
        print(word.start_s, word.end_s, word.name)
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from espnet_ext.align.formats.sources import open_alignment
from espnet_ext.align.formats.tiers import Utterance
from espnet_ext.align.inputs import plain_words
from espnet_ext.align.model import AlignModel, find
from espnet_ext.align.run import apply_aligner
from espnet_ext.data.tables import write_set
from espnet_ext.errors import DataError

UTT = "utterance"


class Aligner:
    """A trained model that aligns one utterance after the other.

    Each is a speaker of its own: the means of its features are subtracted.

    Args:
        model: A trained aligner; see :meth:`from_folder`.
        **options: Other options than those of training, e.g. ``lexicon``, ``oov``, ``channel``.
    """

    def __init__(self, model: AlignModel, **options: Any):
        self.model, self.options = model, options

    @classmethod
    def from_folder(cls, folder: Path | str, **options: Any) -> "Aligner":
        """Open OUT of ``espnet-ext align train``, or its model folder.

        Raises:
            DataError: There is no aligner.
        """
        return cls(find(folder), **options)

    def align(self, speech: np.ndarray, rate: int, text: str) -> Utterance:
        """Align one utterance.

        Args:
            speech: ``(N,)`` or ``(N, channels)``, floats within [-1, 1] or 16-bit integers.
            rate: Samples per second, any; the model's is made of it.
            text: Its words; punctuation around them is left out.

        Returns:
            ``words`` without silence and ``phones`` with it, each with ``start_s``, ``end_s`` and
            ``name``.

        Raises:
            DataError: It cannot be aligned: no speech, too short for its words, a word that has no
                pronunciation.
        """
        speech = np.asarray(speech)
        if speech.ndim not in (1, 2) or (speech.ndim == 2 and speech.shape[1] > speech.shape[0]):
            what = f"speech has the shape {speech.shape}"
            raise DataError(what, "align", "give (samples,) or (samples, channels)")
        threads = torch.get_num_threads()
        try:
            with tempfile.TemporaryDirectory() as tmp:
                return self._align(Path(tmp), speech, rate, plain_words(text))
        except DataError as e:
            raise DataError(
                e.what.removeprefix("no utterance can be aligned: "), "align", e.how
            ) from e
        finally:
            torch.set_num_threads(threads)  # the aligner's work takes one

    def _align(self, tmp: Path, speech: np.ndarray, rate: int, text: str) -> Utterance:
        soundfile.write(tmp / "speech.wav", speech, rate, subtype="FLOAT")
        write_set(tmp / "data", {UTT: (str(tmp / "speech.wav"), text, UTT)})
        options = {**self.options, "textgrid": False}
        out = tmp / "alignment"
        apply_aligner(
            self.model, tmp / "data", out, tmp / "work", map, lambda line: None, **options
        )
        return open_alignment(out).utterances[UTT]
