# SPDX-License-Identifier: Apache-2.0
"""Patches of clips, ViT blocks, the common decoder."""

import pytest
import torch

from espnet_ext.multistage.decoder import CommonDecoder
from espnet_ext.multistage.masking import gather_tokens, random_mask
from espnet_ext.multistage.video_encoder import Block, VideoEncoder
from espnet_ext.multistage.video_patches import VideoPatches


def clips(*shape):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_the_sizes_of_the_paper():
    patches = VideoPatches(width=2)
    assert patches.tokens == 1568 and patches.elements == 1536
    assert patches(clips(1, 16, 224, 224, 3)).shape == (1, 1568, 2)


def test_a_token_is_a_block_of_pixels_in_the_order_of_time_row_column():
    video = clips(2, 4, 6, 6, 3)
    targets = VideoPatches(4, 6, (2, 3, 2), 5).targets(video)
    assert targets.shape == (2, 2 * 2 * 3, 2 * 3 * 2 * 3)
    number = 0
    for t in (0, 2):
        for row in (0, 3):
            for column in (0, 2, 4):
                block = video[:, t : t + 2, row : row + 3, column : column + 2].float() / 255
                expected = (block.flatten(1) - 0.45) / 0.225
                torch.testing.assert_close(targets[:, number], expected)
                number += 1


def test_pictures_come_back_and_bytes_equal_floats():
    patches, video = VideoPatches(4, 6, (2, 3, 2), 5), clips(2, 4, 6, 6, 3)
    targets = patches.targets(video)
    torch.testing.assert_close(patches.pictures(targets, 6, 6), video.float() / 255)
    torch.testing.assert_close(patches.targets(video.float() / 255), targets)


def test_padding_changes_no_valid_token():
    torch.manual_seed(0)
    encoder, x = VideoEncoder(8, 2, 2), torch.randn(2, 5, 8)
    valid = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    other = torch.where(valid[..., None], x, 1e3)
    out = encoder(x, valid)
    torch.testing.assert_close(out[valid], encoder(other, valid)[valid])
    torch.testing.assert_close(out[1:, :3], encoder(x[1:, :3]))


def test_gradients_of_a_block():
    torch.manual_seed(0)
    block = Block(4, 2, 6).double()
    x = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(block, x)


@pytest.fixture
def decoder():
    torch.manual_seed(0)
    return CommonDecoder(6, 8, 1, 2, {"audio": 5, "video": 7}, {"video": (2, 3)})


def test_one_decoder_with_two_output_layers(decoder):
    own = {n for n, _ in decoder.named_parameters() if "audio" in n or "video" in n}
    assert own == {
        "out.audio.weight", "out.audio.bias", "out.video.weight", "out.video.bias",
        "positions.video.time", "positions.video.space",
    }  # fmt: skip
    mask = random_mask(torch.tensor([6]), 0.5)
    for name in ("audio", "video"):
        decoder.zero_grad()
        decoder(name, torch.randn(1, 3, 6), mask).sum().backward()
        trained = {n for n, p in decoder.named_parameters() if p.grad is not None}
        shared = {n for n, _ in decoder.named_parameters()} - own
        assert trained == shared | {n for n in own if name in n}


def test_the_decoder_knows_where_a_hidden_token_was(decoder):
    mask = random_mask(torch.tensor([6]), 0.5, torch.Generator().manual_seed(1))
    for name in ("audio", "video"):
        out = decoder(name, torch.zeros(1, 3, 6), mask)[0][mask.scored[0]]
        assert (out[0] - out[1]).abs().max() > 1e-3


def test_a_longer_clip_in_the_batch_changes_no_prediction(decoder):
    lengths = torch.tensor([9, 5])
    mask = random_mask(lengths, 0.5, torch.Generator().manual_seed(1))
    x = gather_tokens(torch.randn(2, 9, 6), mask.keep)
    valid = torch.arange(9) < lengths[:, None]
    alone = type(mask)(
        mask.keep[1:, :2], mask.kept[1:, :2], mask.hidden[1:, :3],
        mask.restore[1:, :5].clamp(max=2), mask.scored[1:, :5],
    )  # fmt: skip
    both, one = decoder("audio", x, mask, valid), decoder("audio", x[1:, :2], alone)
    torch.testing.assert_close(both[1, :5], one[0])
