# SPDX-License-Identifier: Apache-2.0
"""Halves of long phones are put together without moving a boundary."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.search.segmentation import Segmentation
from espnet_ext.lang.phones import PhoneSet

OWN = PhoneSet(("SIL", "AY|1", "AY|2", "T"))
UNITS = {"SIL": [0], "AY": [1, 2], "T": [3]}
STATES = st.lists(st.integers(1, 9), min_size=3, max_size=3)


@given(st.data())
def test_whole_phones_keep_words_and_boundaries(data):
    names = data.draw(st.lists(st.sampled_from(sorted(UNITS)), max_size=6))
    units, owner, durations = [], [], []
    for w, name in enumerate(names):
        units += UNITS[name]
        owner += [w] * len(UNITS[name])
        durations += [data.draw(STATES) for _ in UNITS[name]]
    seg = Segmentation(
        np.array(units, np.int16),
        np.array(owner, np.int32),
        np.array(durations, np.int32).reshape(-1, 3),
        -3.5,
    )
    got = seg.whole(OWN)
    assert [OWN.whole.names[p] for p in got.phones] == names
    assert got.words.tolist() == list(range(len(names))) and got.loglik == -3.5
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    assert got.boundaries().tolist() == [*seg.boundaries()[starts], seg.frames]
    assert got.frames == seg.frames and (got.durations >= 1).all()
    assert got.durations.shape == (len(names), 3)
