# SPDX-License-Identifier: Apache-2.0
"""Stage 1 as a whole on a small encoder: which frames are targets, masking, padding, learning."""

import pytest
import torch
from small_conformer import FEATURES, WIDTH, SmallConformer, conf

from espnet_ext.errors import UsageError
from espnet_ext.frames import INPUT_LAYERS
from espnet_ext.multistage.audio_parts import TokenFrames, run_blocks, subsample
from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.options import resolve

LENGTHS = torch.tensor([67, 41, 50])


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return SmallConformer().eval()


def batch(seed=0):
    torch.manual_seed(seed)
    feats = torch.randn(3, 67, FEATURES)
    return feats, LENGTHS, torch.randint(0, 256, (3, 4, 8, 8, 3), dtype=torch.uint8)


def make(**changes):
    torch.manual_seed(1)
    return AudioVisual(conf(**changes), FEATURES, WIDTH).eval()


def test_a_token_stands_for_the_middle_of_what_it_sees(encoder):
    at = TokenFrames()
    assert (at.stride, at.first) == (4, 2)
    assert at.lengths(torch.tensor([1000, 1001, 7, 6])).tolist() == [249, 249, 1, 0]
    feats = torch.randn(1, 40, FEATURES, requires_grad=True)
    encoder.embed(feats, torch.ones(1, 1, 40, dtype=torch.bool))[0][0, 3].sum().backward()
    seen = feats.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert seen.tolist() == list(range(12, 19))
    frames = torch.arange(40.0)[None, :, None]
    assert at.targets(frames, 9)[0, 3].tolist() == [14, 15, 16, 17]
    assert [TokenFrames(INPUT_LAYERS[x]).first for x in ("conv2d2", "conv2d8")] == [3, 4]


def test_positions_of_some_tokens_are_those_they_had_among_all(encoder):
    feats, lengths, _ = batch()
    tokens, valid = subsample(encoder, feats, lengths, TokenFrames())
    assert valid.sum(1).tolist() == [16, 9, 11]
    some, moved = tokens[:, [0, 3, 4]], tokens[:, [0, 5, 4]]
    three = valid[:, :3]
    assert not run_blocks(encoder, some, three).allclose(run_blocks(encoder, moved, three))


@pytest.mark.parametrize("mask_at", ["token", "frame"])
def test_drop_and_zero_are_the_same_at_ratio_0(encoder, mask_at):
    losses = [
        make(mask_ratio=0.0, mae_loss_on="all", mask_mode=mode, mask_at=mask_at)(encoder, *batch())[
            0
        ]
        for mode in ("drop", "zero")
    ]
    torch.testing.assert_close(*losses)
    modes = [make(mask_mode=mode)(encoder, *batch())[0] for mode in ("drop", "zero")]
    assert modes[0] != modes[1]


@pytest.mark.parametrize("objective", ["mae", "clr", "mae+clr"])
@pytest.mark.parametrize("mask_mode", ["drop", "zero"])
def test_what_stands_in_the_padding_changes_nothing(encoder, objective, mask_mode):
    model, (feats, lengths, video) = make(objective=objective, mask_mode=mask_mode), batch()
    loss, stats = model(encoder, feats, lengths, video)
    longer = torch.cat([feats, torch.zeros(3, 9, FEATURES)], 1)
    longer[torch.arange(76) >= lengths[:, None]] = 1e3
    other, _ = model(encoder, longer, lengths, video)
    torch.testing.assert_close(loss, other)
    parts = {"mae": ["mae_audio", "mae_video"], "clr": ["clr"]}
    total = sum(stats[p] for name in objective.split("+") for p in parts[name])
    torch.testing.assert_close(total, loss.detach())


def test_frames_of_hidden_tokens_reach_no_visible_token(encoder):
    feats, lengths, _ = batch()

    def seen(model, feats):
        return model._see_audio(encoder, feats, lengths)

    for mask_at, same in (("frame", True), ("token", False)):
        model = make(mask_at=mask_at)
        before = seen(model, feats)
        hidden = before.mask.scored.repeat_interleave(4, 1)
        other = feats.clone()
        other[:, 2 : 2 + hidden.shape[1]][hidden] += 5.0
        after = seen(model, other)
        kept = before.mask.kept
        assert after.encoded[kept].allclose(before.encoded[kept], atol=1e-6) is same


def test_the_target_is_hidden_and_only_that_is_scored(encoder):
    model, (feats, lengths, video) = make(), batch()
    target, predicted, hidden = model.reconstruct(encoder, feats, lengths, video)["audio"]
    assert target.shape == predicted.shape == (3, 16, 4 * FEATURES)
    expected = (target - predicted)[hidden].square().mean()
    torch.testing.assert_close(model(encoder, feats, lengths, video)[1]["mae_audio"], expected)


def test_audio_alone_has_no_part_for_pictures(encoder):
    model, (feats, lengths, _) = make(modalities="audio"), batch()
    assert not any("video" in n for n, _ in model.named_parameters())
    both = make()(encoder, *batch())[1]
    assert set(both) - set(model(encoder, feats, lengths)[1]) == {"mae_video", "mean_video"}


def test_pictures_reach_the_sounds_prediction_with_cross_modal_alone(encoder):
    feats, lengths, video = batch()
    for cross_modal in (False, True):
        model = make(cross_modal=cross_modal, video_sampling="uniform")
        parts = [
            model.reconstruct(encoder, feats, lengths, v)["audio"] for v in (video, 255 - video)
        ]
        assert parts[0][0].equal(parts[1][0])
        assert parts[0][1].allclose(parts[1][1], atol=1e-6) is not cross_modal


def test_masks_stand_still_in_validation_and_not_in_training(encoder):
    model, clips = make(), batch()
    assert model(encoder, *clips)[0] == model(encoder, *clips)[0]
    model.train()
    assert model(encoder, *clips)[0] != model(encoder, *clips)[0]


def test_shuffled_pairs_are_pairs_of_other_clips(encoder):
    feats, lengths, video = batch()
    true = make(objective="clr")(encoder, feats, lengths, video.roll(1, 0))[0]
    assert (
        make(objective="clr", pairing="shuffled").train()(encoder, feats, lengths, video)[0] == true
    )
    # What has been learnt is judged by true pairs, those of the validation.
    judged = make(objective="clr", pairing="shuffled")(encoder, feats, lengths, video)[0]
    assert judged == make(objective="clr")(encoder, feats, lengths, video)[0] != true


def test_clr_on_the_seen_tokens_needs_one_pass(encoder):
    model = make(objective="mae+clr", clr_on_masked=True)
    calls = []
    encoder.embed.register_forward_hook(lambda *_: calls.append(1))
    model(encoder, *batch())
    assert len(calls) == 1


def _brightness_follows_loudness(seed):
    """Return 8 clips whose pictures are as bright as their sound is loud, in four parts."""
    g = torch.Generator().manual_seed(seed)
    level = torch.rand(8, 4, generator=g)
    feats = level.repeat_interleave(16, 1)[..., None] * 4 - 2
    feats = feats + 0.1 * torch.randn(8, 64, FEATURES, generator=g)
    video = (level[:, :, None, None, None] * 255).expand(-1, -1, 8, 8, 3).to(torch.uint8)
    return feats, torch.full((8,), 64), video


def test_learning_finds_the_pairs(encoder):
    model = make(objective="clr", width=16).train()
    encoder.train()
    optimiser = torch.optim.Adam([*model.parameters(), *encoder.parameters()], 8e-3)
    for step in range(60):
        optimiser.zero_grad()
        model(encoder, *_brightness_follows_loudness(step))[0].backward()
        optimiser.step()
    model.eval()
    stats = [model(encoder, *_brightness_follows_loudness(1000 + i))[1] for i in range(4)]
    mean = {k: float(sum(s[k] for s in stats)) / 4 for k in stats[0]}
    assert mean["retrieval"] > 2 / 8  # chance is 1/8


def _each_as_loud_as_bright(seed):
    """Return 8 clips, each of one loudness, the same as the brightness of its pictures."""
    g = torch.Generator().manual_seed(seed)
    level = torch.rand(8, 1, 1, generator=g)
    feats = level * 4 - 2 + 0.1 * torch.randn(8, 64, FEATURES, generator=g)
    video = (level[..., None, None] * 255).expand(-1, 4, 8, 8, 3).to(torch.uint8)
    return feats, torch.full((8,), 64), video


@pytest.mark.parametrize("modalities", ["audio", "both"])
def test_learning_fills_in_hidden_sound(encoder, modalities):
    """Section 9.15 of the method's checks: MAE falls below the mean predictor, on new clips."""
    model = make(modalities=modalities, decoder_width=16).train()
    encoder.train()

    def figures():
        model.eval()
        stats = [model(encoder, *_each_as_loud_as_bright(1000 + i))[1] for i in range(4)]
        model.train()
        return {k: float(sum(s[k] for s in stats)) / 4 for k in stats[0]}

    before = figures()
    assert before["mae_audio"] > 0.9 * before["mean_audio"]
    optimiser = torch.optim.Adam([*model.parameters(), *encoder.parameters()], 8e-3)
    for step in range(40):
        optimiser.zero_grad()
        model(encoder, *_each_as_loud_as_bright(step))[0].backward()
        optimiser.step()
    after = figures()
    assert after["mae_audio"] < 0.5 * after["mean_audio"]


@pytest.mark.parametrize(
    ("section", "where", "named"),
    [
        ({"objektive": "mae"}, "multistage", "objective"),
        ({"objective": "mea"}, "multistage.objective", "mae"),
        ({"objective": "clr", "modalities": "audio"}, "multistage.modalities", "both"),
        ({"tau": 0}, "multistage.tau", "0.07"),
        ({"size": 100}, "multistage.patch", "divide"),
        ({"heads": 5}, "multistage.heads", "divisor"),
        ({"mask_ratio": 0.0}, "multistage.mask_ratio", "mae_loss_on"),
        ({"clr_on_masked": True}, "multistage.clr_on_masked", "mae+clr"),
        ({"clr_tokens": "aligned"}, "multistage.clr_tokens", "uniform"),
        ({"cross_modal": True, "modalities": "audio"}, "multistage.cross_modal", "mae"),
        ({"cross_modal": True, "objective": "clr"}, "multistage.cross_modal", "mae"),
        ({"video_start": 3}, "multistage.video_start", "random"),
    ],
)
def test_wrong_options_are_told(section, where, named):
    with pytest.raises(UsageError) as error:
        resolve(section)
    assert where in str(error.value) and named in str(error.value)


def test_words_of_yaml():
    assert resolve({"pairing": True, "tau": 0.1, "video_start": "random"}).tau == 0.1
    assert resolve({}).tau == "learned" and resolve(None).video_start == 0


@pytest.mark.parametrize("mask_mode", ["drop", "zero"])
def test_one_pass_over_both_with_frames_hidden_before_the_subsampling(encoder, mask_mode):
    """No prediction depends on a hidden frame, and that of the sound does on the pictures."""
    model = make(cross_modal=True, mask_at="frame", mask_mode=mask_mode, video_sampling="uniform")
    feats, lengths, video = batch()
    target, before, hidden = model.reconstruct(encoder, feats, lengths, video)["audio"]
    other = feats.clone()
    other[:, 2 : 2 + 4 * hidden.shape[1]][hidden.repeat_interleave(4, 1)] += 5.0
    changed, after, _ = model.reconstruct(encoder, other, lengths, video)["audio"]
    assert not changed.equal(target)
    torch.testing.assert_close(after, before)
    dark = model.reconstruct(encoder, feats, lengths, 255 - video)["audio"][1]
    assert not dark.allclose(before, atol=1e-6)
    model(encoder, feats, lengths, video)[0].backward()
    assert all(p.grad is not None for p in model.decoder.parameters())
