# SPDX-License-Identifier: Apache-2.0
"""Pictures of a mouth follow the phones in time, and nothing else tells what was said."""

import numpy as np
import pytest

from espnet_ext.data.synth import mouth

PHONES = [("SIL", 0.0, 0.5), ("p", 0.5, 0.7), ("ɑː", 0.7, 1.2), ("f", 1.2, 1.5), ("SIL", 1.5, 2.0)]


def draw(seed=0, phones=PHONES, duration_s=2.0):
    return mouth.draw(phones, duration_s, np.random.default_rng(seed))


def dark(pictures):
    """Count the pixels of each frame that are the inside of a mouth."""
    return (pictures.mean(-1) < 60).sum((1, 2))


def test_frames_are_counted_by_duration_and_equal_seeds_give_equal_bytes():
    pictures = draw()
    assert pictures.shape == (50, 32, 32, 3) and pictures.dtype == np.uint8
    np.testing.assert_array_equal(pictures, draw())
    assert len(draw(duration_s=0.001)) == 1
    assert (draw(1)[5] != pictures[5]).mean() > 0.5


@pytest.mark.parametrize("seed", range(4))
def test_the_mouth_is_shut_in_p_and_open_in_a_at_their_times(seed):
    open_ = dark(draw(seed))
    assert (
        open_[15] < 0.2 * open_[24] and open_[24] > 60
    )  # the middles of p and a, at 0.6 and 0.95 s
    assert open_[34] < open_[24] / 3  # f
    assert np.ptp(open_[:11]) < 12  # at rest before the first phone, but for noise


def test_movement_passes_through_the_shapes_and_is_smooth():
    times = np.arange(0, 2, 0.01)
    found = mouth.movement(PHONES, 2.0, times)
    assert found.shape == (200, 3)
    np.testing.assert_allclose(found[95], mouth.shape_of("ɑː"), atol=1e-9)
    np.testing.assert_allclose(found[[0, 199]], [mouth.REST] * 2, atol=1e-9)
    assert np.abs(np.diff(found[:, 0])).max() < 0.25
    halfway = (mouth.shape_of("p").opening + mouth.shape_of("ɑː").opening) / 2
    assert found[70, 0] == pytest.approx(halfway, abs=0.1)  # not shifted: the border is halfway
