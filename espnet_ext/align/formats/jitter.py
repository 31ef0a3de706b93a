# SPDX-License-Identifier: Apache-2.0
"""Alignments made worse on purpose: how exact must the labels of a training be?"""

import zlib
from pathlib import Path

import numpy as np

from espnet_ext.align.formats.directory import AlignmentDir


def folder_name(jitter_ms: int) -> str:
    """Return the sub-folder of such labels, which ``aux.label_source`` names."""
    return f"jitter_{jitter_ms}"


class Jittered(AlignmentDir):
    """An alignment whose phone boundaries are moved at random.

    A boundary moves by a normal number of this standard deviation. Phones keep their order and a
    frame each; the states of a phone are stretched with it. The frames of an utterance are the
    same whatever is read of it, and however many others are read before.

    Args:
        path: The alignment directory.
        jitter_ms: Standard deviation.
        seed: Of the random numbers.
    """

    def __init__(self, path: Path | str, jitter_ms: float, seed: int = 1):
        super().__init__(path)
        self.sd_frames = jitter_ms / 1000 / self.header.frame_shift_s
        self.seed = seed

    def _read(self, name: str, utt: str) -> np.ndarray:
        read = super()._read
        phones, words = read("frame_phones", utt), read("frame_words", utt)
        moved = (phones[1:] != phones[:-1]) | (words[1:] != words[:-1])
        starts = np.concatenate([[0], np.flatnonzero(moved) + 1])
        rng = np.random.default_rng([self.seed, zlib.crc32(utt.encode())])
        return read(name, utt)[moved_frames(starts, len(phones), self.sd_frames, rng)]


def moved_frames(
    starts: np.ndarray, frames: int, sd_frames: float, rng: np.random.Generator
) -> np.ndarray:
    """Return the frame that each frame takes the label of.

    Args:
        starts: ``(P,)`` first frames of the phones, ascending, 0 the first.
        frames: T.
        sd_frames: Standard deviation of a boundary's move.
        rng: Random numbers.

    Returns:
        ``(T,)`` ascending.
    """
    place = np.arange(len(starts))
    drawn = np.sort(np.rint(starts + sd_frames * rng.standard_normal(len(starts))))
    # A frame for each phone: not before those that stand before it, nor after those behind it.
    new = np.maximum.accumulate(np.maximum(drawn, 0) - place) + place
    new = np.minimum(new, frames - len(starts) + place).astype(np.int64)
    new[0] = 0
    old_ends, new_ends = (np.append(s[1:], frames) for s in (starts, new))
    phone = np.repeat(place, new_ends - new)
    within = (np.arange(frames) - new[phone] + 0.5) / (new_ends - new)[phone]
    return starts[phone] + (within * (old_ends - starts)[phone]).astype(np.int64)
