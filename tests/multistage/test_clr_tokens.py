# SPDX-License-Identifier: Apache-2.0
"""Embeddings of CLR by steps of time: closed forms, and that only they know when a sound was."""

import math

import pytest
import torch
from small_conformer import FEATURES, WIDTH, SmallConformer, conf

from espnet_ext.multistage.audio_visual import AudioVisual
from espnet_ext.multistage.clr_loss import ClrLoss, retrieval
from espnet_ext.multistage.clr_tokens import joined, mean_token, step_means, step_of

E1, E2 = torch.eye(2)


def cosine(a, b):
    return torch.nn.functional.cosine_similarity(a, b, dim=-1)


def every(steps):
    return torch.ones(steps.shape[:2], dtype=torch.bool)


def test_the_cosine_of_joined_steps_is_the_mean_of_their_cosines():
    torch.manual_seed(0)
    a, v = torch.randn(3, 4, 5), torch.randn(3, 4, 5) * 7
    expected = sum(cosine(a[:, s], v[:, s]) for s in range(4)) / 4
    torch.testing.assert_close(cosine(joined(a, every(a)), joined(v, every(v))), expected)


def test_what_stays_the_same_in_a_clip_is_not_in_centred_steps():
    torch.manual_seed(0)
    a, voice = torch.randn(3, 4, 5), torch.randn(3, 1, 5) * 9
    centred = [joined(x, every(x), centred=True) for x in (a, a + voice)]
    torch.testing.assert_close(*centred, atol=1e-5, rtol=1e-4)
    assert not joined(a, every(a)).allclose(joined(a + voice, every(a)), atol=0.1)


def test_the_order_of_steps_counts_only_with_steps():
    clip = torch.stack([E1, E1, E2, E2])[None]
    turned = clip.flip(1)
    assert mean_token(clip, every(clip)).equal(mean_token(turned, every(turned)))
    a, v = joined(clip, every(clip)), joined(turned, every(turned))
    assert float(cosine(a, a)) == pytest.approx(1) and float(cosine(a, v)) == pytest.approx(0)
    # Two clips that differ by their order alone: a mean cannot tell them apart, steps can.
    both = torch.cat([clip, turned])
    means, steps = mean_token(both, every(both)), joined(both, every(both))
    loss = ClrLoss(1.0)
    assert float(loss(means, means)) == pytest.approx(math.log(2))
    assert float(loss(steps, steps)) == pytest.approx(math.log(1 + math.exp(-1)))
    assert float(retrieval(steps, steps)) == 1


def test_steps_are_equal_parts_of_the_whole_clip():
    place, lengths = torch.arange(10).expand(3, -1), torch.tensor([10, 5, 20])
    step = step_of(place, lengths, 5)
    assert step[0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert step[1, :5].tolist() == [0, 1, 2, 3, 4]
    assert step[2].tolist() == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]  # cut after half of it
    tokens = torch.arange(10.0).expand(3, -1)[..., None]
    valid = place < torch.tensor([10, 5, 10])[:, None]
    means, there = step_means(tokens, step, valid, 5)
    assert means[..., 0].tolist() == [
        [0.5, 2.5, 4.5, 6.5, 8.5], [0, 1, 2, 3, 4], [1.5, 5.5, 8.5, 0, 0],
    ]  # fmt: skip
    assert there.tolist() == [[True] * 5, [True] * 5, [True] * 3 + [False] * 2]
    assert joined(means.repeat(1, 1, 2), there)[2, 6:].tolist() == [0, 0, 0, 0]


def clips(seed=0):
    g = torch.Generator().manual_seed(seed)
    feats = torch.randn(3, 67, FEATURES, generator=g)
    video = torch.randint(0, 256, (3, 4, 8, 8, 3), generator=g).to(torch.uint8)
    return feats, torch.tensor([67, 41, 50]), video


@pytest.mark.parametrize("clr_tokens", ["aligned", "centred"])
@pytest.mark.parametrize("objective", ["clr", "mae+clr"])
def test_padding_changes_no_step(clr_tokens, objective):
    torch.manual_seed(0)
    section = {"clr_tokens": clr_tokens, "video_sampling": "uniform", "objective": objective}
    model = AudioVisual(conf(**section, clr_on_masked="+" in objective), FEATURES, WIDTH).eval()
    encoder, (feats, lengths, video) = SmallConformer().eval(), clips()
    longer = torch.cat([feats, torch.zeros(3, 9, FEATURES)], 1)
    longer[torch.arange(76) >= lengths[:, None]] = 1e3
    one, other = (model(encoder, x, lengths, video)[1]["clr"] for x in (feats, longer))
    torch.testing.assert_close(one, other)


def test_sound_that_was_cut_has_no_steps_after_its_end():
    model = AudioVisual(conf(objective="clr", clr_tokens="aligned", video_sampling="uniform"),
                        FEATURES, WIDTH).eval()  # fmt: skip
    encoder, (feats, lengths, _) = SmallConformer().eval(), clips()
    whole = model.embed_audio(encoder, feats, lengths).view(3, 2, -1)
    cut = model.embed_audio(encoder, feats, lengths, 2 * lengths + 5).view(3, 2, -1)
    assert (whole.norm(dim=-1) > 0.99).all()
    assert (cut[:, 0].norm(dim=-1) > 0.99).all() and not cut[:, 1].any()


def _order_of_two_sounds(seed):
    """Return 8 clips with two sounds and two pictures, each for half of it: only order differs."""
    g = torch.Generator().manual_seed(seed)
    first = torch.rand(8, generator=g) < 0.5
    level = torch.stack([first, ~first], 1).float()
    feats = level.repeat_interleave(32, 1)[..., None] * 4 - 2
    feats = feats + 0.1 * torch.randn(8, 64, FEATURES, generator=g)
    video = (level.repeat_interleave(2, 1)[:, :, None, None, None] * 255).expand(-1, -1, 8, 8, 3)
    return feats, torch.full((8,), 64), video.to(torch.uint8), first


def test_learning_with_steps_finds_the_order():
    torch.manual_seed(0)
    section = {"clr_tokens": "aligned", "video_sampling": "uniform", "tau": 0.1}
    model, encoder = (
        AudioVisual(conf(objective="clr", **section), FEATURES, WIDTH),
        SmallConformer(),
    )
    optimiser = torch.optim.Adam([*model.parameters(), *encoder.parameters()], 8e-3)
    for step in range(25):
        optimiser.zero_grad()
        model(encoder, *_order_of_two_sounds(step)[:3])[0].backward()
        optimiser.step()
    feats, lengths, video, first = _order_of_two_sounds(999)
    with torch.no_grad():
        a, v = model.embed_audio(encoder, feats, lengths), model.embed_video(video)
    found = (torch.nn.functional.normalize(a) @ torch.nn.functional.normalize(v).T).argmax(1)
    assert (first[found] == first).float().mean() == 1  # of the same order; chance is a half
