# SPDX-License-Identifier: Apache-2.0
"""The input layer conv1d4 in plain torch: the paper's counts, padding, what tokens stand for."""

import pytest
import torch
from small_conformer import FEATURES, WIDTH, SmallConformer, conf
from torch import nn

from espnet_ext.conv1d4 import Conv1d4
from espnet_ext.frames import INPUT_LAYERS, length_after
from espnet_ext.multistage.audio_parts import TokenFrames, subsample
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.masking import random_mask

STEPS = INPUT_LAYERS["conv1d4"]


def layer(seed=0):
    torch.manual_seed(seed)
    return Conv1d4(FEATURES, WIDTH, nn.Identity()).double()


def small_encoder():
    encoder = SmallConformer().double()
    encoder.embed = layer()
    return encoder


def test_the_counts_of_the_paper():
    tokens, mask = Conv1d4(80, 256, nn.Identity())(
        torch.randn(1, 1000, 80), torch.ones(1, 1, 1000).bool()
    )
    assert tokens.shape == (1, 250, 256) and mask.shape == (1, 1, 250) and mask.all()
    hidden = random_mask(torch.tensor([250]), 0.6, torch.Generator().manual_seed(0))
    assert hidden.keep.shape == (1, 100) and int(hidden.scored.sum()) == 150
    count = sum(p.numel() for p in Conv1d4(80, 256, nn.Identity()).parameters())
    assert count == (80 * 5 + 1) * 1024 + (512 * 5 + 1) * 512  # some 1.7 million


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 8, 13, 998, 1001])
def test_lengths_are_those_of_the_account_of_frames(frames):
    tokens, mask = layer()(torch.randn(1, frames, FEATURES).double(), None)
    assert tokens.shape[1] == length_after(STEPS, frames) == -(-frames // 4) and mask is None
    valid = torch.ones(1, 1, frames).bool()
    assert layer()(torch.zeros(1, frames, FEATURES).double(), valid)[1].shape[2] == tokens.shape[1]


def test_padding_changes_nothing():
    x, lengths = torch.randn(3, 40, FEATURES).double(), torch.tensor([40, 33, 9])
    mask = torch.arange(40) < lengths[:, None]
    tokens, valid = layer()(x, mask[:, None])  # what is padded is not even zero
    for i, n in enumerate(lengths.tolist()):
        alone, _ = layer()(x[i : i + 1, :n], mask[i : i + 1, None, :n])
        assert int(valid[i].sum()) == alone.shape[1]
        torch.testing.assert_close(tokens[i, : alone.shape[1]], alone[0])


def test_a_token_sees_six_frames_on_either_side_of_its_own():
    x = torch.randn(1, 60, FEATURES).double().requires_grad_()
    layer()(x, None)[0][0, 7].sum().backward()
    seen = x.grad[0].abs().sum(1).nonzero().flatten().tolist()
    assert seen == list(range(28 - 6, 28 + 6 + 1))


def test_a_token_stands_for_four_frames_and_none_beyond_the_end():
    at = TokenFrames(STEPS)
    assert (at.first, at.stride) == (0, 4)
    assert at.lengths(torch.tensor([1000, 998, 4, 3, 0])).tolist() == [250, 249, 1, 0, 0]
    feats = torch.arange(8.0)[None, :, None].expand(1, 8, FEATURES)
    assert at.targets(feats, 2)[0, :, ::FEATURES].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    hidden = at.hide(feats, torch.tensor([[False, True]]))
    assert hidden[0, :, 0].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]
    conv2d = TokenFrames()
    frames = torch.arange(7, 60)
    counted = [length_after(conv2d.steps, n) for n in frames.tolist()]
    assert conv2d.lengths(frames).tolist() == counted, "those of conv2d are as before"


@pytest.mark.parametrize("changes", [{}, {"mask_mode": "zero"}, {"mask_at": "frame"}])
def test_masked_auto_encoding_of_a_ragged_batch_is_that_of_single_clips(changes):
    torch.manual_seed(0)
    model = AudioVisual(conf(modalities="audio", **changes), FEATURES, WIDTH, STEPS).double().eval()
    encoder = small_encoder().eval()
    feats, lengths = torch.randn(2, 43, FEATURES).double(), torch.tensor([43, 26])
    tokens, valid = subsample(encoder, feats, lengths, model.at)
    assert valid.sum(1).tolist() == [10, 6] and tokens.shape[1] == 11
    target, predicted, hidden = model.reconstruct(encoder, feats, lengths)["audio"]
    assert target.shape == predicted.shape == (2, 10, 4 * FEATURES)
    assert hidden.sum(1).tolist() == [6, 4] and not hidden[1, 6:].any()
    loss, _ = model(encoder, feats, lengths)
    feats[1, 26:] = 9.0
    assert torch.equal(model(encoder, feats, lengths)[0], loss)
