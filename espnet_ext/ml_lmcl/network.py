# SPDX-License-Identifier: Apache-2.0
"""Stage 2: two classifiers, one on manual and one on ASR transcripts, trained together.

With P^p, P^q the posteriors of the clean and the ASR classifier, a term for each head::

    L_ft = L_ce + alpha L_mut + beta L_c + gamma(t) L_d

Source: arXiv 2311.11375; the heads, L_c and the teacher of L_d as in the code of SpokenCSE
(Interspeech 2022). The presets with one classifier leave L_mut away.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_ext.ml_lmcl.attention import fit_attention
from espnet_ext.ml_lmcl.distillation_loss import distillation_loss
from espnet_ext.ml_lmcl.frozen import FrozenLayers, WithFrozenLayers
from espnet_ext.ml_lmcl.mutual_loss import mutual_loss
from espnet_ext.ml_lmcl.nt_xent_loss import full_precision
from espnet_ext.ml_lmcl.options import MlLmclConf
from espnet_ext.ml_lmcl.preprocess import UNKNOWN
from espnet_ext.ml_lmcl.supcon_loss import supervised_contrastive_loss
from espnet_ext.ml_lmcl.teacher import TeacherStore
from espnet_ext.text.encoder import autocast, build_encoder, encode, text_mask

Texts = dict[str, tuple[Tensor, Tensor]]  # kind -> ids (B, T), lengths (B,)


class Classifier(WithFrozenLayers):
    """Encoder, and for each kind of label a linear layer and a linear head.

    A checkpoint of before each head had a layer of its own is read: all heads get its only one.

    Args:
        encoder: Of transformers, D wide.
        classes: Number of labels by head.
        pad_id: Sub-word for padding.
        freeze_layers: Lowest layers of the encoder that are not trained, see :mod:`.frozen`.
        cache_mb: Memory for their output.
        groups: Of similar length that a training batch is encoded in; frozen layers need none.
    """

    def __init__(
        self,
        encoder: nn.Module,
        classes: dict[str, int],
        pad_id: int,
        freeze_layers: int = 0,
        cache_mb: float = 1000.0,
        groups: int = 1,
    ):
        super().__init__()
        width = encoder.config.hidden_size
        self.encoder, self.pad_id, self.groups = encoder, pad_id, groups
        if freeze_layers:
            self.frozen = FrozenLayers(encoder, freeze_layers, pad_id, cache_mb)
        self.linears = nn.ModuleDict({head: nn.Linear(width, width) for head in classes})
        self.heads = nn.ModuleDict({head: nn.Linear(width, n) for head, n in classes.items()})

    def represent(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Return the last-layer state of the first token, ``(B, D)``."""
        fit_attention(self.encoder)
        mask = text_mask(ids, lengths)
        if self.frozen:
            return self.frozen(ids, mask)
        groups = self.groups if self.training else 1  # others than training batches come sorted
        return encode(self.encoder, ids, mask, self.pad_id, groups=groups)[:, 0]

    def logits(self, h: Tensor) -> dict[str, Tensor]:
        """Return z ``(B, C)`` of each head from ``(B, D)``, in full precision."""
        with torch.autocast(h.device.type, enabled=False):
            h = full_precision(h)
            return {name: head(self.linears[name](h)) for name, head in self.heads.items()}

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *rest: Any) -> None:
        for part in ("weight", "bias"):
            shared = state_dict.pop(f"{prefix}linear.{part}", None)
            if shared is not None:
                state_dict |= {f"{prefix}linears.{head}.{part}": shared for head in self.heads}
        super()._load_from_state_dict(state_dict, prefix, *rest)


class ClassifyNetwork(nn.Module):
    """The classifiers of stage 2 and their loss, in plain torch.

    Args:
        conf: Options.
        encoder_folder: Of the text encoder.
        classes: Number of labels by head, in the order of the label tensor.
        pad_id: Sub-word for padding.
        weights: Start from the weights of the folder, to train; False: a trained model's are
            loaded, and no layer is frozen.
    """

    def __init__(
        self,
        conf: MlLmclConf,
        encoder_folder: str,
        classes: dict[str, int],
        pad_id: int,
        weights: bool = True,
    ):
        super().__init__()
        self.conf, self.classes = conf, classes
        freeze = conf.freeze_layers if weights else 0
        share = conf.frozen_cache_mb / len(conf.model_names)
        self.models = nn.ModuleDict()
        for name in conf.model_names:
            encoder = build_encoder(encoder_folder, weights)
            self.models[name] = Classifier(
                encoder, classes, pad_id, freeze, share, conf.length_groups
            )
        if conf.fresh_token_types:
            for model in self.models.values():
                redraw_token_types(model.encoder)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classifiers."""
        return tuple(self.models)

    @property
    def texts_per_batch(self) -> int:
        """Forward-backward passes of an update: texts of an utterance that are read."""
        return len(self.conf.views)

    def fill(self, texts: Texts) -> list[FrozenLayers]:
        """Compute the frozen layers' output for texts before they are trained on; return these."""
        for name, kind in self.conf.views:
            if frozen := self.models[name].frozen:
                fit_attention(self.models[name].encoder)
                with autocast(self.conf.precision, texts[kind][0]):
                    frozen.lower(texts[kind][0], text_mask(*texts[kind]))
        return [model.frozen for model in self.models.values() if model.frozen]

    def views(self, texts: Texts) -> list[tuple[Tensor, dict[str, Tensor]]]:
        """Return h ``(B, D)`` and the logits of each ``conf.views``."""
        out = []
        for name, kind in self.conf.views:
            model = self.models[name]
            with autocast(self.conf.precision, texts[kind][0]):
                h = model.represent(*texts[kind])
            h = h.float()
            out.append((h, model.logits(h)))
        return out

    def loss(
        self,
        views: list[tuple[Tensor, dict[str, Tensor]]],
        labels: Tensor,
        gamma: float,
        teacher: TeacherStore | None = None,
        utts: Sequence[str] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_ft and its terms.

        Args:
            views: Of :meth:`views`.
            labels: ``(B, H)`` int64, :data:`UNKNOWN` for none.
            gamma: Weight of self-distillation.
            teacher: Logits of the epoch before; None: no such term.
            utts: Utterance ids, which the teacher is asked by.
        """
        conf, terms = self.conf, {}
        # Pooled texts are one batch: a mean over both, where two classifiers have a sum.
        share = 1 / len(views) if conf.train_text == "pooled" else 1.0
        terms["ce"] = share * sum(
            cross_entropy(z[head], labels[:, i])
            for _, z in views
            for i, head in enumerate(self.classes)
        )
        total = terms["ce"]
        if conf.alpha > 0:
            terms["mutual"] = sum(
                mutual_loss(views[0][1][h], views[1][1][h], conf.mutual, conf.mutual_reduction)
                for h in self.classes
            )
            total = total + conf.alpha * terms["mutual"]
        soft = self._teachers(views, labels, teacher, utts) if teacher is not None else None
        if conf.beta > 0:
            terms["contrastive"] = share * self._contrastive(views, labels, soft)
            total = total + conf.beta * terms["contrastive"]
        if soft is not None and gamma > 0:
            terms["distillation"] = share * self._distillation(views, soft)
            total = total + gamma * terms["distillation"]
        return total, terms

    def _teachers(self, views, labels, teacher, utts) -> list[dict[str, tuple[Tensor, Tensor]]]:
        """Return teacher rows ``(B, C)`` of each view and head, and which are logits."""
        by_label = self.conf.first_teacher == "one_hot"
        return [
            {
                head: teacher.rows(
                    f"{number}.{head}", utts, z[head], labels[:, i] if by_label else None
                )
                for i, head in enumerate(self.classes)
            }
            for number, (_, z) in enumerate(views)
        ]

    def _contrastive(self, views, labels, soft) -> Tensor:
        conf, total = self.conf, 0.0
        for number, (h, _) in enumerate(views):
            for i, head in enumerate(self.classes):
                like = None
                if soft is not None and conf.soft_positives:
                    like = probabilities(*soft[number][head])
                target = labels[:, 0 if conf.first_head_labels else i]
                total = total + supervised_contrastive_loss(
                    h, target, conf.tau_c, like, conf.soft_weight, conf.soft_self,
                    conf.contrastive_reduction,
                )  # fmt: skip
        return total

    def _distillation(self, views, soft) -> Tensor:
        conf, total = self.conf, 0.0
        by_label = conf.first_teacher == "one_hot"
        for (_, z), of_view in zip(views, soft, strict=True):
            for head, (rows, known) in of_view.items():
                kind, is_label = "logits", ~known if by_label else None
                if conf.teacher == "published":
                    rows, kind, is_label = probabilities(rows, known), "published", None
                has_teacher = None if by_label else known
                total = total + distillation_loss(
                    z[head], rows, conf.tau_d, kind, is_label, has_teacher
                )
        return total

    def posteriors(self, ids: Tensor, lengths: Tensor, which: str = "asr") -> dict[str, Tensor]:
        """Classify.

        Args:
            ids: ``(B, T)`` int64, anything beyond the lengths.
            lengths: ``(B,)`` sub-words.
            which: A classifier's name, or ``average``: the mean of their posteriors.

        Returns:
            Probabilities ``(B, C)`` by head.
        """
        names = self.names if which == "average" else (which,)
        each = [self.models[n].logits(self.represent(ids, lengths, n)) for n in names]
        return {h: torch.stack([z[h].softmax(-1) for z in each]).mean(0) for h in self.classes}

    def represent(self, ids: Tensor, lengths: Tensor, which: str = "asr") -> Tensor:
        """Return the last-layer state of the first token ``(B, D)``; of ``average``, the mean."""
        names = self.names if which == "average" else (which,)
        with autocast(self.conf.precision, ids):
            h = [self.models[n].represent(ids, lengths) for n in names]
        return torch.stack(h).float().mean(0)


def probabilities(rows: Tensor, known: Tensor) -> Tensor:
    """Return the teachers' probabilities ``(B, C)``; rows that are no logits stay as they are."""
    return torch.where(known[:, None], rows.softmax(-1), rows)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over rows with a known label; 0 where there is none."""
    total = nn.functional.cross_entropy(logits, labels, ignore_index=UNKNOWN, reduction="sum")
    return total / (labels != UNKNOWN).sum().clamp(min=1)


def redraw_token_types(encoder: nn.Module) -> None:
    """Give token types random vectors, as the code of SpokenCSE does at the start of each stage."""
    with torch.no_grad():
        weight = encoder.embeddings.token_type_embeddings.weight
        weight.normal_(0.0, encoder.config.initializer_range)
