# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR model with auxiliary heads on encoder layers.

The parameters of the stock model keep their names; the heads are ``aux_heads.<name>``. With the
convex sum of ESPnet::

    loss = (1 - c) L_att + c L_CTC + sum_i w_i L_aux_i

Nothing here runs in decoding: the encoder is the stock one, read by hooks during training.
Letters: B utterances, T label frames, T_l and D_l frames and width of a layer, K classes.
"""

import argparse
import math
from typing import Any

import torch
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn

from espnet_ext.errors import DataError
from espnet_ext.progress import progress_log
from espnet_ext.weak_align import labels as resampling
from espnet_ext.weak_align.ctc_loss import collapsed_ctc
from espnet_ext.weak_align.geometry import feature_grid, features_of
from espnet_ext.weak_align.labels import FrameGrid, Targets
from espnet_ext.weak_align.loss import frame_accuracy, full_precision, smoothed_ce
from espnet_ext.weak_align.presets import AuxConf, LossConf, stored
from espnet_ext.weak_align.taps import Tap, find_tap, layer_number, record

# What each type of loss tells, beside its value.
STATISTICS = {
    "frame_ce": ("acc", "acc_speech"),
    "bpe_ce": ("acc", "acc_speech"),
    "frame_ctc": ("left_out",),
}
STREAMS = ("align", "align_word", "align_phone", "align_bpe")


def make_head(width: int, classes: int, layers: int, norm: bool) -> nn.Sequential:
    """Return linear layers with ReLU between them: ``(..., D_l)`` to ``(..., K)``."""
    parts: list[nn.Module] = [nn.LayerNorm(width)] if norm else []
    for _ in range(layers - 1):
        parts += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(width, classes))


def stream_of(loss: LossConf, unit: str) -> str:
    """Return the stream of a loss's labels."""
    if loss.type == "bpe_ce":
        return "align_bpe"
    return "align" if unit == "triphone" else "align_phone"


class WeakAlignModel(ESPnetASRModel):
    """See the module's text. ``training_progress`` is set by the trainer."""

    training_progress: tuple[int, int] | None = None

    def init_extension(self, args: argparse.Namespace) -> None:
        """Add the heads; random numbers of the stock model are not touched.

        Args:
            args: With ``aux["resolved"]``; the layers' numbers are put there.
        """
        facts = args.aux["resolved"]
        for plain in facts["losses"]:
            plain["layer"] = layer_number(self, plain["layer"])
        self.aux_conf: AuxConf = stored(args.aux)
        self.label_grid = FrameGrid(facts["frame_shift_s"], facts["first_frame_centre_s"])
        self.shuffled = self.aux_conf.label_source == "shuffled"
        self.taps: dict[str, Tap] = {}
        self.silence: dict[str, Tensor] = {}
        self.features = None
        self.checked: set[str] = set()
        self.aux_heads = nn.ModuleDict()
        if not self.aux_conf.losses:
            return
        self.features = features_of(self.frontend, facts["sample_rate"])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            for loss in self.aux_conf.losses:
                tap = find_tap(self, loss.layer, loss.tap)
                classes = facts["classes"][loss.name]
                head = make_head(tap.width, classes, loss.head_layers, loss.head_norm)
                # Not trained at all: then the stock update stays the same to the last bit.
                head.requires_grad_(loss.weight > 0)
                self.aux_heads[loss.name] = head
                self.taps[loss.name] = tap
                silence = torch.tensor(facts["silence"][loss.name], dtype=torch.long)
                self.silence[loss.name] = silence

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return ESPnet's loss with the auxiliary losses, statistics and the batch size.

        Args:
            speech: ``(B, samples)``.
            speech_lengths: ``(B,)``.
            text: ``(B, L)``.
            text_lengths: ``(B,)``.
            kwargs: Streams ``align``, ``align_phone``, ``align_bpe``: ``(B, T)`` and
                ``<name>_lengths (B,)``; utterance ids ``utt_id``.
        """
        streams = {
            name: (kwargs.pop(name), kwargs.pop(f"{name}_lengths"))
            for name in STREAMS
            if name in kwargs
        }
        active = [x for x in self._active() if stream_of(x, self.aux_conf.unit) in streams]
        taps = {x.name: self.taps[x.name] for x in active}
        if not taps:
            result = super().forward(speech, speech_lengths, text, text_lengths, **kwargs)
            return self._add(result, {}, {})
        with record(taps, self.encoder) as seen:
            result = super().forward(speech, speech_lengths, text, text_lengths, **kwargs)
        losses, stats = {}, {}
        for loss in active:
            if loss.name not in seen:
                # All layers up to here were dropped at random, maybe in this process alone: those
                # of a distributed training exchange the same statistics in the same order.
                nan = speech.new_full((), math.nan, dtype=torch.float32)
                losses[loss.name] = None
                stats |= {f"{key}_aux_{loss.name}": nan for key in STATISTICS[loss.type]}
                continue
            labels, lengths = streams[stream_of(loss, self.aux_conf.unit)]
            h, h_lengths = seen[loss.name]
            self._check_lengths(loss, h_lengths, speech_lengths, kwargs.get("utt_id"))
            with torch.set_grad_enabled(loss.weight > 0 and torch.is_grad_enabled()):
                aligned = self._aligned(labels, lengths, speech_lengths)
                value, told = self._loss(loss, h, h_lengths, *aligned, text_lengths)
            losses[loss.name] = value
            stats |= {f"{key}_aux_{loss.name}": x for key, x in told.items()}
        return self._add(result, losses, stats)

    def _active(self) -> list[LossConf]:
        """Return the losses to compute; all of them outside training."""
        losses, alternation = list(self.aux_conf.losses), self.aux_conf.alternation
        if alternation is None or not self.training:
            return losses
        return [losses[alternation.active(self.training_progress, len(losses))]]

    def _add(self, result: tuple, losses: dict[str, Tensor | None], told: dict) -> tuple:
        loss, stats, weight = result
        weights = {x.name: x.weight for x in self.aux_conf.losses}
        # What alternates has, over time, a part each of the updates.
        parts = 1
        if self.aux_conf.alternation is not None and not self.training:
            parts = len(weights)
        for name, value in losses.items():
            if value is not None and weights[name] > 0:
                # Under autocast ESPnet's loss is as coarse as its encoder's output.
                loss = full_precision(loss) + weights[name] / parts * value
        if self.training and torch.is_grad_enabled():
            idle = [h for name, h in self.aux_heads.items() if losses.get(name) is None]
            touch = [p.sum() for head in idle for p in head.parameters() if p.requires_grad]
            if touch:  # DistributedDataParallel waits for the gradients of all parameters
                loss = loss + 0.0 * torch.stack(touch).sum()
        nan = loss.detach().new_full((), math.nan)
        values = {f"loss_aux_{n}": nan if v is None else v.detach() for n, v in losses.items()}
        values |= told
        if values:
            stats = {**stats, **force_gatherable(values, loss.device), "loss": loss.detach()}
        return loss, stats, weight

    def _aligned(
        self, labels: Tensor, lengths: Tensor, speech_lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return labels ``(B, T)`` that are as long as the speech, and their lengths."""
        if not self.shuffled:
            return labels, lengths
        shift = self.label_grid.shift_s * self.features.rate
        frames = torch.floor(speech_lengths / shift + 1e-6).long().clamp(min=1)
        return resampling.stretch(labels, lengths, frames), frames

    def _targets(
        self, loss: LossConf, h: Tensor, h_lengths: Tensor, labels: Tensor, lengths: Tensor
    ) -> Targets:
        rule = loss.bpe_collision if loss.type == "bpe_ce" else loss.label_rule
        encoder = self.taps[loss.name].geometry.grid(feature_grid(self.features))
        return resampling.resample(
            labels, lengths, h.shape[1], h_lengths, self.label_grid, encoder, rule
        )

    def _loss(
        self,
        loss: LossConf,
        h: Tensor,
        h_lengths: Tensor,
        labels: Tensor,
        lengths: Tensor,
        text_lengths: Tensor,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return one auxiliary loss and its statistics."""
        silence = self.silence[loss.name] = self.silence[loss.name].to(h.device)  # once
        mask = loss.silence == "mask"
        logits = self.aux_heads[loss.name](h)
        if loss.type == "frame_ctc":
            if loss.ctc_sequence == "encoder":
                labels = self._targets(loss, h, h_lengths, labels, lengths).labels
            labels = resampling.without(labels, silence) if mask else labels
            value, left_out = collapsed_ctc(logits, h_lengths, labels)
            return value, {"left_out": left_out}
        targets = self._targets(loss, h, h_lengths, labels, lengths)
        learnt, weights = targets.labels, None
        if targets.soft is not None:
            learnt, weights = targets.soft, targets.weights
        if mask:
            learnt = resampling.without(learnt, silence)
            if weights is not None:
                weights = torch.where(learnt >= 0, weights, 0)
                weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)
        value = smoothed_ce(
            logits,
            learnt,
            loss.smoothing,
            loss.smoothing_form,
            weights,
            loss.normalise,
            text_lengths,
        )
        best = logits.detach()
        speech = frame_accuracy(best, targets.labels, silence)
        return value, {"acc": frame_accuracy(best, targets.labels), "acc_speech": speech}

    def _check_lengths(
        self, loss: LossConf, h_lengths: Tensor, speech_lengths: Tensor, utts: Any
    ) -> None:
        """Once a loss: the encoder has as many frames as its geometry says."""
        if loss.name in self.checked:
            return
        self.checked.add(loss.name)
        tap = self.taps[loss.name]
        frames = [self.features.length(n) for n in speech_lengths.tolist()]
        for i, (have, n) in enumerate(zip(h_lengths.tolist(), frames, strict=True)):
            if have != tap.geometry.length(n):
                raise DataError(
                    f"the encoder gives {have} frames of {n}, {tap.geometry.length(n)} expected "
                    f"{tap.text}",
                    utts[i] if utts else f"utterance {i} of the first batch",
                    "this encoder or frontend changes lengths in a way that labels cannot follow",
                )
        if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
            progress_log.info(
                f"{loss.name}: {tap.text}, stride {tap.geometry.stride}, "
                f"{h_lengths.max().item()} frames of {max(frames)}"
            )
