# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.search.flat import PAUSE_FRAMES, flat_start, sounding
from espnet_ext.errors import DataError


def one(*words):
    return [[(word, 0.0)] for word in words]


def energy(*parts):
    """Frames of (length, level)."""
    return np.concatenate([np.full(n, level, float) for n, level in parts])


def test_silence_at_the_ends_and_a_pause_are_silence():
    e = energy((20, 0), (30, 9), (15, 0), (60, 9), (25, 0))
    seg = flat_start(one((1, 2), (3,), (4, 5, 6)), e)
    assert seg.phones.tolist() == [0, 1, 2, 0, 3, 4, 5, 6, 0]
    assert seg.words.tolist() == [-1, 0, 0, -1, 1, 2, 2, 2, -1]
    b = seg.boundaries()
    assert np.abs(b[[1, 3, 4, 8]] - [20, 50, 65, 125]).max() <= 1


def test_a_short_gap_is_no_pause():
    e = energy((20, 0), (30, 9), (PAUSE_FRAMES - 2, 0), (30, 9), (20, 0))
    assert flat_start(one((1,), (2,)), e).phones.tolist() == [0, 1, 2, 0]


def test_the_first_pronunciation_is_taken():
    assert flat_start([[((1, 2), -0.7), ((5,), -0.7)]], np.ones(12)).phones.tolist() == [1, 2]


@pytest.mark.parametrize("prons", [[[]], [[((), 0.0)]]])
def test_words_that_cannot_be_pronounced(prons):
    with pytest.raises(DataError, match="word 0"):
        flat_start(prons, np.ones(20))


levels = st.lists(st.tuples(st.integers(1, 40), st.floats(-90, 20)), min_size=1, max_size=8)
sentences = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=6)


@given(levels, sentences)
def test_every_state_has_a_frame_and_no_frame_is_lost(parts, words):
    e = energy(*parts)
    seg = flat_start(one(*map(tuple, words)), e)
    states = 3 * sum(map(len, words))
    if seg is None:
        assert states > len(e)
        return
    assert seg.frames == len(e) and seg.durations.min() >= 1
    spoken = seg.words >= 0
    assert seg.phones[spoken].tolist() == [p for w in words for p in w]
    assert seg.words[spoken].tolist() == [i for i, w in enumerate(words) for _ in w]


@given(levels)
def test_sounding_parts_are_apart_and_inside(parts):
    e = energy(*parts)
    found = sounding(e)
    flat = [x for part in found for x in part]
    assert flat == sorted(flat) and flat[0] >= 0 and flat[-1] <= len(e)
    assert all(a < b for a, b in found)
