# SPDX-License-Identifier: Apache-2.0
"""Boundaries of silence in time."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.formats.write import boundaries_s
from espnet_ext.align.search.segmentation import Segmentation


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(3, 20)), min_size=1, max_size=8),
    st.floats(0, 0.1),
    st.floats(0, 0.1),
)
def test_only_edges_of_silence_move_inward_and_order_stays(phones, early_s, late_s):
    ids = np.array([p for p, _ in phones], np.int16)
    durations = np.array([[1, 1, n - 2] for _, n in phones], np.int32)
    seg = Segmentation(ids, np.where(ids, 0, -1), durations)
    plain, got = seg.boundaries() * 0.01, boundaries_s(seg, 0.01, early_s, late_s)
    assert np.array_equal(boundaries_s(seg, 0.01), plain)
    assert (np.diff(got) > 0).all() and (got[0], got[-1]) == (plain[0], plain[-1])
    for i in range(1, len(ids)):
        a, b = ids[i - 1], ids[i]
        before, after = (plain[i] - plain[i - 1]) / 3, (plain[i + 1] - plain[i]) / 3
        want = min(early_s, after) if b and not a else -min(late_s, before) if a and not b else 0
        assert np.isclose(got[i] - plain[i], want)
