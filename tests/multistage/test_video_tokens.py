# SPDX-License-Identifier: Apache-2.0
"""Patches of clips, ViT blocks, the common decoder."""

import pytest
import torch

from espnet_ext.multistage.decoder import CommonDecoder, Seen
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


def test_some_patches_are_those_of_all_with_the_positions_they_had():
    torch.manual_seed(0)
    patches, places = VideoPatches(4, 6, (2, 3, 2), 5), torch.tensor([[0, 3, 11], [2, 4, 5]])
    pixels = patches.targets(clips(2, 4, 6, 6, 3))
    expected = gather_tokens(patches.embed_pixels(pixels), places)
    torch.testing.assert_close(patches.embed_pixels(pixels, places), expected)
    assert len(patches.positions(torch.zeros(1, 12, 5))[0].unique(dim=0)) == 12


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
        decoder({name: Seen(torch.randn(1, 3, 6), mask)})[name].sum().backward()
        trained = {n for n, p in decoder.named_parameters() if p.grad is not None}
        shared = {n for n, _ in decoder.named_parameters()} - own
        assert trained == shared | {n for n in own if name in n}


def test_the_decoder_knows_where_a_hidden_token_was(decoder):
    mask = random_mask(torch.tensor([6]), 0.5, torch.Generator().manual_seed(1))
    for name in ("audio", "video"):
        out = decoder({name: Seen(torch.zeros(1, 3, 6), mask)})[name][0][mask.scored[0]]
        assert (out[0] - out[1]).abs().max() > 1e-3


def test_near_hidden_tokens_first_look_at_their_neighbours():
    """How much the prediction of a token in the middle changes with each of the seen ones."""
    mask = random_mask(torch.tensor([41]), 0.5, torch.Generator().manual_seed(1))
    middle = min(mask.scored[0].nonzero()[:, 0].tolist(), key=lambda n: abs(n - 20))
    away = (mask.keep[0] - middle).abs()
    share = {}
    for start in ("near", "random"):
        torch.manual_seed(0)
        decoder = CommonDecoder(32, 64, 1, 4, {"audio": 8}, start=start)
        x = torch.randn(1, len(away), 32, requires_grad=True)
        decoder({"audio": Seen(x, mask)})["audio"][0, middle].square().sum().backward()
        change = x.grad[0].norm(dim=-1)
        share[start] = float(change[away <= 3].sum() / change.sum())
    assert share["near"] > 2 * share["random"]


def test_a_longer_clip_in_the_batch_changes_no_prediction(decoder):
    lengths = torch.tensor([9, 5])
    mask = random_mask(lengths, 0.5, torch.Generator().manual_seed(1))
    x = gather_tokens(torch.randn(2, 9, 6), mask.keep)
    valid = torch.arange(9) < lengths[:, None]
    alone = type(mask)(
        mask.keep[1:, :2], mask.kept[1:, :2], mask.hidden[1:, :3],
        mask.restore[1:, :5].clamp(max=2), mask.scored[1:, :5],
    )  # fmt: skip
    both = decoder({"audio": Seen(x, mask, valid)})["audio"]
    one = decoder({"audio": Seen(x[1:, :2], alone)})["audio"]
    torch.testing.assert_close(both[1, :5], one[0])


def both_modalities():
    lengths = torch.tensor([9, 5])
    masks = [
        random_mask(n, 0.5, torch.Generator().manual_seed(1))
        for n in (lengths, torch.tensor([6, 6]))
    ]
    tokens = [
        gather_tokens(torch.randn(2, n, 6), m.keep).requires_grad_()
        for n, m in zip((9, 6), masks, strict=True)
    ]
    valid = torch.arange(9) < lengths[:, None]
    times = [torch.linspace(0.1, 0.9, n).expand(2, -1) for n in (9, 6)]
    parts = {
        "audio": Seen(tokens[0], masks[0], valid, times[0]),
        "video": Seen(tokens[1], masks[1], None, times[1]),
    }
    return parts, tokens


@pytest.mark.parametrize("cross_modal", [False, True])
def test_predictions_of_the_hidden_alone_are_the_same(cross_modal):
    torch.manual_seed(0)
    decoder = CommonDecoder(
        6, 8, 2, 2, {"audio": 5, "video": 7}, {"video": (2, 3)}, cross_modal=cross_modal
    )
    parts, _ = both_modalities()
    every, hidden = decoder(parts), decoder(parts, hidden_only=True)
    for name, part in parts.items():
        there = part.mask.there
        assert there.sum() == part.mask.scored.sum()
        expected = gather_tokens(every[name], part.mask.hidden)
        torch.testing.assert_close(hidden[name][there], expected[there])


def test_only_one_pass_lets_pictures_help_the_sound():
    for cross_modal in (False, True):
        torch.manual_seed(0)
        decoder = CommonDecoder(
            6, 8, 1, 2, {"audio": 5, "video": 7}, {"video": (2, 3)}, cross_modal=cross_modal
        )
        parts, (audio, video) = both_modalities()
        out = decoder(parts)["audio"]
        out[parts["audio"].valid].square().sum().backward()
        assert audio.grad.abs().sum() > 0
        assert (video.grad is not None and bool(video.grad.abs().sum() > 0)) is cross_modal
        if not cross_modal:  # as if there were no pictures, and no parameter is for them
            torch.testing.assert_close(out, decoder({"audio": parts["audio"]})["audio"])
            assert not any("modality" in name for name, _ in decoder.named_parameters())


def test_padding_of_the_sound_reaches_no_prediction_in_one_pass():
    torch.manual_seed(0)
    decoder = CommonDecoder(
        6, 8, 2, 2, {"audio": 5, "video": 7}, {"video": (2, 3)}, cross_modal=True
    )
    parts, (audio, _) = both_modalities()
    seen = parts["audio"]
    out = decoder(parts)
    (out["video"][1].sum() + out["audio"][1, :5].sum()).backward()
    used = audio.grad[1].abs().sum(-1) > 0
    assert used.tolist() == [*seen.mask.kept[1].tolist()]
