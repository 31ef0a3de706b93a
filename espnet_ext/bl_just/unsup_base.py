# SPDX-License-Identifier: Apache-2.0
"""What the unsupervised losses share: the interface, the choice of utterances, the checks.

The encoder is theta and is handed over at each call; the parameters of a loss are eta.
Letters: N utterances, T input frames, F features, T' encoder frames, D encoder dimension.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from espnet_ext.errors import UsageError


@dataclass(frozen=True)
class NoConf:
    """Of a loss without options."""


Encoder = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
STRIDE = 4  # input frames between encoder frames, of the usual front ends
_SURE_FRAMES = 25  # of encoder frames, from which on lengths tell the stride


class UnsupLoss(nn.Module):
    """Base of the losses g(theta, eta) on speech without text.

    Args:
        feature_dim: F.
        hidden_dim: D.
        conf: Options of the loss.
        frame_shift_s: Time between input frames.
        stride: Input frames between encoder frames, which :func:`probe_stride` finds; None: 4.
            The CPC loss works with any encoder and does not use it.

    Attributes:
        stat_names: Statistics of :meth:`loss` besides ``queries``.
        conf_class: Dataclass of the options, of a loss that is named by ``module:Class``.
        uses_stride: Whether the encoder is asked for its stride.
    """

    stat_names: Sequence[str] = ()
    conf_class: type = NoConf
    uses_stride = True

    def __init__(
        self,
        feature_dim: int,
        hidden_dim: int,
        conf: Any,
        frame_shift_s: float = 0.01,
        stride: int | None = None,
    ):
        super().__init__()
        self.feature_dim, self.hidden_dim = feature_dim, hidden_dim
        self.frame_shift_s = frame_shift_s
        self.stride = stride or STRIDE
        self._checked: set[str] = set()

    def frames(self, seconds: float) -> int:
        """Return the number of input frames, 1 at least."""
        return max(1, round(seconds / self.frame_shift_s))

    @property
    def min_frames(self) -> int:
        """Input frames of the shortest utterance with a query."""
        raise NotImplementedError

    def forward(
        self, encoder: Encoder, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, a mean over the query frames of the batch.

        Utterances below :attr:`min_frames` are left out. Padding is set to 0 and cut to the
        longest utterance, so neither its length nor its content changes anything. The encoder
        gets the utterances in decreasing order of length.

        Args:
            encoder: ``(x (N, T, F), lengths (N,)) -> (h (N, T', D), h_lengths (N,))``.
            x: ``(N, T, F)`` features.
            lengths: ``(N,)`` frames.

        Returns:
            The loss, a scalar, and detached scalars: ``queries``, ``skipped`` (utterances left
            out) and the loss's own. Without any query the loss is 0 with zero gradients on eta,
            and the own statistics are NaN, which ESPnet's reporter leaves out of its means.

        Raises:
            UsageError: The encoder gives log-probabilities or vectors of another dimension, or
                its stride is not the one given.
        """
        lengths = lengths.to(x.device)
        # ESPnet's RNN encoders take utterances in decreasing order of length only.
        usable = lengths.argsort(descending=True, stable=True)
        usable = usable[lengths[usable] >= self.min_frames]
        stats: dict[str, Tensor | float] = {"skipped": len(lengths) - len(usable)}
        if len(usable):
            lengths = lengths[usable]
            x = x[usable, : int(lengths.max())]
            x = x.masked_fill(~inside(lengths, x.shape[1]).unsqueeze(-1), 0)
            loss, told = self.loss(encoder, x, lengths)
        else:
            loss, told = self.nothing(x)
        stats |= told
        # Processes of a distributed training exchange them one by one: all have the same order.
        names = (*self.stat_names, "queries", "skipped")
        return loss, {name: as_scalar(stats[name], x.device) for name in names}

    @property
    def utterances_to_fit(self) -> int:
        """Unlabelled utterances that :meth:`fit` still wants before the first update; 0: none."""
        return 0

    def fit(self, batches: Iterable[tuple[Tensor, Tensor]]) -> str:
        """Learn from features, once and without gradients, what the loss needs to begin.

        Args:
            batches: ``(N, T, F)`` features and ``(N,)`` their lengths.

        Returns:
            What was done, a line for the log.
        """
        raise NotImplementedError

    def loss(
        self, encoder: Encoder, x: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Return the loss of utterances that are all long enough, and its statistics.

        The statistics are :attr:`stat_names` and ``queries``, whatever the batch.
        """
        raise NotImplementedError

    def nothing(self, x: Tensor) -> tuple[Tensor, dict[str, float]]:
        """Return the loss and the statistics of a batch without queries."""
        zero = torch.stack([p.sum() * 0 for p in self.parameters()]).sum()
        return zero, {**dict.fromkeys(self.stat_names, math.nan), "queries": 0}

    def encode(self, encoder: Encoder, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the encoder's output in full precision; the first one is checked."""
        h, h_lengths = encoder(x, lengths)
        h_lengths = h_lengths.to(h.device)
        h = full_precision(h)
        if "output" not in self._checked:
            self._checked.add("output")
            check_output(h.detach(), h_lengths, self.hidden_dim)
        return h, h_lengths

    def check_stride(self, lengths: Tensor, h_lengths: Tensor) -> None:
        """Raise UsageError if a long utterance shows another stride; once is enough."""
        if "stride" in self._checked or int(h_lengths.max()) < _SURE_FRAMES:
            return
        self._checked.add("stride")
        longest = int(h_lengths.argmax())
        # The last encoder frame begins inside the utterance, padded or not.
        seen = (int(lengths[longest]) - 1) // (int(h_lengths[longest]) - 1)
        if seen != self.stride:
            raise UsageError(
                f"the encoder makes a frame of {seen} input frames, not of {self.stride}",
                type(self).__name__,
                f"stride={seen}",
            )


def check_output(h: Tensor, h_lengths: Tensor, hidden_dim: int) -> None:
    """Check that an encoder gives hidden vectors.

    Args:
        h: ``(N, T', D)``.
        h_lengths: ``(N,)``.
        hidden_dim: D expected.

    Raises:
        UsageError: D differs, or every vector holds log-probabilities.
    """
    if h.dim() != 3 or h.shape[-1] != hidden_dim:
        raise UsageError(
            f"the encoder's output is {tuple(h.shape)}, not (N, T', {hidden_dim})",
            "unsupervised loss",
            "hidden_dim must be the encoder's output size",
        )
    rows = h[inside(h_lengths, h.shape[1])]
    if not len(rows):
        raise UsageError(
            "the encoder makes no frame of the windows it is given",
            "unsupervised loss",
            "longer windows, or an encoder that divides the rate less",
        )
    if bool((rows.logsumexp(-1).abs() < 1e-4).all()):
        raise UsageError(
            "the encoder gives log-probabilities",
            "unsupervised loss",
            "hand over the hidden vectors before the output layer and its log-softmax",
        )


def probe_stride(encoder: Encoder, feature_dim: int, device: torch.device | str = "cpu") -> int:
    """Return how many input frames the encoder makes one frame of, from silence of two lengths.

    The caller puts the encoder into evaluation mode, else BatchNorm would learn of the silence.

    Args:
        encoder: As in :meth:`UnsupLoss.forward`.
        feature_dim: F.
        device: Of the encoder.

    Raises:
        UsageError: The encoder's rate is no whole part of the input's.
    """
    step, counts = 480, []  # a multiple of every stride in use
    with torch.no_grad():
        for frames in (step, 2 * step):
            lengths = torch.tensor([frames], device=device)
            counts.append(
                int(encoder(torch.zeros(1, frames, feature_dim, device=device), lengths)[1])
            )
    made = counts[1] - counts[0]
    if made <= 0 or step % made:
        raise UsageError(
            f"of {step} input frames the encoder makes {made}",
            "encoder",
            "masked losses need a whole number of input frames per encoder frame; use cpc",
        )
    return step // made


def inside(lengths: Tensor, frames: int) -> Tensor:
    """Return which frames are not padding, ``(N, frames)`` bool."""
    return torch.arange(frames, device=lengths.device) < lengths.unsqueeze(1)


def full_precision(h: Tensor) -> Tensor:
    """Return half precision as float32, the rest as it is."""
    return h.float() if h.dtype in (torch.float16, torch.bfloat16) else h


def as_scalar(value: Tensor | float, device: torch.device) -> Tensor:
    """Return a statistic as a detached float32 scalar; a number is filled in on the device."""
    if isinstance(value, Tensor):
        return value.detach().to(device, torch.float32)
    return torch.full((), float(value), device=device)


def best_share(logits: Tensor, right: Tensor) -> Tensor:
    """Return the share of rows whose right column is the first of the best ones.

    Half precision has many ties; an encoder that has collapsed to one vector has nothing else.

    Args:
        logits: ``(Q, C)``.
        right: ``(Q,)`` the right column of each row.
    """
    return (logits.argmax(-1) == right).float().mean()
