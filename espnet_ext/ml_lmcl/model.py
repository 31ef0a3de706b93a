# SPDX-License-Identifier: Apache-2.0
"""The networks of both stages as ESPnet models: batches in, ``(loss, stats, weight)`` out."""

from typing import Any

import torch
from espnet2.torch_utils.device_funcs import force_gatherable
from espnet2.train.abs_espnet_model import AbsESPnetModel
from torch import Tensor

from espnet_ext.ml_lmcl import annealing
from espnet_ext.ml_lmcl.contrastive import ContrastiveNetwork
from espnet_ext.ml_lmcl.network import ClassifyNetwork, Texts
from espnet_ext.ml_lmcl.teacher import TeacherStore

Returned = tuple[Tensor, dict[str, Tensor], Tensor]


def texts_of(batch: dict[str, Any], use_manual: bool) -> Texts:
    """Return the transcripts of a batch; without manual ones the ASR transcripts stand for both."""
    kinds = {"manual": "manual" if use_manual else "asr", "asr": "asr"}
    return {k: (batch[f"text_{v}"], batch[f"text_{v}_lengths"]) for k, v in kinds.items()}


class ContrastiveModel(ContrastiveNetwork, AbsESPnetModel):
    """Stage 1, and the masked-LM training before it."""

    def forward(self, utt_id: list[str] | None = None, **batch: Tensor) -> Returned:
        """See :class:`AbsESPnetModel`; the streams are ``text_manual`` and ``text_asr``."""
        generator = None
        if not self.training:  # the same masks each time, or epochs could not be compared
            generator = torch.Generator(batch["text_asr"].device).manual_seed(0)
        texts = texts_of(batch, self.conf.use_manual)
        loss, terms = self.loss(texts, generator)
        stats = {name: value.detach() for name, value in {"loss": loss, **terms}.items()}
        return force_gatherable((loss, stats, len(texts["asr"][0])), loss.device)

    def collect_feats(self, **batch: Tensor) -> dict[str, Tensor]:
        """Text has no features."""
        return {}


class ClassifyModel(ClassifyNetwork, AbsESPnetModel):
    """Stage 2.

    Attributes:
        teacher: Set by the trainer; None leaves self-distillation away.
        total_updates: Of the whole training, set by the trainer.
        untaught_updates: Those before the first that has a teacher, set by the trainer: epoch 1.
        training_progress: ``(epoch, updates before)``, set by the trainer before each batch.
    """

    teacher: TeacherStore | None = None
    total_updates: int = 0
    untaught_updates: int = 0
    training_progress: tuple[int, int] = (1, 0)

    @property
    def taught(self) -> bool:
        """Whether utterances have a teacher in the current epoch."""
        return self.training_progress[0] > 1 or self.conf.first_teacher == "one_hot"

    def gamma(self) -> float:
        """Return the weight of self-distillation in the current update; 0 without a teacher."""
        conf = self.conf
        if not self.taught:
            return 0.0
        period = annealing.period_of(
            conf.gamma_period,
            conf.gamma_period_fraction,
            max(self.total_updates - self.untaught_updates, 1),
        )
        update = self.training_progress[1] + 1 - self.untaught_updates
        return conf.gamma_weight * annealing.gamma(
            update, conf.gamma_mode, period, conf.gamma_ratio
        )

    def forward(self, label: Tensor, utt_id: list[str] | None = None, **batch: Tensor) -> Returned:
        """See :class:`AbsESPnetModel`; the streams are ``text_manual``, ``text_asr``, ``label``."""
        texts = texts_of(batch, self.conf.use_manual)
        labels = label[:, : len(self.classes)]
        views = self.views(texts)
        learns = self.training and self.teacher is not None
        gamma = self.gamma() if learns else 0.0
        teacher = self.teacher if learns and self.taught else None
        loss, terms = self.loss(views, labels, gamma, teacher, utt_id or ())
        stats = {name: value.detach() for name, value in {"loss": loss, **terms}.items()}
        if learns:
            stats["gamma"] = torch.tensor(gamma)
            if self.conf.teacher_refresh == "on_the_fly":
                self.teacher.put(utt_id, named_logits(views))
        if not self.training:
            stats["acc"] = self._accuracy(texts["asr"], views, labels)
        return force_gatherable((loss, stats, len(labels)), loss.device)

    def _accuracy(self, asr: tuple[Tensor, Tensor], views: list, labels: Tensor) -> Tensor:
        """Return the share of ASR transcripts that the inference model gets wholly right."""
        which = self.conf.inference_model
        if (which, "asr") in self.conf.views:  # classified already
            scores = views[self.conf.views.index((which, "asr"))][1]
        else:
            scores = self.posteriors(*asr, which=which)
        best = torch.stack([scores[head].argmax(-1) for head in self.classes], dim=1)
        return (best == labels).all(1).float().mean()

    def collect_feats(self, **batch: Tensor) -> dict[str, Tensor]:
        """Text has no features."""
        return {}


def named_logits(views: list[tuple[Tensor, dict[str, Tensor]]]) -> dict[str, Tensor]:
    """Return logits by the names that the teacher store knows them by."""
    return {f"{n}.{head}": z for n, (_, of) in enumerate(views) for head, z in of.items()}
