# SPDX-License-Identifier: Apache-2.0
"""Options of the unsupervised losses: defaults, mistakes, no torch needed to find them."""

import subprocess
import sys

import pytest

from espnet_ext.bl_just.unsup import build_unsup
from espnet_ext.bl_just.unsup_conf import UNSUP_LOSSES, unsup_conf
from espnet_ext.errors import UsageError


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("cpd", {}, "did you mean 'cpc'"),
        ("cpc", {"temprature": 0.1}, "did you mean 'temperature'"),
        ("cpc", {"temperature": 0}, "more than 0"),
        ("cpc", {"temperature": float("nan")}, "bl_just.cpc.temperature"),
        ("cpc", {"hop_s": -1.0}, "bl_just.cpc.hop_s"),
        ("cpc", {"max_queries": 1}, "bl_just.cpc.max_queries"),
        ("cpc", {"max_queries": 2.5}, "bl_just.cpc.max_queries"),
        ("cpc", {"stop_grad": 1}, "bl_just.cpc.stop_grad"),
        ("cpc", ["temperature"], "bl_just.cpc"),
        ("wav2vec2", {"mask_prob": 1.0}, "less than 1"),
        ("wav2vec2", {"mask_prob": 0}, "bl_just.wav2vec2.mask_prob"),
        ("wav2vec2", {"diversity_weight": -0.1}, "0 or more"),
        ("wav2vec2", {"codebooks": 3}, "a multiple of codebooks"),
        ("best_rq", {"codes": 1}, "bl_just.best_rq.codes"),
        ("best_rq", {"noise_std": "loud"}, "bl_just.best_rq.noise_std"),
    ],
)
def test_mistakes_are_named(name, options, told):
    with pytest.raises(UsageError) as caught:
        build_unsup(name, options, 4, 4)
    assert told in str(caught.value)


def test_what_may_be_zero_or_absent():
    assert unsup_conf("best_rq", {"noise_std": 0, "seed": 0}).noise_std == 0
    assert unsup_conf("wav2vec2", {"diversity_weight": 0}).diversity_weight == 0
    assert unsup_conf("cpc", {"max_queries": None, "temperature": "1e-1"}).temperature == 0.1


@pytest.mark.parametrize(("frame_shift_s", "stride"), [(0.01, 4), (0.008, 4), (0.016, 2)])
@pytest.mark.parametrize("name", UNSUP_LOSSES)
def test_shortest_utterance_in_frames_is_that_in_seconds(name, frame_shift_s, stride):
    loss = build_unsup(name, None, 4, 4, frame_shift_s, stride)
    seconds = unsup_conf(name).min_s
    assert loss.min_frames * frame_shift_s == pytest.approx(seconds, abs=2 * frame_shift_s)


def test_torch_is_not_needed():
    code = "import sys, espnet_ext.bl_just.unsup_conf; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
