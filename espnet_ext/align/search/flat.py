# SPDX-License-Identifier: Apache-2.0
"""The flat start: where phones lie before there is any model, guided by the energy.

Spreading all phones evenly from the first to the last frame leaves it to chance how much silence
the phones at both ends of an utterance take over; a phone that mostly stands there never gets rid
of it. So frames of low energy at the ends, and pauses inside, are silence from the beginning; only
the words between two pauses are spread evenly.
"""

from collections.abc import Sequence

import numpy as np

from espnet_ext.align.search.graph import Prons
from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.errors import DataError
from espnet_ext.lang.phones import SILENCE_ID, STATES

SPEECH_LEVEL = 0.3  # of the way from the quiet (5 %) to the loud (95 %) frames of an utterance
PAUSE_FRAMES = 10  # shorter gaps may be closures of stops


def flat_start(prons: Prons, energy: np.ndarray) -> Segmentation | None:
    """Spread the first pronunciation of each word over the parts that sound.

    Args:
        prons: Pronunciations of each word, as for :func:`~.graph.make_lattice`.
        energy: ``(T,)`` log energy of each frame, on any scale.

    Returns:
        The segmentation, or None if not every state gets a frame.

    Raises:
        DataError: A word has no pronunciation.
    """
    for w, variants in enumerate(prons):
        if not variants or not variants[0][0]:
            raise DataError(f"word {w} of the transcript has no pronunciation", "lexicon")
    words = [variants[0][0] for variants in prons]
    needs = [STATES * len(word) for word in words]
    parts = sounding(energy)
    for kept in (parts, [(parts[0][0], parts[-1][1])], [(0, len(energy))]):
        shares = _share_words(needs, [end - start for start, end in kept])
        if shares is not None:
            return _build(words, kept, shares, len(energy))
    return None


def sounding(energy: np.ndarray) -> list[tuple[int, int]]:
    """Return the frame ranges that sound, at least one; what is between them is a pause."""
    low, high = np.percentile(energy, 5), np.percentile(energy, 95)
    loud = np.flatnonzero(energy > low + SPEECH_LEVEL * (high - low))
    if not len(loud):
        return [(0, len(energy))]
    gaps = np.flatnonzero(np.diff(loud) > PAUSE_FRAMES)
    starts = [loud[0], *loud[gaps + 1]]
    ends = [*(loud[gaps] + 1), loud[-1] + 1]
    # A frame on either side: the energy rises and falls in the course of a phone.
    parts = [
        (max(0, int(a) - 1), min(len(energy), int(b) + 1))
        for a, b in zip(starts, ends, strict=True)
    ]
    first, last = parts[0][0], parts[-1][1]
    parts[0] = (first if first >= STATES else 0, parts[0][1])
    rest = len(energy) - last
    parts[-1] = (parts[-1][0], last if rest >= STATES else len(energy))
    return parts


def _share_words(needs: Sequence[int], lengths: Sequence[int]) -> list[int] | None:
    """Return how many words each part takes, in proportion to the states; None if too short.

    Parts in which no word fits are handed over: they take 0 words.
    """
    ends = np.cumsum([0, *needs])
    sound = np.cumsum(lengths) / max(1, sum(lengths)) * ends[-1]
    shares, first = [], 0
    for i, length in enumerate(lengths):
        last = len(needs)
        if i + 1 < len(lengths):
            last = max(first, int(np.abs(ends - sound[i]).argmin()))
            while last > first and ends[last] - ends[first] > length:
                last -= 1
        if ends[last] - ends[first] > length:
            return None
        shares.append(last - first)
        first = last
    return shares


def _build(
    words: Sequence[Sequence[int]], parts: list[tuple[int, int]], shares: list[int], frames: int
) -> Segmentation:
    phones, owner, durations = [], [], []
    first, silent_from = 0, 0
    for (start, end), share in zip(parts, shares, strict=True):
        own = [(p, w) for w in range(first, first + share) for p in words[w]]
        first += share
        if not own:
            continue  # its frames belong to the pause around it
        if start - silent_from >= STATES:
            _put(phones, owner, durations, [(SILENCE_ID, -1)], start - silent_from)
        else:
            start = silent_from
        _put(phones, owner, durations, own, end - start)
        silent_from = end
    if frames - silent_from >= STATES:
        _put(phones, owner, durations, [(SILENCE_ID, -1)], frames - silent_from)
    elif durations:
        durations[-1][-1] += frames - silent_from
    return Segmentation(
        np.array(phones, np.int16), np.array(owner, np.int32), np.array(durations, np.int32)
    )


def _put(phones: list, owner: list, durations: list, items: list, frames: int) -> None:
    """Append phones that share ``frames`` evenly."""
    cuts = np.arange(STATES * len(items) + 1) * frames // (STATES * len(items))
    phones += [p for p, _ in items]
    owner += [w for _, w in items]
    durations += np.diff(cuts).reshape(-1, STATES).tolist()
