# SPDX-License-Identifier: Apache-2.0
r"""Multi-step contrastive predictive coding (InfoNCE) between neighbouring windows.

A context window is encoded to its last vector c ``(D,)``, the target window right after it, by
the same encoder, to e ``(T_f, D)``. One linear layer P, applied i times, predicts step i::

    r_i = P^i c,  i = 1..T_f;   r and e of all windows in Q = W T_f rows
    S = cos(r, e) / tau  (Q, Q);   g = mean_q [logsumexp_j S[q, j] - S[q, q]]

Sources: the reference code of arXiv 2412.08548; arXiv 1807.03748 for the loss.
Letters: W windows; the rest as in unsup_base.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from espnet_ext.bl_just.unsup_base import Encoder, UnsupLoss, best_share
from espnet_ext.bl_just.unsup_conf import CpcConf


class CpcLoss(UnsupLoss):
    """The loss with its prediction layer; arguments as in :class:`UnsupLoss`.

    Statistics: ``acc``, the share of rows whose best column is their own; ``windows``.
    """

    stat_names = ("acc", "windows")
    uses_stride = False

    def __init__(
        self,
        feature_dim: int,
        hidden_dim: int,
        conf: CpcConf,
        frame_shift_s: float = 0.01,
        stride: int | None = None,
    ):
        super().__init__(feature_dim, hidden_dim, conf, frame_shift_s, stride)
        self.conf = conf
        self.context = self.frames(conf.context_s)
        self.future = self.frames(conf.future_s)
        self.hop = self.frames(conf.hop_s)
        self.predict = nn.Linear(hidden_dim, hidden_dim, bias=False)
        # Powers of the default initialisation vanish, those of an orthogonal matrix do not.
        nn.init.orthogonal_(self.predict.weight)

    @property
    def min_frames(self) -> int:
        """Input frames of a context and its future."""
        return self.context + self.future

    def loss(
        self, encoder: Encoder, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss and its statistics; arguments as in :meth:`UnsupLoss.forward`."""
        utts, starts = window_starts(lengths, self.min_frames, self.hop)
        context = cut_windows(x, utts, starts, self.context)
        future = cut_windows(x, utts, starts + self.context, self.future)
        with_last, e = self._encode(encoder, context, future, lengths)
        if self.conf.stop_grad:
            e = e.detach()
        steps = e.shape[1]
        # Products in half precision would add up over the powers of P.
        with torch.autocast(x.device.type, enabled=False):
            r, predictions = with_last, []
            for _ in range(steps):
                r = self.predict(r)
                predictions.append(r)
            rows = torch.stack(predictions, 1).flatten(0, 1)
            utt_of_row = utts.repeat_interleave(steps)
            columns = e.flatten(0, 1)
            kept = subset(len(rows), self.conf.max_queries, rows.device)
            if kept is not None:
                rows, columns, utt_of_row = rows[kept], columns[kept], utt_of_row[kept]
            groups = None if self.conf.same_utt_negatives else utt_of_row
            logits = cosine_logits(rows, columns, self.conf.temperature, groups)
            right = torch.arange(len(rows), device=x.device)
            loss = functional.cross_entropy(logits, right)
        stats = {"acc": best_share(logits, right), "queries": len(rows), "windows": len(utts)}
        return loss, stats

    def _encode(
        self, encoder: Encoder, context: Tensor, future: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the last vectors of the contexts ``(W, D)`` and the targets ``(W, T_f, D)``."""
        count = len(context)
        if self.context == self.future:
            both = torch.cat([context, future])
            h, n = self.encode(encoder, both, lengths.new_full((2 * count,), self.context))
            h, e, n, e_n = h[:count], h[count:], n[:count], n[count:]
        else:
            h, n = self.encode(encoder, context, lengths.new_full((count,), self.context))
            e, e_n = self.encode(encoder, future, lengths.new_full((count,), self.future))
        return h[torch.arange(count, device=h.device), n - 1], e[:, : int(e_n[0])]


def window_starts(lengths: Tensor, window: int, hop: int) -> tuple[Tensor, Tensor]:
    """Return where windows lie that are wholly inside their utterance.

    Args:
        lengths: ``(N,)`` frames, each of at least ``window``.
        window: Frames.
        hop: Frames from one window to the next.

    Returns:
        ``(W,)`` indices of utterances and ``(W,)`` first frames.
    """
    counts = (lengths - window).div(hop, rounding_mode="floor") + 1
    utts = torch.repeat_interleave(torch.arange(len(lengths), device=lengths.device), counts)
    first = counts.cumsum(0) - counts
    return utts, (torch.arange(len(utts), device=lengths.device) - first[utts]) * hop


def cut_windows(x: Tensor, utts: Tensor, starts: Tensor, frames: int) -> Tensor:
    """Return the windows ``(W, frames, F)`` of ``x (N, T, F)``."""
    inner = torch.arange(frames, device=x.device)
    return x[utts.unsqueeze(1), starts.unsqueeze(1) + inner]


def subset(count: int, limit: int | None, device: torch.device | str = "cpu") -> Tensor | None:
    """Return ``limit`` random ones of ``count`` rows, in order, or None for all."""
    if limit is None or count <= limit:
        return None
    return torch.randperm(count, device=device)[:limit].sort().values


def cosine_logits(
    rows: Tensor, columns: Tensor, temperature: float, groups: Tensor | None = None
) -> Tensor:
    """Return ``cos(rows, columns) / temperature``, ``(Q, Q)``.

    Args:
        rows: ``(Q, D)``.
        columns: ``(Q, D)``, the positive of row q at q.
        temperature: tau.
        groups: ``(Q,)``; columns of the row's own group, but for its positive, are -inf.
    """
    logits = functional.normalize(rows, dim=-1) @ functional.normalize(columns, dim=-1).T
    logits = logits / temperature
    if groups is None:
        return logits
    same = groups.unsqueeze(1) == groups
    same.fill_diagonal_(False)
    return logits.masked_fill(same, float("-inf"))
