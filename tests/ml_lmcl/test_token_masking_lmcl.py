# SPDX-License-Identifier: Apache-2.0
"""Masked tokens: shares, what is never touched, and batches in which chance selects nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.token_masking import NO_TARGET, mask_tokens

VOCAB, MASK = 1000, 4


def texts(b=4, t=12, seed=0):
    """Return ids 10 and above with padding -1, and which of them may be masked."""
    torch.manual_seed(seed)
    ids = torch.randint(10, VOCAB, (b, t))
    lengths = torch.randint(3, t + 1, (b,))
    inside = torch.arange(t) < lengths.unsqueeze(1)
    maskable = inside.clone()
    maskable[:, 0] = False
    maskable[torch.arange(b), lengths - 1] = False
    return ids.masked_fill(~inside, -1), maskable


def generator(seed):
    return torch.Generator().manual_seed(seed)


@settings(max_examples=50)
@given(st.integers(0, 10**6), st.integers(1, 5), st.floats(0.001, 1))
def test_only_selected_tokens_change_and_they_are_the_targets(seed, b, ratio):
    ids, maskable = texts(b, seed=seed)
    before = ids.clone(), maskable.clone()
    masked, targets = mask_tokens(ids, maskable, MASK, VOCAB, ratio, generator(seed))
    assert torch.equal(ids, before[0]) and torch.equal(maskable, before[1])
    assert masked.data_ptr() != ids.data_ptr() and targets.data_ptr() != ids.data_ptr()
    assert masked.dtype == targets.dtype == torch.int64
    selected = targets != NO_TARGET
    assert selected.any() == maskable.any()
    assert not (selected & ~maskable).any()
    assert torch.equal(targets[selected], ids[selected])
    assert torch.equal(masked[~selected], ids[~selected])
    assert ((masked >= 0) & (masked < VOCAB))[selected].all()


def test_the_shares():
    ids = torch.full((500, 400), 7)
    maskable = torch.arange(400).expand(500, 400) >= 200
    masked, targets = mask_tokens(ids, maskable, MASK, VOCAB, 0.15, generator(0))
    selected = targets != NO_TARGET
    assert selected.sum() / maskable.sum() == pytest.approx(0.15, abs=0.005)
    read = masked[selected]
    shares = [(read == MASK), (read == 7), (read != MASK) & (read != 7)]
    for share, expected in zip(shares, (0.8, 0.1, 0.1), strict=True):
        assert share.float().mean().item() == pytest.approx(expected, abs=0.01)
    randomly = read[shares[2]].float()
    assert randomly.mean().item() == pytest.approx(VOCAB / 2, rel=0.05)
    assert randomly.min() < 20 and randomly.max() > VOCAB - 20


def test_every_token_is_selected_at_ratio_one():
    ids, maskable = texts()
    _, targets = mask_tokens(ids, maskable, MASK, VOCAB, 1.0)
    assert torch.equal(targets != NO_TARGET, maskable)


def test_one_token_is_taken_if_chance_takes_none_each_alike():
    ids = torch.arange(10, 16).view(2, 3)
    maskable = torch.tensor([[False, True, True], [True, False, True]])
    counts = torch.zeros(2, 3)
    for seed in range(800):
        _, targets = mask_tokens(ids, maskable, MASK, VOCAB, 1e-9, generator(seed))
        selected = targets != NO_TARGET
        assert selected.sum() == 1
        counts += selected
    assert not counts[~maskable].any()
    assert (counts[maskable] / 800).tolist() == pytest.approx([0.25] * 4, abs=0.06)


def test_without_maskable_tokens_there_is_nothing_to_guess():
    ids, maskable = texts()
    masked, targets = mask_tokens(ids, torch.zeros_like(maskable), MASK, VOCAB)
    assert torch.equal(masked, ids) and (targets == NO_TARGET).all()
    empty = torch.zeros(3, 0, dtype=torch.long)
    masked, targets = mask_tokens(empty, empty.bool(), MASK, VOCAB)
    assert masked.shape == targets.shape == (3, 0)


def test_masks_are_drawn_anew_and_repeat_with_a_generator():
    ids, maskable = texts(8, 30)
    g = generator(1)
    first, second = (mask_tokens(ids, maskable, MASK, VOCAB, 0.15, g)[1] for _ in range(2))
    assert not torch.equal(first, second)
    again = mask_tokens(ids, maskable, MASK, VOCAB, 0.15, generator(1))[1]
    assert torch.equal(first, again)


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.1])
def test_misuse(ratio):
    ids, maskable = texts()
    with pytest.raises(UsageError, match="mask_ratio"):
        mask_tokens(ids, maskable, MASK, VOCAB, ratio)
    with pytest.raises(ValueError, match="maskable"):
        mask_tokens(ids, maskable[:1], MASK, VOCAB)
