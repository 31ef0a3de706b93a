# SPDX-License-Identifier: Apache-2.0
"""Pictures of reconstructions: what was seen is the original, what was hidden the prediction."""

import numpy as np
import pytest
import torch

from espnet_ext.multistage.mae_loss import normalised
from espnet_ext.multistage.pictures import denormalised, frames, save, spectrograms
from espnet_ext.multistage.video_patches import VideoPatches

HIDDEN = torch.tensor([True, False, True, False])


def test_spectrograms_hold_frames_in_their_order():
    target = torch.arange(4 * 4 * 5.0).view(4, 20)
    original, seen, filled = spectrograms(target, -target, HIDDEN, 5)
    assert original[:, 6].tolist() == [30, 31, 32, 33, 34]
    assert np.isnan(seen[:, :4]).all() and np.array_equal(seen[:, 4:8], original[:, 4:8])
    assert np.array_equal(filled[:, 8:12], -original[:, 8:12])
    assert np.array_equal(filled[:, 12:], original[:, 12:])


def test_a_perfect_prediction_is_the_clip(tmp_path):
    patches = VideoPatches(2, 8, (2, 4, 4), 4)
    video = torch.randint(0, 256, (1, 2, 8, 8, 3), dtype=torch.uint8)
    target = patches.targets(video)[0]
    original, seen, filled = frames(
        target, denormalised(normalised(target), target), HIDDEN, patches, 8
    )
    assert np.array_equal(original, video[0].numpy()) and np.array_equal(filled, original)
    assert (seen[:, :4, :4] == 115).all()  # 0.45 of 255
    assert np.array_equal(seen[:, :4, 4:], original[:, :4, 4:])
    pytest.importorskip("matplotlib")
    sound = spectrograms(torch.randn(4, 20), torch.randn(4, 20), HIDDEN, 5)
    for name, shown in (("both", np.stack([original, seen, filled])), ("audio", None)):
        save(tmp_path / "new" / f"{name}.png", "clip", sound, shown)
        assert (tmp_path / "new" / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
