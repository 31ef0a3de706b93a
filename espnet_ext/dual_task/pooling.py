# SPDX-License-Identifier: Apache-2.0
r"""Attentive pooling: one vector for an utterance, from the frames of the speech encoder.

With hidden states H and the valid frames t = 1..T_i of utterance i::

    u_t = w . H_t + b                       w (D)
    a   = softmax of u over the valid frames
    c   = sum_t a_t H_t                     (D)
    e   = tanh(W c + b')                    W (E, D)

Padded frames have weight 0, so that a vector does not depend on the batch it was computed in. The
softmax and the weighted sum are computed in float32 under autocast, too.

Source: SAMU-XLSR (arXiv 2205.08180), as arXiv 2406.12141 uses it. Projection and tanh after the
pooling are as others describe them; the sizes follow from the published numbers of parameters.
Letters: B utterances, T frames, D width of the encoder, E width of the sentence vectors.
"""

import torch
from torch import Tensor, nn

from espnet_ext.dual_task.masks import check_lengths, valid_frames


class AttentivePooling(nn.Module):
    """Pool the frames of each utterance.

    Args:
        dim: D, width of a frame.
        out_dim: E, width of the sentence vectors that e is compared with.
    """

    def __init__(self, dim: int, out_dim: int):
        super().__init__()
        self.score = nn.Linear(dim, 1)
        self.projection = nn.Linear(dim, out_dim)

    def weights(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return a ``(B, T)``, float32 or better: what each frame counts; 0 where it is padding.

        Args:
            hidden: ``(B, T, D)``.
            lengths: ``(B,)`` valid frames.

        Raises:
            DataError: An utterance has no valid frame.
            ValueError: The shapes do not fit.
        """
        check_lengths(hidden, lengths)
        scores = self.score(hidden).squeeze(-1)
        if scores.dtype != torch.float64:
            scores = scores.float()
        padded = ~valid_frames(lengths, hidden.shape[1])
        return scores.masked_fill(padded.to(scores.device), -torch.inf).softmax(-1)

    def forward(self, hidden: Tensor, lengths: Tensor) -> Tensor:
        """Return e ``(B, E)``.

        Args:
            hidden: ``(B, T, D)``.
            lengths: ``(B,)`` valid frames, each from 1 to T.

        Raises:
            DataError: An utterance has no valid frame.
            ValueError: The shapes do not fit.
        """
        weights = self.weights(hidden, lengths)
        padded = ~valid_frames(lengths, hidden.shape[1]).to(hidden.device)
        # 0 times a padded infinity or NaN would be NaN.
        frames = hidden.to(weights.dtype).masked_fill(padded.unsqueeze(-1), 0)
        with torch.autocast(hidden.device.type, enabled=False):
            pooled = torch.einsum("bt,btd->bd", weights, frames)
        return self.projection(pooled.to(self.projection.weight.dtype)).tanh()
