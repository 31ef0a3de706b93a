# SPDX-License-Identifier: Apache-2.0
"""Valid frames of padded batches."""

import torch
from torch import Tensor

from espnet_ext.errors import DataError


def valid_frames(lengths: Tensor, frames: int) -> Tensor:
    """Return ``(B, T)``, true where a frame of ``lengths`` ``(B,)`` is no padding."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(-1)


def check_lengths(hidden: Tensor, lengths: Tensor) -> None:
    """Check that each utterance has frames, and that these are in the batch.

    Args:
        hidden: ``(B, T, D)``.
        lengths: ``(B,)`` valid frames.

    Raises:
        DataError: An utterance has no valid frame.
        ValueError: The shapes do not fit.
    """
    if hidden.ndim != 3 or lengths.shape != hidden.shape[:1]:
        raise ValueError(f"frames {tuple(hidden.shape)} and lengths {tuple(lengths.shape)}")
    if lengths.max() > hidden.shape[1]:
        raise ValueError(f"a length of {lengths.max()} in a batch of {hidden.shape[1]} frames")
    empty = (lengths < 1).nonzero().flatten().tolist()
    if empty:
        raise DataError(
            "no valid frame: the audio is shorter than one frame of the encoder",
            f"utterance {', '.join(map(str, empty))} of the batch, counted from 0",
            "leave such utterances out",
        )


def full_precision(x: Tensor) -> Tensor:
    """Return float64 as it is, anything else as float32."""
    return x if x.dtype == torch.float64 else x.float()
