# SPDX-License-Identifier: Apache-2.0
"""Labels at frame centres, greedy errors, one gradient scaler for two optimisers."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.dual_task import greedy
from espnet_ext.dual_task.phone_loss import IGNORED, at_centres, phone_loss
from espnet_ext.dual_task.trainer import SharedScaler
from espnet_ext.frames import encoder_of_config

CONFIGS = (
    {"encoder": "conformer", "frontend_conf": {"hop_length": 120}},
    {"encoder": "conformer", "frontend_conf": {"hop_length": 240},
     "encoder_conf": {"input_layer": "conv2d2"}},
)  # fmt: skip


@given(st.lists(st.integers(1, 60), min_size=1, max_size=4), st.sampled_from(CONFIGS))
def test_labels_equal_a_loop_over_times(sizes, config):
    encoder = encoder_of_config(config)
    labels = torch.arange(60).repeat(len(sizes), 1)
    lengths = torch.tensor(sizes)
    frames = torch.tensor([max(1, encoder.frames(160 * n)) for n in sizes])
    found = at_centres(labels, lengths, frames, encoder.shift_s, encoder.first_centre_s)
    for row, n, t in zip(found.tolist(), sizes, frames.tolist(), strict=True):
        for j, label in enumerate(row):
            centre_ms = 1000 * (encoder.first_centre_s + j * encoder.shift_s)
            assert label == (min(math.floor(centre_ms / 10 + 1e-6), n - 1) if j < t else IGNORED)


def test_a_tone_is_labelled_where_the_network_hears_it():
    """Frame j of conv2d sees feature frame 4 j + 3: 7.5 ms each, 30 ms apart."""
    encoder = encoder_of_config(CONFIGS[0])
    assert encoder.shift_s == pytest.approx(0.03)
    assert encoder.first_centre_s == pytest.approx(3 * 0.0075)


def test_phone_loss_in_closed_form():
    logits = torch.zeros(2, 3, 4, requires_grad=True)
    targets = torch.tensor([[0, 1, IGNORED], [2, IGNORED, IGNORED]])
    loss, acc = phone_loss(logits, targets)
    assert loss.item() == pytest.approx(math.log(4)) and acc.item() == pytest.approx(1 / 3)
    loss.backward()
    assert logits.grad[0, 2].abs().sum() == 0 == logits.grad[1, 1:].abs().sum()
    none, _ = phone_loss(logits, torch.full((2, 3), IGNORED))
    assert none.item() == 0


TOKENS = ["<blank>", "<unk>", "<a>", "<b>", ">", "<space>", "x", "y", "<sos/eos>"]


def symbols(text):
    return [TOKENS.index("<space>" if s == "_" else s) for s in text.split()]


def test_errors_of_symbols_and_concepts():
    reference = symbols("<a> _ x _ > _ <b> _ y _ >")
    wrong_value = symbols("<a> _ x _ > _ <b> _ x _ >")
    assert greedy.to_text(reference, TOKENS) == "<a> x > <b> y >"
    rates = greedy.error_rates([wrong_value, reference], [reference, reference], TOKENS)
    assert rates == {"char_error": 1 / 22, "concept_error": 0.0}
    rates = greedy.error_rates([symbols("<b> _ y _ >")], [reference], TOKENS)
    assert rates["concept_error"] == 0.5
    assert greedy.error_rates([symbols("<a>")], [[]], TOKENS) == {
        "char_error": 1.0, "concept_error": 1.0,
    }  # fmt: skip


def test_best_path_without_repeats_blanks_and_padding():
    path = [2, 2, 0, 2, 6, 6, 0, 7]
    logits = torch.nn.functional.one_hot(torch.tensor([path, path]), 9).float()
    assert greedy.best_symbols(logits, torch.tensor([8, 5])) == [[2, 2, 6, 7], [2, 2, 6]]


def test_both_optimisers_step_by_gradients_that_are_unscaled_once():
    """ESPnet's loop: unscale all, then step and update for each."""
    weights = [torch.nn.Parameter(torch.ones(())) for _ in range(3)]
    optimizers = [torch.optim.SGD([w], lr=1.0) for w in weights]
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1)
    shared = SharedScaler(scaler, len(optimizers))
    for _ in range(2):
        before, scale = [w.item() for w in weights], scaler.get_scale()
        loss = 0.25 * weights[0] + 0.5 * weights[1]  # the third has no gradient
        shared.scale(loss).backward()
        for optimizer in optimizers:
            shared.unscale_(optimizer)
        for optimizer in optimizers:
            shared.step(optimizer)
            shared.update()
        moved = [b - w.item() for b, w in zip(before, weights, strict=True)]
        assert moved == [0.25, 0.5, 0.0]
        assert shared.get_scale() == 2 * scale  # it grew once
        for optimizer in optimizers:
            optimizer.zero_grad()
