# SPDX-License-Identifier: Apache-2.0
"""ESPnet's ASR model with an utterance embedding and an SLU head: batches in, losses out.

Parameters of the stock model keep their names (``encoder.*``, ``ctc.*``); ours are ``pooling.*``
(utterance embedding), ``slu.*`` (Bi-LSTM and linear layers between encoder and CTC, absent if there
are none of both) and ``phone_head.*`` (pretraining only). Letters: B utterances, T encoder frames
of width D, W width of the SLU head, E of an embedding, V symbols.
"""

import argparse
from typing import Any

import torch
from espnet2.asr.ctc import CTC
from espnet2.asr.espnet_model import ESPnetASRModel
from espnet2.layers.utterance_mvn import UtteranceMVN
from espnet2.torch_utils.device_funcs import force_gatherable
from torch import Tensor, nn
from torch.nn import functional as F

from espnet_ext.dual_task import greedy
from espnet_ext.dual_task.dual_loss import dual_loss, slu_loss
from espnet_ext.dual_task.facts import Facts
from espnet_ext.dual_task.options import PHONES, SAMU, SLU, DualTaskConf
from espnet_ext.dual_task.phone_loss import at_centres, phone_loss
from espnet_ext.dual_task.pooling import AttentivePooling
from espnet_ext.dual_task.samu_loss import samu_loss, whole_batch
from espnet_ext.dual_task.slu_head import SluHead
from espnet_ext.dual_task.tuning import tune
from espnet_ext.errors import DataError, UsageError
from espnet_ext.frames import Encoder

Returned = tuple[Tensor, dict[str, Tensor], Tensor]


class WaveMVN(UtteranceMVN):
    """ESPnet's normalisation by utterance, of samples.

    Its mask of two- and three-dimensional input takes T x T bytes several times over: 25 GB each
    for 10 s of samples. That of four dimensions takes B x T, and the arithmetic is the same.
    """

    def forward(self, x: Tensor, ilens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Normalise ``(B, T)`` of ``(B,)`` samples; see ESPnet."""
        x, ilens = super().forward(x[..., None, None], ilens)
        return x[..., 0, 0], ilens


class DualTaskModel(ESPnetASRModel):
    """See the module's text.

    Attributes:
        losses: Names of the losses of this phase.
        retention: Adds a penalty against forgetting; None where there is none.
    """

    training_progress: tuple[int, int] | None = None
    retention: Any = None

    def init_extension(self, conf: DualTaskConf, facts: Facts, args: argparse.Namespace) -> None:
        """Add what the stock model lacks; its own random numbers are not touched.

        Args:
            conf: The method's options.
            facts: What they refer to.
            args: ESPnet's options.
        """
        self.dual_conf, self.losses = conf, conf.losses(facts.role)
        self.frames: Encoder | None = facts.frames
        if self.frontend is None and type(self.normalize) is UtteranceMVN:
            self.normalize.__class__ = WaveMVN
        tune(
            self.encoder, conf.freeze_layers, conf.train_cnn, conf.gradient_checkpointing, conf.bf16
        )
        width = self.encoder.output_size()
        self.pooling = self.slu = self.phone_head = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(args.seed)
            if facts.embedding_dim:
                self.pooling = AttentivePooling(width, facts.embedding_dim)
                self.pooling.requires_grad_(SAMU in self.losses)
            if SLU in self.losses and conf.has_head:
                self.slu = SluHead(
                    width,
                    blstm_layers=conf.blstm_layers,
                    cells=conf.blstm_cells or width,
                    linear_blocks=conf.linear_blocks,
                    width=conf.linear_width or width,
                    dropout=conf.head_dropout,
                )
                self.ctc = CTC(self.vocab_size, self.slu.output_size, **args.ctc_conf)
            if PHONES in self.losses:
                self.phone_head = nn.Linear(width, len(facts.phones))
        self.ctc.requires_grad_(SLU in self.losses)

    def slu_hidden(self, encoder_out: Tensor, lengths: Tensor) -> Tensor:
        """Return what CTC's output layer stands on ``(B, T, W)``; without a head the input.

        Args:
            encoder_out: ``(B, T, D)``.
            lengths: ``(B,)``.
        """
        return encoder_out if self.slu is None else self.slu(encoder_out, lengths)

    def slu_logits(self, encoder_out: Tensor, lengths: Tensor) -> Tensor:
        """Return scores of the symbols ``(B, T, V)`` before the softmax."""
        hidden = self.slu_hidden(encoder_out, lengths)
        return self.ctc.ctc_lo(F.dropout(hidden, self.ctc.dropout_rate, self.training))

    def embed(self, encoder_out: Tensor, lengths: Tensor) -> Tensor:
        """Return utterance embeddings ``(B, E)``.

        Raises:
            UsageError: The model has no pooling head.
        """
        if self.pooling is None:
            how = "train with sentence embeddings (stage 2 of the recipe makes them)"
            raise UsageError("this model has no utterance embeddings", "dual_task.sentences", how)
        return self.pooling(encoder_out, lengths)

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        sentence: Tensor | None = None,
        phones: Tensor | None = None,
        phones_lengths: Tensor | None = None,
        **kwargs: Any,
    ) -> Returned:
        """Return the loss of the phase, statistics and the batch size.

        Args:
            speech: ``(B, samples)``.
            speech_lengths: ``(B,)``.
            text: Tagged text as symbols ``(B, U)``.
            text_lengths: ``(B,)``.
            sentence: Sentence embeddings of the plain texts ``(B, E)``.
            phones: Labels of 10 ms ``(B, L)``.
            phones_lengths: ``(B,)``.
            kwargs: Utterance ids ``utt_id``, lengths that are not used.
        """
        self._check_long_enough(speech_lengths, kwargs.get("utt_id"))
        encoded, lengths = self.encode(speech, speech_lengths)
        if isinstance(encoded, tuple):  # intermediate CTC
            encoded = encoded[0]
        parts: dict[str, Tensor] = {}
        stats: dict[str, Any] = {}
        if SAMU in self.losses or (sentence is not None and self._watches()):
            told = self._samu(encoded, lengths, sentence, stats)
            if SAMU in self.losses:
                parts[SAMU] = told
        if SLU in self.losses:
            parts[SLU] = self._slu(encoded, lengths, text, text_lengths, stats)
        if PHONES in self.losses:
            self._check_frames(lengths, speech_lengths, kwargs.get("utt_id"))
            parts[PHONES] = self._phones(encoded, lengths, phones, phones_lengths, stats)
        loss = self._sum(parts)
        if self.retention is not None:
            loss = loss + self.retention(self, encoded, lengths, speech, speech_lengths, stats)
        stats["loss"] = loss.detach()
        return force_gatherable((loss, stats, len(speech)), loss.device)

    def trial_streams(self) -> dict[str, Tensor]:
        """Return further streams of two made-up utterances, to try the loss before data exist."""
        streams = {}
        if self.pooling is not None:
            streams["sentence"] = torch.randn(2, self.pooling.projection.out_features)
        if self.phone_head is not None:
            streams["phones"] = torch.zeros(2, 1, dtype=torch.long)
            streams["phones_lengths"] = torch.tensor([1, 1])
        return streams

    def _watches(self) -> bool:
        """Whether the distance is shown that no loss looks at: does training forget?"""
        return self.pooling is not None and not self.training

    def _sum(self, parts: dict[str, Tensor]) -> Tensor:
        """Return the loss: L_samu + lambda L_slu in the dual schedule, or what the phase has."""
        if SAMU in parts and SLU in parts:
            return dual_loss(parts[SAMU], parts[SLU], self.dual_conf.lambda_)
        weights = {PHONES: self.dual_conf.phone_weight if SAMU in parts else 1.0}
        return torch.stack([weights.get(name, 1.0) * x for name, x in parts.items()]).sum()

    def _samu(
        self, encoded: Tensor, lengths: Tensor, sentence: Tensor | None, stats: dict
    ) -> Tensor:
        if sentence is None:
            how = "streams: {name: sentence, file: plain, type: text, batch: false}"
            raise UsageError("L_samu needs the stream 'sentence'", "streams", how)
        conf = self.dual_conf
        e, scale, reduce = self.embed(encoded, lengths), conf.samu_scale, conf.samu_reduce
        batch = whole_batch(len(e), e.device) if reduce == "sum" else None
        loss, distance = samu_loss(e, sentence, scale or 1.0, reduce or "mean", batch)
        stats["samu"] = distance.detach().mean()
        return loss

    def _slu(
        self, encoded: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor, stats: dict
    ) -> Tensor:
        logits = self.slu_logits(encoded, lengths)
        loss, losses = slu_loss(
            logits, lengths, text, text_lengths, self.dual_conf.slu_reduce, zero_infinity=True
        )
        stats["ctc"] = losses.detach().mean()
        if not self.training:
            stats |= self._errors(logits, lengths, text, text_lengths)
        return loss

    def _errors(
        self, logits: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor
    ) -> dict[str, Tensor]:
        found = greedy.best_symbols(logits, lengths)
        wanted = [row[:n] for row, n in zip(text.tolist(), text_lengths.tolist(), strict=True)]
        rates = greedy.error_rates(found, wanted, self.token_list)
        # Shown by the trainer and kept for the curves of the results.
        rates["acc"] = max(0.0, 1.0 - rates["char_error"])
        return {name: logits.new_tensor(rate, dtype=torch.float32) for name, rate in rates.items()}

    def _phones(
        self,
        encoded: Tensor,
        lengths: Tensor,
        phones: Tensor | None,
        phones_lengths: Tensor | None,
        stats: dict,
    ) -> Tensor:
        if phones is None or phones_lengths is None:
            how = "streams: {name: phones, file: phones, type: text_int, batch: false}"
            raise UsageError("the phone loss needs the stream 'phones'", "streams", how)
        targets = at_centres(
            phones, phones_lengths, lengths, self.frames.shift_s, self.frames.first_centre_s
        )
        loss, acc = phone_loss(self.phone_head(encoded), targets)
        stats |= {"phone_ce": loss.detach(), "acc": acc.detach()}
        return loss

    def _check_long_enough(self, samples: Tensor, utts: Any) -> None:
        """Recipes leave such utterances out; a training without one is told which it is."""
        for i, n in enumerate([] if self.frames is None else samples.tolist()):
            if self.frames.frames(n) < 1:
                raise DataError(
                    f"{n} samples are less than one frame of the encoder",
                    f"utterance {utts[i]}" if utts else f"utterance {i} of the batch, from 0",
                    "leave such utterances out",
                )

    def _check_frames(self, lengths: Tensor, samples: Tensor, utts: Any) -> None:
        """Labels follow the frames of the configuration: the encoder must have as many."""
        for i, (have, n) in enumerate(zip(lengths.tolist(), samples.tolist(), strict=True)):
            if have != self.frames.frames(n):
                raise DataError(
                    f"the encoder gives {have} frames of {n} samples, {self.frames.frames(n)} were "
                    "expected",
                    utts[i] if utts else f"utterance {i} of the batch",
                    "this encoder changes lengths in a way that phone labels cannot follow",
                )
