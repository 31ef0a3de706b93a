# SPDX-License-Identifier: Apache-2.0
"""BLSTM acoustic model on tied states: posteriors, scaled likelihoods, files without pickle."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from espnet_ext.align.formats.arrays import save_arrays
from espnet_ext.blstm import run_blstm
from espnet_ext.errors import DataError


class Blstm(nn.Module):
    """Tied-state posteriors; B utterances, T frames, K states."""

    def __init__(
        self, num_mel: int, layers: int, units: int, num_states: int, dropout: float = 0.0
    ):
        super().__init__()
        self.shape = (num_mel, layers, units, num_states)
        self.lstm = nn.LSTM(
            num_mel, units, layers, batch_first=True, bidirectional=True,
            dropout=dropout if layers > 1 else 0.0,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(2 * units, num_states)
        self.register_buffer("log_prior", torch.zeros(num_states))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        """Map ``(B, T, num_mel)`` to log posteriors ``(B, T, K)``.

        Args:
            x: Features, longest first.
            lengths: Keeps padding out of the result; without, the frames next to padding see
                some of it.
        """
        if lengths is None:
            h, _ = self.lstm(x)
        else:
            h = run_blstm(self.lstm, x, lengths)
        return self.output(self.dropout(h)).log_softmax(-1)

    @torch.no_grad()
    def scores(self, xs: list[torch.Tensor], prior_scale: float) -> list[torch.Tensor]:
        """Return scaled log-likelihoods ``log p(s|x) - prior_scale log p(s)``, ``(T, K)`` each."""
        order = sorted(range(len(xs)), key=lambda i: -len(xs[i]))
        lengths = torch.tensor([len(xs[i]) for i in order])
        padded = nn.utils.rnn.pad_sequence([xs[i] for i in order], batch_first=True)
        logp = self(padded, lengths) - prior_scale * self.log_prior
        out: list[torch.Tensor] = [logp] * len(xs)
        for row, i in enumerate(order):
            out[i] = logp[row, : len(xs[i])]
        return out

    def save(self, path: Path) -> None:
        """Write shape and weights, atomically."""
        arrays = {k: v.cpu().numpy() for k, v in self.state_dict().items()}
        save_arrays(path, {"shape": np.array(self.shape), **arrays})

    @classmethod
    def load(cls, path: Path) -> "Blstm":
        """Read what :meth:`save` wrote, ready for inference.

        Raises:
            DataError: The file is missing or is not such a model.
        """
        try:
            with np.load(path, allow_pickle=False) as z:
                model = cls(*(int(n) for n in z["shape"]))
                model.load_state_dict({k: torch.from_numpy(z[k]) for k in z.files if k != "shape"})
        except Exception as e:  # a damaged zip fails in many ways
            raise DataError(f"not a BLSTM of the aligner: {e}", path, "train it again") from None
        if not all(bool(t.isfinite().all()) for t in model.state_dict().values()):
            raise DataError("the BLSTM has weights that are not finite", path, "train it again")
        return model.eval()
