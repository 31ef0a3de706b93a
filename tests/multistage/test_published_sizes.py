# SPDX-License-Identifier: Apache-2.0
"""Shapes of the paper, and the sizes in millions that follow from them; nothing is computed."""

import pytest
import torch

from espnet_ext.conv1d4 import Conv1d4
from espnet_ext.frames import INPUT_LAYERS
from espnet_ext.multistage.audio_parts import TokenFrames
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.masking import kept_tokens
from espnet_ext.multistage.options import resolve


def millions(module):
    return sum(p.numel() for p in module.parameters()) / 1e6


@pytest.fixture(scope="module")
def paper():
    with torch.device("meta"):
        return AudioVisual(resolve({"objective": "mae+clr"}), features=80, width=256)


def test_parameters(paper):
    assert millions(paper.video_encoder) == pytest.approx(85.1, abs=0.05)
    assert millions(paper.video_patches.embed) == pytest.approx(1.2, abs=0.05)
    blocks = paper.decoder.blocks
    assert millions(blocks) == pytest.approx(12.6, abs=0.05) and len(blocks.blocks) == 4
    with torch.device("meta"):
        assert millions(Conv1d4(80, 256, torch.nn.Identity())) == pytest.approx(1.7, abs=0.05)


def test_shapes(paper):
    assert paper.at.lengths(torch.tensor([1000])).tolist() == [249]
    conv1d4 = TokenFrames(INPUT_LAYERS["conv1d4"]).lengths(torch.tensor([1000]))
    patches = torch.tensor([paper.video_patches.tokens])
    assert conv1d4.tolist() == [250] and patches.tolist() == [8 * 14 * 14]
    assert [kept_tokens(n, 0.6).item() for n in (conv1d4, patches)] == [100, 627]
    assert paper.audio_out[0].weight.shape == (768, 256) == paper.clr_audio.weight.shape
    assert paper.decoder.embed.weight.shape == (512, 768)
    outputs = {name: tuple(layer.weight.shape) for name, layer in paper.decoder.out.items()}
    assert outputs == {"audio": (4 * 80, 512), "video": (2 * 16 * 16 * 3, 512)}


@pytest.mark.parametrize(("units", "size"), [(2048, 41.2), (1024, 24.4)])
def test_parameters_of_the_conformer(units, size):
    from espnet_ext.espnet import fastimport

    fastimport.enable()
    from espnet2.asr.encoder.conformer_encoder import ConformerEncoder

    with torch.device("meta"):
        encoder = ConformerEncoder(
            80, 256, 4, units, num_blocks=16, macaron_style=True, rel_pos_type="latest",
            pos_enc_layer_type="abs_pos", selfattention_layer_type="selfattn",
        )  # fmt: skip
    assert millions(encoder.encoders) == pytest.approx(size, abs=0.05)
