# SPDX-License-Identifier: Apache-2.0
"""Contrastive loss of pairs: S = a v^T / tau; L = (CE(S, diagonal) + CE(S^T, diagonal)) / 2.

With several processes the other side of a pair competes with those of all processes, and gradients
flow back to them. Letters: B pairs of this process, E width of an embedding.
"""

import math
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

TAU_AT_START = 0.07
MAX_SCALE = 100.0


class ClrLoss(nn.Module):
    """Symmetric contrastive loss, in single precision under autocast, too.

    Args:
        tau: Temperature, or ``learned``: from 0.07 on, and 1/tau is 100 at most.

    Source: arXiv 2403.19822 (contrastive learning); form and temperature as in CLIP.
    """

    def __init__(self, tau: str | float = "learned"):
        super().__init__()
        learned = tau == "learned"
        scale = torch.tensor(-math.log(TAU_AT_START if learned else float(tau)))
        if learned:
            self.log_scale = nn.Parameter(scale)
        else:
            self.register_buffer("log_scale", scale)

    @property
    def scale(self) -> Tensor:
        """1/tau; a learned one is capped."""
        if isinstance(self.log_scale, nn.Parameter):
            return self.log_scale.clamp(max=math.log(MAX_SCALE)).exp()
        return self.log_scale.exp()

    def forward(self, a: Tensor, v: Tensor) -> Tensor:
        """Return the loss, the mean over this process's pairs.

        Args:
            a: ``(B, E)``, of any length.
            v: ``(B, E)``; pairs have the same row.
        """
        a, v = (F.normalize(x.float(), dim=-1) for x in (a, v))
        all_a, first = gather_rows(a)
        all_v, _ = gather_rows(v)
        pair = first + torch.arange(len(a), device=a.device)
        # Mixed precision would round similarities of up to 100 to multiples of a half.
        with torch.autocast(a.device.type, enabled=False):
            to_v = F.cross_entropy(self.scale * a @ all_v.T, pair)
            to_a = F.cross_entropy(self.scale * v @ all_a.T, pair)
        return (to_v + to_a) / 2


def retrieval(a: Tensor, v: Tensor) -> Tensor:
    """Return the share of rows whose nearest row of the other side is their pair, of both ways.

    Args:
        a: ``(B, E)``.
        v: ``(B, E)``.
    """
    with torch.autocast(a.device.type, enabled=False):  # rounded similarities would be equal
        s = F.normalize(a.float(), dim=-1) @ F.normalize(v.float(), dim=-1).T
    pair = torch.arange(len(a), device=a.device)
    return ((s.argmax(1) == pair).float().mean() + (s.argmax(0) == pair).float().mean()) / 2


def gather_rows(x: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all processes, and the number of the first one of this process.

    Args:
        x: ``(B, E)``; B may differ between processes.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x, 0
    counts = [
        torch.zeros(1, dtype=torch.long, device=x.device) for _ in range(dist.get_world_size())
    ]
    dist.all_gather(counts, torch.tensor([len(x)], device=x.device))
    sizes = [int(c) for c in counts]
    return _GatherRows.apply(x, sizes), sum(sizes[: dist.get_rank()])


class _GatherRows(torch.autograd.Function):
    """Rows of all processes; backwards, each gets the sum of all processes' gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.first, ctx.count = sum(sizes[: dist.get_rank()]), len(x)
        padded = x.new_zeros(max(sizes), x.shape[1])
        padded[: len(x)] = x
        rows = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(rows, padded)
        return torch.cat([r[:n] for r, n in zip(rows, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient)
        return gradient[ctx.first : ctx.first + ctx.count], None
