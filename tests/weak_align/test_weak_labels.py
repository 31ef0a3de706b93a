# SPDX-License-Identifier: Apache-2.0
"""Labels by time: rules, grids, units inside words."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import DataError, UsageError
from espnet_ext.weak_align.bpe_labels import BpeLabeller, UnitWords, bpe_frame_labels
from espnet_ext.weak_align.labels import FrameGrid, positions, resample, stretch

LABELS = FrameGrid(0.01, 0.005)
CONV2D = FrameGrid(0.04, 0.03)


def test_conv2d_of_a_centred_stft_looks_at_frame_4j_plus_3():
    centre, first, end = positions(LABELS, CONV2D, 2000)  # binary rounding at none of 2000 times
    assert torch.equal(centre, 4 * torch.arange(2000) + 3)
    assert torch.equal(first, 4 * torch.arange(2000) + 1)
    assert torch.equal(end, first + 4)


@pytest.mark.parametrize("s", [1, 2, 3, 4, 6])
def test_centre_and_first_are_the_index_rules_where_frames_are_blocks(s):
    """If encoder frame j covers label frames [js, js + s): js + floor(s / 2) and js."""
    centre, first, _ = positions(LABELS, FrameGrid(0.01 * s, 0.005 * s), 500)
    assert torch.equal(centre, s * torch.arange(500) + s // 2)
    assert torch.equal(first, s * torch.arange(500))


def test_kaldi_snip_edges_and_an_8_ms_hop_look_up_by_time():
    centre, _, _ = positions(FrameGrid(0.01, 0.0125), FrameGrid(0.032, 0.024), 50)
    times = 0.024 + 0.032 * np.arange(50)
    covers = np.floor((times - 0.0075) / 0.01 + 1e-9)  # frame t: [0.0075 + 0.01 t, ...)
    assert centre.tolist() == covers.astype(int).tolist()


def naive(labels, frames, rule, first_ms, step_ms):
    """The rules in tenths of milliseconds: label frame t is [100 t, 100 t + 100), centre + 50."""
    out = []
    for j in range(frames):
        middle, half = round(10 * (first_ms + j * step_ms)), round(5 * step_ms)
        centre = labels[min(middle // 100, len(labels) - 1)]
        inside = [t for t in range(1000) if middle - half <= 100 * t + 50 < middle + half]
        window = [labels[t] for t in inside if t < len(labels)] or [centre]
        if rule == "centre":
            out.append(centre)
        elif rule == "first":
            out.append(labels[min(inside[0], len(labels) - 1)])
        elif rule == "majority":
            counts = Counter(x for x in window if x >= 0).most_common()
            top = [x for x, n in counts if n == counts[0][1]] if counts else [-1]
            out.append(top[0] if len(top) == 1 else centre)
        else:
            known = [x for x in window if x >= 0]
            out.append({x: n / len(known) for x, n in Counter(known).items()})
    return out


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    rule=st.sampled_from(["centre", "first", "majority", "soft"]),
    times=st.sampled_from([(30, 40), (24, 32), (0, 60)]),  # conv2d, hop of 8 ms, BLSTM
)
def test_rules_equal_the_loop_in_a_padded_batch(sizes, seed, rule, times):
    utts = [np.random.default_rng(seed + n).integers(-1, 4, n).tolist() for n in sizes]
    lengths = torch.tensor(sizes)
    labels = torch.nn.utils.rnn.pad_sequence([torch.tensor(u) for u in utts], True, -1)
    frame_lengths = torch.div(lengths, 4, rounding_mode="floor")
    frames = int(frame_lengths.max()) + 2  # padding
    encoder = FrameGrid(times[1] / 1000, times[0] / 1000)
    got = resample(labels, lengths, frames, frame_lengths, LABELS, encoder, rule)
    for b, utt in enumerate(utts):
        n = int(frame_lengths[b])
        want = naive(utt, n, rule, *times)
        if rule != "soft":
            assert got.labels[b].tolist() == want + [-1] * (frames - n)
            continue
        assert (got.soft[b, n:] == -1).all() and not got.weights[b, n:].any()
        for j in range(n):
            shares = Counter()
            for x, w in zip(got.soft[b, j].tolist(), got.weights[b, j].tolist(), strict=True):
                shares[x] += w
            del shares[-1]
            assert shares == pytest.approx(want[j])


def test_stretched_labels_keep_their_proportions_and_right_lengths_their_labels():
    labels = torch.tensor([[0, 0, 1, 2], [5, 6, 7, -1]])
    out = stretch(labels, torch.tensor([4, 3]), torch.tensor([8, 3]))
    assert out.tolist() == [[0, 0, 0, 0, 1, 1, 2, 2], [5, 6, 7, -1, -1, -1, -1, -1]]


TOKENS = ["<blank>", "<unk>", "▁HE", "LLO", "▁A", "▁", "X", "<sos/eos>"]
V = len(TOKENS)


@pytest.mark.parametrize(
    ("split", "hello"),
    [
        # Letters 2 and 3; phones of 2, 2, 2 and 4 frames: 2/5 of 4 phones end at frame 3.2.
        ("phone_proportional", [2] * 3 + [3] * 7),
        ("equal", [2] * 5 + [3] * 5),
    ],
)
def test_units_share_the_time_of_their_word(split, hello):
    words = UnitWords(TOKENS).split(np.array([2, 3, 4]))
    assert [w.tolist() for w in words] == [[2, 3], [4]]
    frame_words = np.array([-1] * 2 + [0] * 10 + [-1] + [1] * 3)
    phones = np.array([0] * 2 + [1, 1, 2, 2, 3, 3, 4, 4, 4, 4] + [0] + [5] * 3)
    labels = bpe_frame_labels(frame_words, phones, words, UnitWords(TOKENS).letters, split)
    assert labels.tolist() == [V] * 2 + hello + [V] + [4] * 3


def test_words_of_other_tokenisations():
    assert [w.tolist() for w in UnitWords(TOKENS).split(np.array([5, 6, 4]))] == [[5, 6], [4]]
    chars = ["<blank>", "<space>", "a", "b"]
    split = UnitWords(chars, "char").split(np.array([2, 3, 1, 3]))
    assert [w.tolist() for w in split] == [[2, 3], [3]]
    assert len(UnitWords(["a", "b"], "word").split(np.array([0, 1, 1]))) == 3


def test_an_utterance_without_alignment_has_no_units_and_too_many_words_are_an_error():
    label = BpeLabeller(TOKENS, "bpe", "equal")
    data = {"text": np.array([2, 3]), "align_word": np.full(4, -1)}
    assert label("u1", data)["align_bpe"].tolist() == [-1] * 4
    with pytest.raises(DataError, match=r"u2: the alignment has 2 words, the text has 1"):
        label("u2", {**data, "align_word": np.array([0, 1])})


def test_a_lexicon_of_units_gives_them_directly():
    label = BpeLabeller(TOKENS, "bpe", "hybrid_bpe_lexicon", ["SIL", "▁A", "LLO", "▁HE"])
    data = {"text": np.array([2, 3]), "align_word": np.array([-1, 0, 0, 0, -1]),
            "align_phone": np.array([0, 3, 2, 2, 0])}  # fmt: skip
    assert label("u", data)["align_bpe"].tolist() == [V, 2, 3, 3, V]
    with pytest.raises(UsageError, match="AH0"):
        BpeLabeller(TOKENS, "bpe", "hybrid_bpe_lexicon", ["SIL", "AH0"])
