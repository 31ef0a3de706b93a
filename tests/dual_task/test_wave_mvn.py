# SPDX-License-Identifier: Apache-2.0
"""Normalisation of samples: ESPnet's arithmetic, in memory that grows with T, not its square."""

import pytest
import torch

from espnet_ext.espnet import fastimport

fastimport.enable()

from espnet2.layers.utterance_mvn import UtteranceMVN  # noqa: E402

from espnet_ext.dual_task.model import WaveMVN  # noqa: E402


@pytest.mark.parametrize("norm_vars", [True, False])
def test_it_computes_what_stock_espnet_computes(norm_vars):
    torch.manual_seed(0)
    x, lengths = 3 + torch.randn(3, 400), torch.tensor([400, 250, 1])
    stock, ours = (kind(True, norm_vars)(x.clone(), lengths) for kind in (UtteranceMVN, WaveMVN))
    assert torch.allclose(stock[0], ours[0], atol=1e-6) and torch.equal(stock[1], ours[1])
    assert ours[0].shape == x.shape and not ours[0][1, 250:].any()


def test_half_a_minute_is_no_matter_of_gigabytes():
    """Stock ESPnet would ask for 230 GB: the test would not end."""
    x, lengths = torch.randn(2, 480_000), torch.tensor([480_000, 320_000])
    y, _ = WaveMVN(True, True)(x.clone(), lengths)
    for row, out, n in zip(x, y, lengths, strict=True):
        expected = (row[:n] - row[:n].mean()) / row[:n].var(correction=0).sqrt()
        assert torch.allclose(out[:n], expected, atol=1e-4)
