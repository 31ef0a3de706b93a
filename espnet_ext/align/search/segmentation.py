# SPDX-License-Identifier: Apache-2.0
"""An alignment that belongs to no tree: phones with the durations of their HMM states.

The tied states of any decision tree follow from it (:meth:`Segmentation.pdfs`), so changing the
tree or the features converts an alignment without a search.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from espnet_ext.lang.phones import SILENCE_ID, STATES, PhoneSet

PdfOf = Callable[[int, int, int, int], int]
"""``(left phone, phone, right phone, state) -> pdf``; beyond the ends of an utterance is SIL."""


@dataclass(frozen=True)
class Segmentation:
    """Phones of an utterance in time; P phones, T frames.

    Args:
        phones: ``(P,)`` phone ids.
        words: ``(P,)`` index of the word in the transcript, -1 for silence.
        durations: ``(P, 3)`` frames in each HMM state, all at least 1.
        loglik: Log-likelihood of the path (natural logarithm, emissions and transitions).
    """

    phones: np.ndarray
    words: np.ndarray
    durations: np.ndarray
    loglik: float = 0.0

    @property
    def frames(self) -> int:
        """T."""
        return int(self.durations.sum())

    def boundaries(self) -> np.ndarray:
        """Return ``(P + 1,)`` frame numbers: phone p is frames ``[b[p], b[p + 1])``."""
        return np.concatenate([[0], np.cumsum(self.durations.sum(1))]).astype(np.int64)

    def frame_phones(self) -> np.ndarray:
        """Return ``(T,)`` phone ids."""
        return np.repeat(self.phones, self.durations.sum(1))

    def frame_words(self) -> np.ndarray:
        """Return ``(T,)`` word indices, -1 for silence."""
        return np.repeat(self.words, self.durations.sum(1))

    def whole(self, phones: PhoneSet) -> "Segmentation":
        """Return the same alignment in whole phones: the two halves of a long one are one again.

        Its six states become three, two by two. Tied states come from the halves, not from these.

        Args:
            phones: The set of these phones, with halves; the result's is ``phones.whole``.
        """
        ends, durations = phones.ends[self.phones], self.durations
        if ends.any():
            second = np.flatnonzero(ends)
            six = np.concatenate([durations[second - 1], durations[second]], axis=1)
            durations = durations.copy()
            durations[second - 1] = six.reshape(-1, STATES, 2).sum(2)
        ids = phones.whole_ids[self.phones[~ends]]
        return Segmentation(ids, self.words[~ends], durations[~ends], self.loglik)

    def state_runs(self, pdf_of: PdfOf) -> np.ndarray:
        """Return ``(P, 3)`` tied states."""
        left = np.concatenate([[SILENCE_ID], self.phones[:-1]])
        right = np.concatenate([self.phones[1:], [SILENCE_ID]])
        rows = [
            [pdf_of(int(a), int(p), int(b), s) for s in range(STATES)]
            for a, p, b in zip(left, self.phones, right, strict=True)
        ]
        return np.asarray(rows, dtype=np.int32).reshape(-1, STATES)

    def pdfs(self, pdf_of: PdfOf) -> np.ndarray:
        """Return ``(T,)`` tied states of every frame, int32."""
        return np.repeat(self.state_runs(pdf_of).ravel(), self.durations.ravel())
