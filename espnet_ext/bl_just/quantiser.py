# SPDX-License-Identifier: Apache-2.0
r"""Gumbel product quantiser and diversity loss of wav2vec 2.0 (arXiv 2006.11477).

Each of G codebooks chooses one of V entries; the entries, side by side, are the quantised vector.
With p_g the mean over frames of codebook g's softmax and H its entropy in nats::

    diversity = (G V - sum_g exp H(p_g)) / (G V)

0 if every entry is used alike, ``1 - 1 / V`` if each codebook always chooses the same entry.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional


class GumbelQuantiser(nn.Module):
    """Choose an entry per codebook, in training by Gumbel noise with straight-through gradients.

    Args:
        size: Of an input vector.
        codebooks: G.
        codes: V.
        code_dim: Size of the quantised vector, a multiple of G.
        temperature: Of the softmax that carries the gradient.
    """

    def __init__(self, size: int, codebooks: int, codes: int, code_dim: int, temperature: float):
        super().__init__()
        self.codebooks, self.codes, self.temperature = codebooks, codes, temperature
        self.choose = nn.Linear(size, codebooks * codes)
        nn.init.normal_(self.choose.weight, std=size**-0.5)
        nn.init.zeros_(self.choose.bias)
        self.entries = nn.Parameter(torch.rand(codebooks, codes, code_dim // codebooks))

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Quantise.

        Args:
            vectors: ``(Q, size)``.

        Returns:
            ``(Q, code_dim)`` quantised vectors; ``(Q, G)`` the entries chosen; ``(Q, G, V)``
            the softmax without noise, for :func:`diversity_loss`.
        """
        logits = self.choose(vectors).unflatten(-1, (self.codebooks, self.codes))
        if self.training:
            chosen = functional.gumbel_softmax(logits, self.temperature, hard=True)
        else:
            best = logits.argmax(-1)
            chosen = functional.one_hot(best, self.codes).to(logits.dtype)
        quantised = torch.einsum("qgv,gvd->qgd", chosen, self.entries).flatten(1)
        return quantised, chosen.argmax(-1), logits.softmax(-1)


def code_perplexity(probabilities: Tensor) -> Tensor:
    """Return ``exp H`` of each codebook's mean choice, ``(G,)``, of ``(Q, G, V)``."""
    mean = probabilities.mean(0)
    return (-torch.xlogy(mean, mean).sum(-1)).exp()


def diversity_loss(probabilities: Tensor) -> Tensor:
    """Return the diversity loss, a scalar in ``[0, 1 - 1 / V]``, of ``(Q, G, V)``."""
    return 1 - code_perplexity(probabilities).mean() / probabilities.shape[-1]
