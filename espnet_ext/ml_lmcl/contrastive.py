# SPDX-License-Identifier: Apache-2.0
"""Stage 1: one encoder learns that a manual and an ASR transcript of an utterance say the same.

    L_pt = lambda_pt (L_sc + lambda_reg L_reg) + (1 - lambda_pt) L_mlm

Source: arXiv 2311.11375, and the code of SpokenCSE for what it builds on. Without the first term it
is plain masked-LM training, which gives an encoder with random weights its start.
"""

import torch
from torch import Tensor, nn

from espnet_ext.ml_lmcl.attention import fit_attention
from espnet_ext.ml_lmcl.frozen import FrozenLayers, WithFrozenLayers
from espnet_ext.ml_lmcl.network import Texts, redraw_token_types
from espnet_ext.ml_lmcl.nt_xent_loss import nt_xent_loss
from espnet_ext.ml_lmcl.options import MlLmclConf, check_frozen
from espnet_ext.ml_lmcl.polarization_loss import polarization_loss
from espnet_ext.ml_lmcl.token_masking import mask_tokens
from espnet_ext.text.encoder import autocast, build_masked_lm, encode, join, text_mask
from espnet_ext.text.tokenizer import About

KINDS = ("manual", "asr")


class ContrastiveNetwork(WithFrozenLayers):
    """Encoder, masked-LM head and the losses of stage 1, in plain torch.

    Args:
        conf: Options.
        encoder_folder: Of the text encoder.
        about: What is known of it.
        contrastive: False leaves the contrastive terms away.
        weights: Start from the weights of the folder.

    Raises:
        UsageError: More layers are to be frozen than there are, or all.
    """

    def __init__(
        self,
        conf: MlLmclConf,
        encoder_folder: str,
        about: About,
        contrastive: bool = True,
        weights: bool = True,
    ):
        super().__init__()
        self.conf, self.about = conf, about
        self.contrastive_weight = conf.contrastive_weight if contrastive else 0.0
        self.masked_weight = conf.masked_weight if contrastive else 1.0
        self.encoder, self.lm_head = build_masked_lm(encoder_folder, weights)
        if conf.fresh_token_types:
            redraw_token_types(self.encoder)
        # Masked-LM training alone is for random weights: nothing is frozen yet, but it is told here
        # what the stages after it cannot do.
        layers = self.encoder.config.num_hidden_layers
        check_frozen(conf.freeze_layers, layers, stage1=conf.stage1 != "none")
        if conf.freeze_layers and contrastive:
            limit = conf.frozen_cache_mb
            self.frozen = FrozenLayers(self.encoder, conf.freeze_layers, about.pad_id, limit)

    @property
    def texts_per_batch(self) -> int:
        """Forward-backward passes of an update: texts of an utterance that are read."""
        pairs = len(KINDS) if self.contrastive_weight > 0 else 0
        return pairs + (len(self.guessed_kinds) if self.masked_weight > 0 else 0)

    @property
    def guessed_kinds(self) -> tuple[str, ...]:
        """Texts whose hidden sub-words are guessed."""
        return KINDS if self.conf.mlm_text == "both" else (self.conf.mlm_text,)

    def fill(self, texts: Texts) -> list[FrozenLayers]:
        """Compute the frozen layers' output for texts before they are trained on; return these."""
        if not self.frozen:
            return []
        if not self.conf.mask_contrastive_inputs and self.conf.contrastive_layer == -1:
            fit_attention(self.encoder)
            for ids, lengths in texts.values():
                with autocast(self.conf.precision, ids):
                    self.frozen.lower(ids, text_mask(ids, lengths))
        return [self.frozen]

    def loss(
        self, texts: Texts, generator: torch.Generator | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_pt and its terms.

        Args:
            texts: ``manual`` and ``asr``: ids ``(B, T)`` and lengths ``(B,)``.
            generator: Draws the masks.

        All texts go through the encoder together, in groups of similar length in training.
        """
        conf = self.conf
        plain = {kind: (texts[kind][0], text_mask(*texts[kind])) for kind in KINDS}
        masked = {kind: self.masked(*plain[kind], generator) for kind in KINDS}
        total, terms = 0.0, {}
        inputs = masked if conf.mask_contrastive_inputs else plain
        pairs = [(inputs[k][0], plain[k][1]) for k in KINDS] if self.contrastive_weight > 0 else []
        kinds = self.guessed_kinds
        guessed = [(masked[k][0], plain[k][1]) for k in kinds] if self.masked_weight > 0 else []
        of_pairs, of_guessed = self._states(pairs, guessed)
        if pairs:
            manual, asr = of_pairs[:, 0].float().chunk(2)
            terms |= self._contrastive(manual, asr)
            margin = conf.lambda_reg * terms.get("polarization", 0.0)
            total = self.contrastive_weight * (terms["contrastive"] + margin)
        if guessed:
            targets, _ = join([(masked[k][1], plain[k][1]) for k in kinds])
            terms |= self._masked_lm(of_guessed[:, : targets.shape[1]], targets)
            total = total + self.masked_weight * terms["mlm"]
        return total, terms

    def _states(self, pairs: list, guessed: list) -> tuple[Tensor | None, Tensor | None]:
        """Return hidden states of texts that are compared and of those that are guessed."""
        pad, layer = self.about.pad_id, self.conf.contrastive_layer
        fit_attention(self.encoder)
        with autocast(self.conf.precision, next(self.parameters())):
            if layer == -1:  # all together
                states = self._encode(pairs, guessed)
                count = sum(len(ids) for ids, _ in pairs)
                return states[:count] if pairs else None, states[count:] if guessed else None
            return (
                encode(self.encoder, *join(pairs), pad, layer) if pairs else None,
                self._encode([], guessed) if guessed else None,
            )

    def _encode(self, pairs: list, guessed: list) -> Tensor:
        """Return the last layer's states ``(B, T, D)`` of all texts, or of their first tokens."""
        ids, mask = join([*pairs, *guessed])
        if not self.frozen:
            groups = self.conf.length_groups if self.training else 1
            return encode(self.encoder, ids, mask, self.about.pad_id, groups=groups)
        # Masks are drawn again for each batch of the training, and the same ones elsewhere.
        stay = (not self.conf.mask_contrastive_inputs or not self.training, not self.training)
        count = sum(len(i) for i, _ in pairs)
        lower = [
            self.frozen.lower(ids[part], mask[part], keep)
            for part, keep in zip((slice(0, count), slice(count, None)), stay, strict=True)
            if len(ids[part])
        ]
        if not guessed:  # the first token alone is compared
            return self.frozen.first(*lower, mask)[:, None]
        return self.frozen.upper(torch.cat(lower), mask)

    def masked(
        self, ids: Tensor, mask: Tensor, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Return masked ids ``(B, T)`` and what to guess, shifted by 1 so that 0 is nothing."""
        about = self.about
        special = torch.tensor(about.special_ids, device=ids.device)
        maskable = mask & ~torch.isin(ids, special)
        out, targets = mask_tokens(
            ids, maskable, about.mask_id, about.vocab_size, self.conf.mask_ratio, generator
        )
        return out, torch.where(targets < 0, 0, targets + 1)

    def _contrastive(self, manual: Tensor, asr: Tensor) -> dict[str, Tensor]:
        conf = self.conf
        terms = {"contrastive": nt_xent_loss(manual, asr, conf.tau_sc)}
        if conf.lambda_reg > 0:
            terms["polarization"] = polarization_loss(
                manual, asr, conf.d_low, conf.d_high, conf.distance, conf.reg_pairs,
                conf.reg_reduction,
            )  # fmt: skip
        with torch.no_grad():
            terms["pair_cosine"] = nn.functional.cosine_similarity(manual, asr).mean()
        return terms

    def _masked_lm(self, states: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Guess the selected sub-words only: the head's output is as wide as the vocabulary."""
        chosen = targets > 0
        wanted = targets[chosen] - 1
        if len(wanted) == 0:  # nothing but special sub-words
            zero = states.sum() * 0.0
            return {"mlm": zero, "mlm_acc": zero.detach()}
        with autocast(self.conf.precision, states):
            logits = self.lm_head(states[chosen]).float()
        accuracy = (logits.argmax(-1) == wanted).float().mean()
        return {"mlm": nn.functional.cross_entropy(logits, wanted), "mlm_acc": accuracy}
