# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR model with an unsupervised loss on its encoder.

theta is everything up to the encoder's output, phi the CTC layer and the decoder, eta the module
``unsup``; the stock parameters keep their names. What a batch is for stands in the batch (``step``
of :mod:`espnet_ext.bl_just.streams`), so the model has no state of its own.
"""

import argparse
import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from espnet2.asr.espnet_model import ESPnetASRModel, autocast_type
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn

from espnet_ext.bl_just.bilevel import gradient_geometry, joint_loss, with_scaled_gradient
from espnet_ext.bl_just.options import BlJustConf, resolve
from espnet_ext.bl_just.schedule import OPTIMISER
from espnet_ext.bl_just.unsup import build_unsup, loss_class, probe_stride
from espnet_ext.bl_just.unsup_base import full_precision

THETA = ("frontend", "specaug", "normalize", "preencoder", "encoder", "postencoder")
ETA = "unsup"


def part_of(name: str) -> str:
    """Return ``theta``, ``phi`` or ``eta`` for the name of a parameter."""
    first = name.split(".")[0]
    return "theta" if first in THETA else "eta" if first == ETA else "phi"


class BLJustModel(ESPnetASRModel):
    """See the module's text."""

    def init_extension(self, args: argparse.Namespace) -> None:
        """Add the unsupervised head; random numbers of the stock model are not touched."""
        self.conf: BlJustConf = resolve(args.bl_just)
        if not uses_unsup(self.conf):
            return
        inner, outer = self.preencoder or self.frontend, self.postencoder or self.encoder
        width = inner.output_size() if inner is not None else args.input_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            stride = None
            if loss_class(self.conf.unsup_loss).uses_stride:
                self.eval()
                stride = probe_stride(self._encode_features, width)
                self.train()
            self.unsup = build_unsup(
                self.conf.unsup_loss,
                self.conf.unsup_options,
                feature_dim=width,
                hidden_dim=outer.output_size(),
                frame_shift_s=args.bl_just["resolved"]["frame_shift_s"],
                stride=stride,
            )

    def forward(
        self,
        speech: Tensor | None = None,
        speech_lengths: Tensor | None = None,
        text: Tensor | None = None,
        text_lengths: Tensor | None = None,
        step: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> tuple | dict[str, Any]:
        """Return loss, statistics and weight, with the optimiser that the update is for.

        Args:
            speech: ``(B, samples)``, labelled.
            speech_lengths: ``(B,)``.
            text: ``(B, L)``.
            text_lengths: ``(B,)``.
            step: ``kind``, ``gamma`` and ``measure``; None outside training: ESPnet's own loss.
            kwargs: ``u_speech (U, samples)`` and ``u_speech_lengths (U,)``, unlabelled.
        """
        u_speech, u_lengths = kwargs.pop("u_speech", None), kwargs.pop("u_speech_lengths", None)
        if step is None:
            return super().forward(speech, speech_lengths, text, text_lengths, **kwargs)
        f, g, stats, weight = None, None, {}, None
        if speech is not None:
            tokens = text_lengths.float().mean()
            batch = (speech, speech_lengths, text, text_lengths)
            f, stats, weight = super().forward(*batch, **kwargs)
            f = full_precision(f)  # ESPnet's CTC loss is as coarse as the encoder's output
            stats["f"] = f.detach()
        if u_speech is not None:
            g, told = self._second_loss(step, u_speech, u_lengths)
            stats |= {**told, "g": g.detach()}
            matched = step["kind"] == "joint" and self.conf.unsup_scale == "match_tokens"
            if matched and f is not None:
                # The upper loss is what it is at any gamma, also at 0, when the lower is not there.
                f, g = (f / tokens, g) if self._reversed else (f, g * tokens)
            weight = len(u_lengths) if weight is None else weight
        if step["measure"] and f is not None and g is not None:
            stats |= self._geometry(step, f, g)
        loss = self._objective(step, f, g)
        stats["loss"] = self._value(step, f, g)
        if f is not None and g is not None:
            stats["gamma"] = step["gamma"]
        loss, stats, weight = force_gatherable((loss, stats, weight), loss.device)
        index = OPTIMISER[step["kind"]]
        return {"loss": loss, "stats": stats, "weight": weight, "optim_idx": index}

    @property
    def _reversed(self) -> bool:
        return self.conf.upper_level == "unsupervised"

    def _head_is_unscaled(self, step: dict[str, Any]) -> bool:
        return self.conf.eta_scale == "one" and step["kind"] == "joint"

    def _objective(self, step: dict[str, Any], f: Tensor | None, g: Tensor | None) -> Tensor:
        if step["kind"] not in ("joint", "pseudo"):
            return g if f is None else f
        upper, lower = (g, f) if self._reversed else (f, g)
        return joint_loss(upper, lower, step["gamma"], self._head_is_unscaled(step))

    def _value(self, step: dict[str, Any], f: Tensor | None, g: Tensor | None) -> Tensor:
        if f is None or g is None:
            return (g if f is None else f).detach()
        f, g = f.detach(), g.detach()
        return g + step["gamma"] * f if self._reversed else f + step["gamma"] * g

    def _geometry(self, step: dict[str, Any], f: Tensor, g: Tensor) -> dict[str, Tensor]:
        named = self.named_parameters()
        theta = [p for n, p in named if p.requires_grad and part_of(n) == "theta"]
        told = gradient_geometry(f, g, theta)
        if self._head_is_unscaled(step):  # theta's gradient of g holds gamma already
            told["grad_norm_g"] = told["grad_norm_g"] / step["gamma"]
        return told

    def _second_loss(
        self, step: dict[str, Any], speech: Tensor, lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if step["kind"] == "pseudo":
            return self._pseudo_loss(speech, lengths)
        return self._unsup_loss(
            speech, lengths, step["gamma"] if self._head_is_unscaled(step) else 1.0
        )

    def _unsup_loss(
        self, speech: Tensor, lengths: Tensor, factor: float
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return g, a mean over frames, and its statistics; ``factor`` scales theta's gradient."""
        encoder = self._encode_features
        if factor != 1.0:
            encoder = with_scaled_gradient(encoder, factor)
        with _frozen_statistics(self.encoder, self.conf.bn_update_from == "labelled"):
            x, x_lengths = self._features(speech, lengths)
            g, told = self.unsup(encoder, x, x_lengths)
        return g, {f"unsup_{k}": v for k, v in told.items()}

    @torch.no_grad()
    def features_for_fit(
        self, batches: Iterable[dict[str, Tensor]]
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield what g sees of unlabelled batches, as in evaluation."""
        training, device = self.training, next(self.parameters()).device
        self.eval()
        for batch in batches:
            yield self._features(batch["speech"].to(device), batch["speech_lengths"].to(device))
        self.train(training)

    def _features(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the encoder reads, as in ``encode`` but with masks as configured."""
        # In full precision unless ESPnet's own option says otherwise, as labelled speech.
        with torch.autocast(speech.device.type, autocast_type, enabled=self.autocast_frontend):
            x, n = self._extract_feats(speech, lengths)
            if self.conf.specaug_unlabelled and self.specaug is not None and self.training:
                x, n = self.specaug(x, n)
            if self.normalize is not None:
                x, n = self.normalize(x, n)
        if self.preencoder is not None:
            x, n = self.preencoder(x, n)
        return x, n

    def _encode_features(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        more = {}
        if getattr(self.encoder, "interctc_use_conditioning", False):
            more = {"ctc": _ConstantCTC(self.ctc.ctc_lo)}
        h, h_lengths, _ = self.encoder(x, lengths, **more)
        h = h[0] if isinstance(h, tuple) else h
        if self.postencoder is not None:
            h, h_lengths = self.postencoder(h, h_lengths)
        return h, h_lengths

    def _pseudo_loss(self, speech: Tensor, lengths: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return f on the model's own greedy CTC transcripts, and how many were empty."""
        self.eval()
        with torch.no_grad():
            h, h_lengths = self.encode(speech, lengths)
            h = h[0] if isinstance(h, tuple) else h
            best = self.ctc.argmax(h)
        self.train()
        text, text_lengths = best_paths(best, h_lengths, self.blank_id, self.ignore_id)
        keep = text_lengths.nonzero().flatten()
        told = {"pseudo_empty": (text_lengths == 0).sum().float()}
        if not len(keep):
            return 0.0 * self.ctc.ctc_lo.bias.sum(), told
        batch = (speech[keep], lengths[keep], text[keep], text_lengths[keep])
        with _frozen_statistics(self.encoder, self.conf.bn_update_from == "labelled"):
            loss, _, _ = super().forward(*batch)
        return full_precision(loss), told


def best_paths(best: Tensor, lengths: Tensor, blank: int, padding: int) -> tuple[Tensor, Tensor]:
    """Return the label sequences of greedy CTC paths; the device is waited for once a batch.

    Args:
        best: ``(U, T)`` the best label of each frame.
        lengths: ``(U,)`` frames.
        blank: Its label.
        padding: What fills the sequences up.

    Returns:
        ``(U, L)`` labels and ``(U,)`` their numbers, 0 for a path of blanks.
    """
    alive = torch.arange(best.shape[1], device=best.device) < lengths.to(best.device).unsqueeze(1)
    changes = nn.functional.pad(best[:, 1:] != best[:, :-1], (1, 0), value=True)
    keep = alive & changes & (best != blank)
    counts = keep.sum(1)
    order = torch.argsort((~keep).to(torch.uint8), dim=1, stable=True)
    packed = best.gather(1, order)[:, : max(1, int(counts.max()))]
    inside = torch.arange(packed.shape[1], device=best.device) < counts.unsqueeze(1)
    return torch.where(inside, packed, padding), counts


class _ConstantCTC:
    """The CTC layer as self-conditioning reads it; g sends no gradient into phi."""

    def __init__(self, layer: nn.Linear):
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()

    def softmax(self, h: Tensor) -> Tensor:
        return nn.functional.linear(h, self.weight, self.bias).softmax(-1)


def uses_unsup(conf: BlJustConf) -> bool:
    """Return whether a schedule has the unsupervised loss g at all."""
    return conf.schedule not in ("supervised", "pseudo_label")


@contextlib.contextmanager
def _frozen_statistics(module: nn.Module, frozen: bool) -> Iterator[None]:
    """Keep batch normalisation from updating its running statistics."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [m.momentum for m in norms]
    try:
        for m in norms if frozen else ():
            m.momentum = 0.0
        yield
    finally:
        for m, momentum in zip(norms, momenta, strict=True):
            m.momentum = momentum
