# SPDX-License-Identifier: Apache-2.0
"""Masks are a partition of the valid tokens, and lead back to their order."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.multistage.masking import gather_tokens, kept_tokens, random_mask, restore_tokens


def test_the_counts_of_the_paper():
    lengths = torch.tensor([250, 1568, 249, 1])
    assert kept_tokens(lengths, 0.6).tolist() == [100, 627, 99, 1]
    assert kept_tokens(torch.tensor([10]), 0.9).tolist() == [1]  # 10 * (1 - 0.9) is below 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.floats(0, 0.95), st.integers(0, 99))
def test_seen_and_hidden_are_a_partition_and_padding_is_in_neither(lengths, ratio, seed):
    lengths = torch.tensor(lengths)
    mask = random_mask(lengths, ratio, torch.Generator().manual_seed(seed))
    tokens = torch.arange(1.0, int(lengths.max()) + 1).expand(len(lengths), -1)[..., None]
    visible = gather_tokens(tokens, mask.keep)
    visible = visible.masked_fill(~mask.kept[..., None], 1e9)  # rows that must not be used
    restored = restore_tokens(visible, torch.tensor([-1.0]), mask)[..., 0]
    for b, n in enumerate(lengths.tolist()):
        seen = mask.keep[b][mask.kept[b]].tolist()
        scored = mask.scored[b].nonzero()[:, 0].tolist()
        assert sorted(seen + scored) == list(range(n)) and seen == sorted(seen)
        assert len(seen) == int(kept_tokens(lengths, ratio)[b])
        assert mask.hidden[b][: len(scored)].tolist() == scored
        expected = [p + 1 if p in seen else -1 for p in range(mask.scored.shape[1])]
        assert restored[b].tolist() == expected


def test_every_token_is_hidden_equally_often():
    generator = torch.Generator().manual_seed(0)
    hidden = random_mask(torch.full((4000,), 10), 0.6, generator).scored.double().mean(0)
    assert hidden.tolist() == pytest.approx([0.6] * 10, abs=0.03)


def test_without_masking_the_order_is_that_of_the_input():
    mask = random_mask(torch.tensor([7, 4]), 0.0)
    assert not mask.scored.any()
    x = torch.randn(2, 7, 3)
    back = restore_tokens(gather_tokens(x, mask.keep), torch.zeros(3), mask)
    assert back[0].equal(x[0]) and back[1, :4].equal(x[1, :4])
