# SPDX-License-Identifier: Apache-2.0
"""Encoders whose embeddings and lowest layers stay as they are, computed once for each text.

A frozen layer has no gradient and no dropout, so its output for a text is the same in every epoch:
it is kept in memory, and an update costs the upper layers only. The parameters keep their names and
stay in the checkpoint; an optimiser that is given all of them leaves those without gradient alone,
weight decay or not.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn

from espnet_ext.errors import UsageError
from espnet_ext.ml_lmcl.first_token import agree, first_token, has_form
from espnet_ext.ml_lmcl.options import check_frozen
from espnet_ext.text.encoder import encode

WHERE = "ml_lmcl.freeze_layers"
MB = 1e6
TOGETHER = 16  # texts that are computed at once


class FrozenLayers:
    """What runs an encoder in two parts, and remembers the output of the lower one.

    It is no module, so that the parameters of the encoder keep their names.

    Args:
        encoder: Of transformers, of the BERT family.
        count: Lowest layers that are frozen with the embeddings, from 1.
        pad_id: Sub-word for padding.
        limit_mb: Memory that remembered outputs may take, in units of 10^6 bytes; texts beyond it
            are computed each time.

    Raises:
        UsageError: The encoder has fewer layers, or cannot be run in two parts.
    """

    def __init__(self, encoder: nn.Module, count: int, pad_id: int, limit_mb: float = 1000.0):
        check_frozen(count, encoder.config.num_hidden_layers, stage1=False)
        self.encoder, self.count, self.pad_id = encoder, count, pad_id
        self.limit, self.used, self.full = limit_mb * MB, 0, False
        self.known: dict[bytes, Tensor] = {}
        self._check_parts()
        self.short_last = has_form(encoder.encoder.layer[-1], encoder.config.hidden_size)
        for part in self.lower_parts:
            part.requires_grad_(False)
        self.evaluate()
        # Other weights, e.g. those of stage 1, say something else.
        encoder.register_load_state_dict_post_hook(lambda *_: self.forget())

    @property
    def lower_parts(self) -> list[nn.Module]:
        """The embeddings and the frozen layers."""
        return [self.encoder.embeddings, *self.encoder.encoder.layer[: self.count]]

    @property
    def all_layers(self) -> bool:
        """Whether nothing is left to train: only the first token's state is kept then."""
        return self.count == len(self.encoder.encoder.layer)

    def evaluate(self) -> None:
        """Switch dropout off in the frozen part; ``train()`` of a network switches it on."""
        for part in self.lower_parts:
            part.eval()

    def forget(self) -> None:
        """Empty the memory."""
        self.known.clear()
        self.used, self.full = 0, False

    def __call__(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the last layer's state of the first token ``(B, D)``.

        Args:
            ids: ``(B, T)`` int64, anything where ``mask`` is false.
            mask: ``(B, T)`` bool: true up to the length of each text, false beyond.
        """
        return self.first(self.lower(ids, mask), mask)

    def lower(self, ids: Tensor, mask: Tensor, keep: bool = True) -> Tensor:
        """Return the frozen part's output ``(B, T, D)``, 0 where ``mask`` is false.

        ``(B, 1, D)`` if all layers are frozen; without gradient, also where gradients are on.

        Args:
            ids: As of :meth:`__call__`.
            mask: As of :meth:`__call__`.
            keep: Whether these texts will come again.
        """
        lengths = mask.sum(1).tolist()
        keys = [r[:n].tobytes() for r, n in zip(ids.cpu().numpy(), lengths, strict=True)]
        if self.known and next(iter(self.known.values())).device != ids.device:
            self.forget()
        first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key not in self.known:
                first.setdefault(key, row)
        new = dict(zip(first, self._compute(ids, mask, [*first.values()]), strict=True))
        if keep:
            self._remember(new)
        rows = [new[key] if key in new else self.known[key] for key in keys]
        width = 1 if self.all_layers else mask.shape[1]
        out = rows[0].new_zeros(len(rows), width, rows[0].shape[-1])
        for row, states in zip(out, rows, strict=True):
            row[: len(states)] = states
        return out

    def upper(self, states: Tensor, mask: Tensor) -> Tensor:
        """Run the layers that are trained on ``(B, T, D)``."""
        return _run(self.encoder.encoder.layer[self.count :], states, mask)

    def first(self, states: Tensor, mask: Tensor) -> Tensor:
        """Run them for the first token alone: ``(B, D)`` from ``(B, T, D)``."""
        *below, last = self.encoder.encoder.layer[self.count :] or [None]
        if last is None or not self.short_last:
            return self.upper(states, mask)[:, 0]
        return first_token(last, _run(below, states, mask), _bias(states, mask))[:, 0]

    def _compute(self, ids: Tensor, mask: Tensor, rows: list[int]) -> list[Tensor]:
        """Return the output ``(T_i, D)`` of each of these rows."""
        # In parts of similar length: a random batch is half padding.
        order = sorted(rows, key=mask.sum(1).tolist().__getitem__)
        found: dict[int, Tensor] = {}
        for part in (order[i : i + TOGETHER] for i in range(0, len(order), TOGETHER)):
            found |= zip(part, self._compute_together(ids, mask, part), strict=True)
        return [found[row] for row in rows]

    def _compute_together(self, ids: Tensor, mask: Tensor, rows: list[int]) -> list[Tensor]:
        # Out of inference mode: the memory also serves updates, which save it for their gradient.
        with torch.inference_mode(False), torch.no_grad():
            mask = mask[rows].clone()
            width = int(mask.sum(1).max())
            mask, ids = mask[:, :width], ids[rows].clone()[:, :width]
            states = _run(self.lower_parts[1:], self._embed(ids, mask), mask)
            lengths = [1] * len(rows) if self.all_layers else mask.sum(1).tolist()
            # Copies: a view would keep the padded batch in memory.
            return [states[i, :n].clone() for i, n in enumerate(lengths)]

    def _embed(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder.embeddings(input_ids=ids.masked_fill(~mask, self.pad_id))

    def _remember(self, new: dict[bytes, Tensor]) -> None:
        for key, states in new.items():
            size = len(key) + states.numel() * states.element_size()
            if self.used + size > self.limit:
                self.full = True
            else:
                self.known[key] = states
                self.used += size

    def _check_parts(self) -> None:
        """Compare the two parts in turn with the encoder as it is."""
        device = next(self.encoder.parameters()).device
        ids = torch.arange(5, 15, device=device).view(2, 5) % self.encoder.config.vocab_size
        mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2], device=device)

        def ways() -> tuple[Tensor, Tensor]:
            whole = encode(self.encoder, ids, mask, self.pad_id)
            parts = _run(self.encoder.encoder.layer, self._embed(ids, mask), mask)
            return whole[mask], parts[mask]

        if not agree(self.encoder, ways):
            what = f"the layers of {type(self.encoder).__name__} cannot be run one by one"
            raise UsageError(what, WHERE, "set it to 0, or take an encoder of the BERT family")

    def __str__(self) -> str:
        layers = len(self.encoder.encoder.layer)
        more = (
            "; the rest is computed each time: raise ml_lmcl.frozen_cache_mb" if self.full else ""
        )
        return (
            f"embeddings and {self.count} of {layers} layers are frozen; their output for "
            f"{len(self.known):,} texts is kept, {self.used / MB:.0f} MB of at most "
            f"{self.limit / MB:.0f} MB{more}"
        )


class WithFrozenLayers(nn.Module):
    """A network some of whose layers may be frozen: these have no dropout in training either."""

    frozen: FrozenLayers | None = None

    def train(self, mode: bool = True) -> Self:
        """See :meth:`nn.Module.train`."""
        super().train(mode)
        if self.frozen:
            self.frozen.evaluate()
        return self


def _run(layers: Any, states: Tensor, mask: Tensor) -> Tensor:
    """Run layers on ``(B, T, D)``; positions where ``mask`` ``(B, T)`` is false are not seen."""
    bias = _bias(states, mask)
    for layer in layers:
        states = layer(states, bias)
    return states


def _bias(states: Tensor, mask: Tensor) -> Tensor:
    """Return what is added to the scores of attention ``(B, 1, 1, T)``."""
    lowest = torch.finfo(states.dtype).min
    return torch.zeros_like(mask, dtype=states.dtype).masked_fill(~mask, lowest)[:, None, None]
