# SPDX-License-Identifier: Apache-2.0
"""Outputs of a frozen encoder are computed once, and nothing else changes."""

import pytest
import torch

from espnet_ext.errors import UsageError
from espnet_ext.multistage.recognition.cache import EncodedBatches
from espnet_ext.multistage.recognition.options import resolve


class Encoder:
    """Doubles what it gets, and counts."""

    calls = 0

    def __call__(self, speech, lengths):
        self.calls += 1
        return 2 * speech[..., None], lengths


def batch(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 64), torch.tensor([64, 50])


def test_a_batch_is_encoded_once():
    cache, encoder = EncodedBatches(1), Encoder()
    first, again = (cache.of(("a", "b"), *batch(), encoder) for _ in range(2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    other = cache.of(("c", "d"), *batch(1), encoder)
    assert not torch.equal(other[0], first[0])
    assert (encoder.calls, cache.computed, cache.found) == (2, 2, 1)


def test_another_order_is_another_batch():
    cache, encoder = EncodedBatches(1), Encoder()
    speech, lengths = batch()
    cache.of(("a", "b"), speech, lengths, encoder)
    turned = cache.of(("b", "a"), speech.flip(0), lengths.flip(0), encoder)
    assert torch.equal(turned[0][..., 0], 2 * speech.flip(0)) and encoder.calls == 2


def test_memory_is_bounded():
    one = 2 * 64 * 4 / (1 << 20)  # of a batch, in MB
    cache, encoder = EncodedBatches(1.5 * one), Encoder()
    for _ in range(3):
        for name in "ab":
            cache.of((name,), *batch(), encoder)
    assert encoder.calls == 1 + 3 and cache.found == 2, "the second does not fit"


def test_sound_that_changes_is_noticed(caplog):
    cache, encoder = EncodedBatches(1), Encoder()
    with caplog.at_level("INFO", logger="espnet_ext.progress"):
        for epoch in range(3):
            speech, lengths = batch(epoch)  # as with noise that is added in training
            assert torch.equal(cache.of(("a",), speech, lengths, encoder)[0][..., 0], 2 * speech)
    assert encoder.calls == 3 and cache.off
    assert len([r for r in caplog.records if "changes from epoch to epoch" in r.message]) == 1


def test_mixed_precision_is_kept_as_it_is_and_takes_half_the_memory():
    torch.manual_seed(0)
    layer, cache = torch.nn.Linear(1, 8), EncodedBatches(1)
    with torch.autocast("cpu", torch.bfloat16):
        computed, found = (
            cache.of(("a", "b"), *batch(), lambda x, n: (layer(x[..., None]), n)) for _ in range(2)
        )
        plain = layer(batch()[0][..., None])
    assert cache.found == 1 and found[0].dtype == torch.bfloat16 and not found[0].requires_grad
    assert torch.equal(computed[0], plain) and torch.equal(found[0], plain)
    assert cache.left == (1 << 20) - 2 * plain.numel()


def test_its_option():
    assert resolve({}).cache_mb > 0 and resolve({"cache_mb": 0}).cache_mb == 0
    with pytest.raises(UsageError, match="at least 0"):
        resolve({"cache_mb": -1})
