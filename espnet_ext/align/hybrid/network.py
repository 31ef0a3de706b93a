# SPDX-License-Identifier: Apache-2.0
"""Acoustic models on tied states: posteriors, scaled likelihoods, files without pickle.

A network reads pieces of utterances. A piece has ``context`` frames more on each side than it is
to predict: real ones of its utterance, and beyond the ends of the utterance its first and last
frame repeated (:func:`espnet_ext.align.hybrid.pieces.read_frames`). So a TDNN sees the same in a
cut training sequence, in a whole utterance and in a block of a long one.
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from espnet_ext.align.formats.arrays import save_arrays


class Network(nn.Module):
    """Tied-state posteriors; N frames of all pieces, D mel filters, K states.

    Args:
        num_mel: D.
        layers: Hidden layers.
        units: Of a layer, a direction of the BLSTM.
        num_states: K.
        width: H of what :meth:`hidden` returns.
    """

    kind: ClassVar[str]
    warm_up: ClassVar[int] = 0
    """Frames before and after a block of a long utterance that make its scores better."""
    context = 0
    """Frames of a piece on each side that have no output."""

    def __init__(self, num_mel: int, layers: int, units: int, num_states: int, width: int):
        super().__init__()
        self.shape = (num_mel, layers, units, num_states)
        self.precision = "float32"  # of the training
        self.output = nn.Linear(width, num_states)
        self.register_buffer("log_prior", torch.zeros(num_states))

    def hidden(self, pieces: list[Tensor]) -> Tensor:
        """Map pieces ``(context + T + context, D)`` to ``(N, H)``, one piece after the other."""
        raise NotImplementedError

    def forward(self, pieces: list[Tensor]) -> Tensor:
        """Return ``(N, K)`` log posteriors up to a constant of each frame."""
        return self.output(self.hidden(pieces))

    @torch.inference_mode()
    def scores(
        self, pieces: list[Tensor], prior_scale: float, states: list[Tensor] | None = None
    ) -> list[Tensor]:
        """Return scaled log-likelihoods ``log p(s|x) - prior_scale log p(s)``, ``(T, U)`` each.

        Args:
            pieces: As of :meth:`hidden`.
            prior_scale: Weight of the prior.
            states: ``(U,)`` the states wanted of each piece; None: all K.
        """
        lengths = [len(x) - 2 * self.context for x in pieces]
        out = []
        # Piece by piece: all states of many utterances would fill the memory.
        for i, h in enumerate(self.hidden(pieces).split(lengths)):
            z = self.output(h)
            z = z - z.logsumexp(-1, keepdim=True) - prior_scale * self.log_prior
            out.append(z if states is None else z[:, states[i].to(z.device)].contiguous())
        return out

    def __str__(self) -> str:
        _, layers, units, _ = self.shape
        return f"{self.kind} {layers} x {units}, trained in {self.precision}"

    def save(self, path: Path) -> None:
        """Write kind, shape and weights, atomically."""
        arrays = {k: v.cpu().numpy() for k, v in self.state_dict().items()}
        about = {"network": np.array(self.kind), "precision": np.array(self.precision)}
        save_arrays(path, {**about, "shape": np.array(self.shape), **arrays})
