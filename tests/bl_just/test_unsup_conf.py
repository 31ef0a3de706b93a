# SPDX-License-Identifier: Apache-2.0
"""Options of the unsupervised losses: defaults, mistakes, no torch needed to find them."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from espnet_ext import bl_just
from espnet_ext.bl_just.options import resolve
from espnet_ext.bl_just.unsup import build_unsup
from espnet_ext.bl_just.unsup_conf import UNSUP, UNSUP_LOSSES, unsup_conf
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


OWN_LOSS = """
from dataclasses import dataclass
from espnet_ext.bl_just.unsup_base import UnsupLoss, as_scalar

@dataclass(frozen=True)
class Conf:
    power: float = 2.0

class Energy(UnsupLoss):
    stat_names = ("energy",)
    conf_class = Conf
    min_frames = 3

    def __init__(self, feature_dim, hidden_dim, conf, frame_shift_s=0.01, stride=None):
        super().__init__(feature_dim, hidden_dim, conf, frame_shift_s, stride)
        self.power = conf.power

    def loss(self, encoder, x, lengths):
        h, h_lengths = self.encode(encoder, x, lengths)
        g = h.abs().pow(self.power).mean()
        return g, {"energy": g, "queries": h_lengths.sum()}
"""


def test_a_loss_of_ones_own_is_one_file_and_its_name(tmp_path, monkeypatch):
    (tmp_path / "own_loss.py").write_text(OWN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    section = {"unsup_loss": "own_loss:Energy", "unsup_conf": {"power": 1}}
    conf = resolve(section)
    loss = build_unsup(conf.unsup_loss, conf.unsup_options, 4, 4)
    g, told = loss(lambda x, n: (x, n), torch.full((2, 5, 4), -2.0), torch.tensor([5, 2]))
    assert g == told["energy"] == 2 and told["queries"] == 5 and told["skipped"] == 1
    for change, told in (
        ({"unsup_conf": {"pwer": 1}}, "did you mean 'power'"),
        ({"unsup_loss": "own_loss:Energi"}, "has no 'Energi'"),
        ({"unsup_loss": "own_loss:Conf"}, "extend espnet_ext.bl_just.unsup_base.UnsupLoss"),
        ({"unsup_loss": "cpc"}, "bl_just.cpc; unsup_conf is for"),
        ({"unsup_loss": "cpcc", "unsup_conf": {}}, "did you mean 'cpc'"),
    ):
        with pytest.raises(UsageError) as caught:
            resolve(section | change)
        assert told in str(caught.value)


def test_a_loss_is_registered_in_one_place():
    """Sections, choices and classes follow from the table."""
    assert set(UNSUP) <= set(vars(resolve({})))
    package = Path(bl_just.__file__).parent
    naming = {p.name for p in package.glob("*.py") if '"best_rq"' in p.read_text()}
    assert naming == {"unsup_conf.py"}
