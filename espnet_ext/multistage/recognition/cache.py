# SPDX-License-Identifier: Apache-2.0
"""Outputs of a frozen encoder, kept in memory: each batch is encoded once in a training.

What is kept is a *batch*, with its padding, because the convolutions of a Conformer look at padded
frames: the same utterance beside another one has slightly other outputs. ESPnet makes the same
batches in every epoch, so a loss with the cache is bit-equal to one without. Letters: B utterances,
L samples, N tokens of width D.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from espnet_ext.progress import progress_log

Encoded = tuple[Tensor, Tensor]  # (B, N, D), lengths (B,)
_MB = 1 << 20


class EncodedBatches:
    """See the module's text.

    Args:
        limit_mb: What does not fit in any more is encoded every time.

    Attributes:
        computed: Batches that were encoded.
        found: Batches that were not.
        off: Nothing is kept any more: the sound of an utterance changes in the training.
    """

    def __init__(self, limit_mb: float):
        self.left = limit_mb * _MB
        self.computed, self.found, self.off = 0, 0, False
        self._kept: dict[tuple[str, ...], tuple[tuple, Encoded]] = {}

    def of(
        self,
        ids: tuple[str, ...],
        speech: Tensor,
        lengths: Tensor,
        encode: Callable[[Tensor, Tensor], Encoded],
    ) -> Encoded:
        """Return the encoded batch.

        Args:
            ids: Utterances of the batch, in its order.
            speech: ``(B, L)``.
            lengths: ``(B,)``.
            encode: Makes it of speech and lengths.
        """
        if self.off:
            return encode(speech, lengths)
        now = _fingerprint(speech, lengths)
        before, kept = self._kept.get(ids, (now, None))
        if before != now:
            self.off = True
            self._kept.clear()
            progress_log.info(
                f"the sound of '{ids[0]}' changes from epoch to epoch: the frozen encoder is "
                "computed every time"
            )
        elif kept is not None:
            self.found += 1
            return kept[0].to(speech.device), kept[1].to(speech.device)
        with torch.no_grad():
            encoded = encode(speech, lengths)
        self.computed += 1
        if not self.off and isinstance(encoded[0], Tensor):  # else with intermediate outputs
            size = encoded[0].numel() * encoded[0].element_size()
            if size <= self.left:
                self.left -= size
                self._kept[ids] = now, (encoded[0].cpu(), encoded[1].cpu())
        return encoded


def _fingerprint(speech: Tensor, lengths: Tensor) -> tuple:
    exact = speech.double()
    return tuple(speech.shape), *lengths.tolist(), float(exact.sum()), float(exact.square().sum())
