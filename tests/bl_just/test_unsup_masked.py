# SPDX-License-Identifier: Apache-2.0
"""Masks, quantisers and the two masked losses against loops over their definitions."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_unsup import small_unsup
from torch import nn

from espnet_ext.bl_just.best_rq_loss import RandomProjectionQuantiser
from espnet_ext.bl_just.masking import draw_mask, masked_frames, normalised, stacked_frames
from espnet_ext.bl_just.quantiser import GumbelQuantiser, code_perplexity, diversity_loss
from espnet_ext.bl_just.unsup import build_unsup
from espnet_ext.bl_just.unsup_conf import Wav2vec2Conf
from espnet_ext.bl_just.wav2vec2_loss import contrastive_logits, draw_distractors
from espnet_ext.errors import DataError, UsageError

F, D = 3, 8
NAMES = ["wav2vec2", "best_rq", "kmeans"]


class Toy(nn.Module):
    """A frame of three, each with its neighbours within the utterance; no batch statistics."""

    def __init__(self, stride=4):
        super().__init__()
        self.stride = stride
        self.inner = nn.Linear(stride * F, D)
        self.mix = nn.Conv1d(D, D, 9, padding=4)

    def forward(self, x, lengths):
        frames = lengths // self.stride
        x = x[:, : x.shape[1] // self.stride * self.stride]
        h = self.inner(x.unflatten(1, (-1, self.stride)).flatten(2)).tanh()
        h = h * (torch.arange(h.shape[1]) < frames[:, None]).unsqueeze(-1)
        return self.mix(h.mT).mT, frames


def build(name, stride=4, seed=0, **options):
    torch.manual_seed(seed)
    loss = small_unsup(name, F, D, stride=stride, **options)
    return Toy(stride), loss, torch.randn(3, 160, F), torch.tensor([160, 121, 93])


@pytest.mark.parametrize("block", [1, 4])
def test_share_and_length_of_masks(block):
    torch.manual_seed(0)
    prob, span = 0.01 * block, 40
    mask = draw_mask(torch.full((50,), 2000), 2000, prob, span, block)
    share = 1 - (1 - prob) ** (span // block)
    assert mask.float().mean() == pytest.approx(share, abs=0.02)
    for row in mask:
        edges = torch.diff(row.int(), prepend=torch.zeros(1), append=torch.zeros(1))
        begins, ends = (edges == 1).nonzero().flatten(), (edges == -1).nonzero().flatten()
        assert not (begins % block).any()
        whole = ends - begins
        assert (whole[ends < 2000] >= span).all() and (whole == span).any()


@given(st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(0, 30), st.integers(1, 4))
def test_masks_ignore_padding_and_every_utterance_has_one(lengths, extra, block):
    lengths, longest, span = torch.tensor(lengths), max(lengths), 5 * block
    torch.manual_seed(1)
    tight = draw_mask(lengths, longest, 1e-9, span, block)
    torch.manual_seed(1)
    wide = draw_mask(lengths, longest + extra, 1e-9, span, block)
    assert torch.equal(tight, wide[:, :longest]) and not wide[:, longest:].any()
    for row, length in zip(tight, lengths.tolist(), strict=True):
        assert not row[length:].any()
        # A span that fits is hidden whole; a last block may be short.
        assert min(span, length) - block < int(row.sum()) <= span


@given(st.integers(0, 2**30), st.sampled_from([1, 2, 4]), st.integers(1, 60), st.integers(1, 60))
def test_encoder_frames_and_what_is_under_them(seed, stride, first, second):
    torch.manual_seed(seed)
    lengths = torch.tensor([first, second])
    x = torch.randn(2, max(first, second), F)
    mask = (torch.rand(x.shape[:2]) < 0.8) & (torch.arange(x.shape[1]) < lengths[:, None])
    h_lengths = (lengths + stride - 1) // stride
    frames = masked_frames(mask, lengths, h_lengths, stride)
    stacked = stacked_frames(x, lengths, int(h_lengths.max()), stride)
    for n in range(2):
        for t in range(frames.shape[1]):
            places = [min(t * stride + i, int(lengths[n]) - 1) for i in range(stride)]
            expected = t < h_lengths[n] and all(bool(mask[n, p]) for p in places)
            assert bool(frames[n, t]) == expected
            assert torch.equal(stacked[n, t], torch.cat([x[n, p] for p in places]))


def test_normalisation_is_that_of_the_utterance():
    x, lengths = 5 + 3 * torch.randn(2, 50, F), torch.tensor([50, 20])
    y = normalised(x, lengths)
    for n, length in enumerate([50, 20]):
        own = x[n, :length]
        expected = (own - own.mean(0)) / own.std(0, unbiased=False)
        torch.testing.assert_close(y[n, :length], expected, rtol=1e-4, atol=1e-4)
    assert not y[1, 20:].any()


def test_classes_are_those_of_the_nearest_entry():
    quantiser = RandomProjectionQuantiser(6, 20, 5, seed=3)
    vectors = torch.randn(30, 6)
    for v, chosen in zip(vectors, quantiser(vectors), strict=True):
        projected = quantiser.projection @ v
        projected = projected / projected.norm()
        distances = [float((projected - c / c.norm()).norm()) for c in quantiser.codebook]
        assert distances.index(min(distances)) == chosen


def test_random_projection_depends_on_its_seed_alone():
    torch.manual_seed(0)
    one = RandomProjectionQuantiser(6, 20, 5, seed=3).state_dict()
    same, other = (RandomProjectionQuantiser(6, 20, 5, seed=s).state_dict() for s in (3, 4))
    for name, value in one.items():
        assert value.is_floating_point()
        assert torch.equal(value, same[name]) and not torch.equal(value, other[name])


def test_k_means_finds_the_centres_of_what_is_not_padding():
    """Utterances of three kinds of frames: their classes are these, at whatever scale."""
    kinds = torch.tensor([[0.0, 5.0, -5.0], [5.0, -5.0, 0.0], [-5.0, 0.0, 5.0]])
    torch.manual_seed(0)
    said = torch.randint(3, (20, 40))
    x = (kinds[said].repeat_interleave(4, 1) + 0.1 * torch.randn(20, 160, F)) * 3 + 1
    lengths = torch.tensor([160, 128] * 10)
    x[1::2, 128:] = 1e4
    loss = build_unsup("kmeans", {"codes": 3}, F, D, stride=4)
    told = loss.fit([(x[:10], lengths[:10]), (x[10:], lengths[10:])])
    assert told == "k-means: 3 classes of 720 frames" and not loss.utterances_to_fit
    inside = torch.arange(40) < (lengths // 4)[:, None]
    classes, true = loss.targets(x, lengths, inside), said[inside]
    assert len({(int(c), int(t)) for c, t in zip(classes, true, strict=True)}) == 3
    vectors = loss.vectors(x, lengths, inside)
    nearest = torch.cdist(vectors, loss.quantiser.centres).argmin(-1)
    assert torch.equal(nearest, classes)


def test_k_means_needs_a_fit_and_frames_enough():
    loss = build_unsup("kmeans", {"codes": 50, "utterances": 7}, F, D, stride=4)
    assert loss.utterances_to_fit == 7
    with pytest.raises(UsageError, match="no centres yet"):
        loss(Toy(), torch.randn(1, 160, F), torch.tensor([160]))
    with pytest.raises(DataError, match="40 frames cannot be put into 50 classes"):
        loss.fit([(torch.randn(1, 160, F), torch.tensor([160]))])


@pytest.mark.parametrize("name", ["best_rq", "kmeans"])
def test_targets_do_not_move_in_training(name):
    encoder, loss, x, lengths = build(name)
    queries = torch.ones(3, 23, dtype=torch.bool)
    before, weights = loss.targets(x, lengths, queries), loss.output.weight.detach().clone()
    state = {k: v.clone() for k, v in loss.quantiser.state_dict().items()}
    adam = torch.optim.AdamW([*encoder.parameters(), *loss.parameters()], 0.1)
    for _ in range(3):
        adam.zero_grad()
        loss(encoder, x, lengths)[0].backward()
        adam.step()
    assert torch.equal(before, loss.targets(x, lengths, queries))
    assert all(torch.equal(v, loss.quantiser.state_dict()[k]) for k, v in state.items())
    assert not torch.equal(weights, loss.output.weight)
    # A gain and an offset of the features change no class.
    torch.testing.assert_close(before, loss.targets(4 * x - 7, lengths, queries))


@pytest.mark.parametrize("name", ["best_rq", "kmeans"])
def test_it_is_cross_entropy_on_masked_frames_alone(name):
    encoder, loss, x, lengths = build(name, noise_std=0.0)
    torch.manual_seed(2)
    g, stats = loss(encoder, x, lengths)
    torch.manual_seed(2)
    mask = draw_mask(lengths, 160, 0.01, 40)
    h, h_lengths = encoder(torch.where(mask.unsqueeze(-1), 0.0, x), lengths)
    total, count = 0.0, 0
    classes = loss.targets(x, lengths, torch.ones(3, 40, dtype=torch.bool)).view(3, 40)
    for n in range(3):
        for t in range(int(h_lengths[n])):
            if mask[n, 4 * t : 4 * t + 4].all():
                total = total - loss.output(h[n, t]).log_softmax(-1)[classes[n, t]]
                count += 1
    torch.testing.assert_close(g, total / count)
    assert stats["queries"] == count
    assert stats["masked"] == pytest.approx(count / int(h_lengths.sum()))
    assert 1 < stats["codes"] <= 16


def test_diversity_is_least_for_uniform_and_greatest_for_collapsed_use():
    codes = torch.eye(6).unsqueeze(1).expand(6, 2, 6)  # six frames, each another entry
    assert diversity_loss(codes) == pytest.approx(0, abs=1e-6)
    collapsed = codes[:1].expand(6, 2, 6).clone().requires_grad_()
    loss = diversity_loss(collapsed)
    assert loss.item() == pytest.approx(1 - 1 / 6)
    half = torch.cat([codes[:3], codes[:3]])
    assert torch.allclose(code_perplexity(half), torch.tensor([3.0, 3.0]))
    assert diversity_loss(half) == pytest.approx(0.5)


def test_quantiser_gives_entries_and_straight_through_gradients():
    torch.manual_seed(0)
    quantiser = GumbelQuantiser(6, 2, 5, 8, temperature=1.0)
    vectors = torch.randn(7, 6)
    for train in (True, False):
        q, codes, shares = quantiser.train(train)(vectors)
        expected = torch.stack([quantiser.entries[g, codes[:, g]] for g in range(2)], 1).flatten(1)
        torch.testing.assert_close(q, expected)
    assert torch.equal(codes, shares.argmax(-1))  # without noise in evaluation
    quantiser.train()(vectors)[0].square().sum().backward()
    assert quantiser.choose.weight.grad.abs().sum() > 0


@given(st.lists(st.integers(0, 9).filter(lambda n: n != 1), min_size=1, max_size=4))
def test_distractors_are_other_queries_of_the_utterance(counts):
    most = max(counts)
    drawn = draw_distractors(torch.tensor(counts), most, 40)
    assert drawn.shape == (len(counts), most, 40)
    for n, count in enumerate(counts):
        for j in range(count):
            assert set(drawn[n, j].tolist()) <= set(range(count)) - {j}
    if most == 2:
        assert (drawn[counts.index(2)] == torch.tensor([[1], [0]])).all()


def test_contrastive_logits_equal_a_loop():
    conf = Wav2vec2Conf(negatives=6, temperature=0.2)
    counts = torch.tensor([4, 0, 3])
    torch.manual_seed(0)
    context, targets = torch.randn(7, 5), torch.randn(7, 5)
    codes = torch.tensor([[0, 1], [0, 1], [2, 1], [3, 3], [0, 1], [4, 4], [2, 2]])
    torch.manual_seed(1)
    logits = contrastive_logits(context, targets, codes, counts, conf)
    torch.manual_seed(1)
    drawn = draw_distractors(counts, 4, 6)
    rows = [(0, 0), (0, 1), (0, 2), (0, 3), (2, 0), (2, 1), (2, 2)]
    for q, (n, j) in enumerate(rows):
        first = 0 if n == 0 else 4
        others = [first + int(k) for k in drawn[n, j]]
        for column, p in enumerate([q, *others]):
            value = torch.cosine_similarity(context[q], targets[p], 0) / 0.2
            equal = column > 0 and torch.equal(codes[q], codes[p])
            expected = torch.tensor(-math.inf) if equal else value
            torch.testing.assert_close(logits[q, column], expected)


def test_wav2vec2_loss_is_the_sum_of_its_terms_and_trains_all_of_eta():
    encoder, loss, x, lengths = build("wav2vec2", diversity_weight=0.7)
    x.requires_grad_()
    g, stats = loss(encoder, x, lengths)
    assert g.item() == pytest.approx(float(stats["contrastive"] + 0.7 * stats["diversity"]))
    assert 1 <= stats["perplexity"] <= 8 and 0 < stats["masked"] < 1
    g.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in loss.parameters())
    # Features reach the loss through the encoder alone, and only where they are not masked.
    torch.manual_seed(0)
    _, loss, x, lengths = build("wav2vec2")
    blind = nn.Linear(F, D)
    x.requires_grad_()
    g, _ = loss(
        lambda v, n: (blind(v[:, ::4].detach())[:, : int(n.max()) // 4], n // 4), x, lengths
    )
    g.backward()
    assert x.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_encoder_gets_decreasing_lengths(name):
    encoder, loss, x, _ = build(name)
    seen = []
    loss(lambda v, n: (seen.append(n.tolist()), encoder(v, n))[1], x, torch.tensor([93, 160, 99]))
    assert seen == [[160, 99, 93]]


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_of_the_encoder_is_left_before_the_loss(name):
    encoder, loss, x, lengths = build(name)
    torch.manual_seed(0)
    full, _ = loss(encoder, x, lengths)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        g, _ = loss(encoder, x, lengths)
        assert encoder(x, lengths)[0].dtype == torch.bfloat16
    g.backward()
    assert g.dtype == torch.float32
    torch.testing.assert_close(g, full, rtol=0.02, atol=0)


@settings(max_examples=15)
@given(st.sampled_from(NAMES), st.integers(1, 50), st.integers(0, 1000))
def test_padding_changes_nothing(name, extra, seed):
    encoder, loss, x, lengths = build(name)
    lengths = lengths - seed % 40
    padded = torch.full((3, 160 + extra, F), math.nan)
    for n, length in enumerate(lengths.tolist()):
        padded[n, :length] = x[n, :length]
    torch.manual_seed(seed)
    expected, stats = loss(encoder, x, lengths)
    torch.manual_seed(seed)
    g, again = loss(encoder, padded, lengths)
    assert g == expected
    torch.testing.assert_close(again, stats, equal_nan=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_short_utterances_are_left_out_and_the_shortest_has_a_query(name, stride):
    encoder, loss, _, _ = build(name, stride)
    least = loss.min_frames
    assert least == 80
    for seed in range(20):
        torch.manual_seed(seed)
        x = torch.randn(2, least, F)
        g, stats = loss(encoder, x, torch.tensor([least, least - 1]))
        assert stats["skipped"] == 1 and stats["queries"] >= 2 and g > 0


@pytest.mark.parametrize("name", NAMES)
def test_wrong_strides_and_too_short_spans_are_refused(name):
    _, loss, x, lengths = build(name, stride=4)
    with pytest.raises(UsageError, match="of 2 input frames, not of 4"):
        loss(Toy(2), x, lengths)
    with pytest.raises(UsageError, match="too short"):
        build(name, mask_length_s=0.15)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_learned(name):
    encoder, loss, _, _ = build(name, seed=1)
    steps, phase = torch.arange(200.0), torch.rand(6, 1) * 6
    waves = torch.stack([(steps * w + phase).sin() for w in (0.05, 0.1, 0.2)], -1)
    adam = torch.optim.Adam([*encoder.parameters(), *loss.parameters()], 0.02)
    values = []
    for _ in range(30):
        g, _ = loss(encoder, waves, torch.full((6,), 200))
        adam.zero_grad()
        g.backward()
        adam.step()
        values.append(g.item())
    assert sum(values[-5:]) < sum(values[:5]) - 1
