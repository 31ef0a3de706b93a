# SPDX-License-Identifier: Apache-2.0
"""The unsupervised losses g by name; plain torch, for any encoder.

A loss is a module whose parameters are the unsupervised head eta; the shared encoder theta is an
argument of each call, ``(x (N, T, F), lengths (N,)) -> (h (N, T', D), h_lengths (N,))``::

    loss = build_unsup("cpc", {"context_s": 1.0}, feature_dim=80, hidden_dim=256)
    g, stats = loss(encoder, x, lengths)
"""

from typing import Any

from espnet_ext.bl_just.unsup_base import Encoder, UnsupLoss, probe_stride
from espnet_ext.bl_just.unsup_conf import UNSUP_LOSSES, loss_class, unsup_conf

__all__ = ["UNSUP_LOSSES", "Encoder", "UnsupLoss", "build_unsup", "loss_class", "probe_stride"]


def build_unsup(
    name: str,
    options: dict[str, Any] | None,
    feature_dim: int,
    hidden_dim: int,
    frame_shift_s: float = 0.01,
    stride: int | None = None,
) -> UnsupLoss:
    """Return the loss ``name``.

    Args:
        name: One of :data:`UNSUP_LOSSES`, or ``module:Class``.
        options: Its section of the configuration; missing keys are defaults.
        feature_dim: F.
        hidden_dim: D.
        frame_shift_s: Time between input frames.
        stride: Input frames between encoder frames, of which the masked losses stack as many;
            :func:`probe_stride` finds it; None: 4.

    Raises:
        UsageError: A name, key or value is not known, or a span too short for the stride.
    """
    conf = unsup_conf(name, options)
    return loss_class(name)(feature_dim, hidden_dim, conf, frame_shift_s, stride)
