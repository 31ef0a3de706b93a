# SPDX-License-Identifier: Apache-2.0
"""Transformer blocks as in ViT: normalisation first, GELU. B clips, N tokens of width D."""

from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.multistage.masking import gather_tokens


class Block(nn.Module):
    """Self-attention and two linear layers, each added to its input.

    Args:
        width: D.
        heads: Of the attention; they divide D.
        mlp: Width between the two linear layers.
    """

    def __init__(self, width: int, heads: int, mlp: int):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp), nn.GELU(), nn.Linear(mlp, width))

    def forward(self, x: Tensor, valid: Tensor | None = None, only: Tensor | None = None) -> Tensor:
        """Return ``(B, N, D)``, or ``(B, M, D)`` with ``only``.

        Args:
            x: ``(B, N, D)``.
            valid: ``(B, N)`` bool, at least one a clip; None: all tokens are.
            only: Places ``(B, M)`` of the tokens that are wanted; they look at all tokens.
        """
        d = x.shape[-1]
        normal = self.norm1(x)
        if only is None:
            q, k, v = self._split(self.qkv(normal), 3)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            x, some = gather_tokens(x, only), gather_tokens(normal, only)
            (q,) = self._split(F.linear(some, weight[:d], bias[:d]), 1)
            k, v = self._split(F.linear(normal, weight[d:], bias[d:]), 2)
        mask = None if valid is None else valid[:, None, None]
        seen = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape))
        return x + self.mlp(self.norm2(x))

    def _split(self, x: Tensor, parts: int) -> Tensor:
        """Return ``(parts, B, heads, N, D / heads)`` of ``(B, N, parts * D)``."""
        b, n, _ = x.shape
        return x.view(b, n, parts, self.heads, -1).permute(2, 0, 3, 1, 4)


class VideoEncoder(nn.Module):
    """Blocks with a last normalisation.

    Args:
        width: D.
        blocks: Their number.
        heads: Of each.
        mlp: Width inside of each; None: four times D.

    Source: arXiv 2403.19822 (ViT, 12 blocks of width 768); heads and mlp inferred.
    """

    def __init__(self, width: int = 768, blocks: int = 12, heads: int = 12, mlp: int | None = None):
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, mlp or 4 * width) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tensor, valid: Tensor | None = None, only: Tensor | None = None
    ) -> Tensor:
        """Return ``(B, N, D)``, or ``(B, M, D)`` with ``only``; see :class:`Block`.

        What is not wanted is not computed by the last block.
        """
        last = len(self.blocks) - 1
        for number, block in enumerate(self.blocks):
            tokens = block(tokens, valid, only if number == last else None)
        return self.norm(tokens)
