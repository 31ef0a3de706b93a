# SPDX-License-Identifier: Apache-2.0
"""Small unsupervised losses, ready to be called."""

import torch

from espnet_ext.bl_just.unsup import UnsupLoss, build_unsup

SMALL = {
    "cpc": {"context_s": 0.4, "future_s": 0.2, "hop_s": 0.2},
    "wav2vec2": {"codes": 8, "code_dim": 8, "project_dim": 8, "negatives": 5},
    "best_rq": {"codes": 16, "code_dim": 4},
    "kmeans": {"codes": 16},
}


def small_unsup(name: str, feature_dim: int, hidden_dim: int, **options) -> UnsupLoss:
    """Return the loss, fitted to noise if it wants that."""
    stride = options.pop("stride", None)
    loss = build_unsup(name, SMALL[name] | options, feature_dim, hidden_dim, stride=stride)
    if loss.utterances_to_fit:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(3, 160, feature_dim, generator=generator)
        loss.fit([(x, torch.tensor([160, 121, 93]))])
    return loss
