# SPDX-License-Identifier: Apache-2.0
"""Which clip's picture is nearest to a sound, and the other way: top 1, under equal conditions.

A model may know a clip by what has nothing to do with mouth and sound: the speaker's skin, the
length of the clip. So the search is also among clips of the same speaker, and of about the same
length, and once with pictures that come half a second late, which a model that hears what it sees
finds no longer. NumPy only. Letters: C clips, E width of an embedding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from espnet_ext.scoring.pretraining import CONDITIONS

SAME_LENGTH = 0.1  # lengths that differ by less, relative to the clip looked for, are about equal


@dataclass(frozen=True)
class Found:
    """What each clip has found, in one way.

    Attributes:
        nearest: By condition, the number of the nearest clip ``(C,)``.
        among: By condition, how many clips it was looked for among ``(C,)``.
        late: The nearest where all pictures come late ``(C,)``.
    """

    nearest: dict[str, np.ndarray]
    among: dict[str, np.ndarray]
    late: np.ndarray

    def top1(self, condition: str = "all") -> float:
        """Return the share of clips that found their own."""
        return float((self.nearest[condition] == np.arange(len(self.late))).mean())

    def chance(self, condition: str = "all") -> float:
        """Return the share that guessing finds."""
        return float((1 / self.among[condition]).mean())

    def late_top1(self) -> float:
        """Return the share of clips that found their own although its picture came late."""
        return float((self.late == np.arange(len(self.late))).mean())


def retrieve(
    audio: np.ndarray,
    video: np.ndarray,
    late: np.ndarray,
    speakers: Sequence[str],
    seconds: Sequence[float],
) -> tuple[dict[str, Found], np.ndarray]:
    """Look for the other side of each clip.

    Args:
        audio: Embeddings of the sounds ``(C, E)``, of any length.
        video: Of the pictures ``(C, E)``.
        late: Of the pictures half a second late ``(C, E)``.
        speakers: Of each clip.
        seconds: Length of each clip.

    Returns:
        What was found from ``audio_to_video`` and ``video_to_audio``, and whether each clip's sound
        is nearer to its picture than to the late one ``(C,)`` bool.
    """
    a, v, shifted = (
        x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        for x in (audio, video, late)
    )
    names, length = np.asarray(speakers), np.asarray(seconds, dtype=float)
    same = names[:, None] == names
    near = np.abs(length[:, None] - length) <= SAME_LENGTH * length[:, None]
    allowed = dict(zip(CONDITIONS, (np.ones_like(same), same, same & near), strict=True))
    out = {}
    for way, close, late_close in (
        ("audio_to_video", a @ v.T, a @ shifted.T),
        ("video_to_audio", v @ a.T, shifted @ a.T),
    ):
        nearest = {k: np.where(m, close, -np.inf).argmax(1) for k, m in allowed.items()}
        among = {k: m.sum(1) for k, m in allowed.items()}
        out[way] = Found(nearest, among, late_close.argmax(1))
    return out, (a * v).sum(1) > (a * shifted).sum(1)
