# SPDX-License-Identifier: Apache-2.0
"""The section ``ml_lmcl`` of a training configuration, checked before anything heavy is imported.

A preset is a set of values; a key that is given beside it wins. Provenance of the defaults: the
published code of SpokenCSE (MiuLab) and what is reported of arXiv 2311.11375.
"""

import math
from dataclasses import dataclass
from typing import Any

from espnet_ext.errors import UsageError, nearest
from espnet_ext.ml_lmcl.annealing import SHORTEST_PERIOD
from espnet_ext.precision import PRECISIONS
from espnet_ext.settings import build

INFERENCE_MODELS = ("asr", "clean", "average")
CHOICES: dict[str, tuple[str, ...]] = {
    "stage1": ("contrastive", "none"),
    "train_text": ("both", "asr", "manual", "pooled"),
    "inference_model": INFERENCE_MODELS,
    "distance": ("paper", "true"),
    "reg_pairs": ("all", "cross"),
    "reg_reduction": ("sum", "mean"),
    "mlm_text": ("both", "asr", "manual"),
    "mutual": ("js", "kl_clean_to_asr"),
    "mutual_reduction": ("mean", "sum"),
    "contrastive_reduction": ("positives", "sum"),
    "gamma_mode": ("cyclic", "constant", "zero"),
    "first_teacher": ("none", "one_hot"),
    "teacher": ("logits", "published"),
    "teacher_refresh": ("full", "on_the_fly"),
    "precision": PRECISIONS,
}
OPTIONAL = {"reg_reduction"}  # may be None
PLAIN = {"stage1": "none", "alpha": 0.0, "beta": 0.0, "gamma_mode": "zero"}
SPOKENCSE = {
    "train_text": "asr", "alpha": 0.0, "lambda_reg": 0.0, "mlm_weight": 1.0, "mlm_text": "asr",
    "gamma_mode": "constant", "gamma_weight": 10.0, "soft_positives": True,
}  # fmt: skip
PRESETS: dict[str, dict[str, Any]] = {
    "ml_lmcl": {},
    "ce_asr": {**PLAIN, "train_text": "asr"},
    "ce_manual": {**PLAIN, "train_text": "manual"},
    "pooled": {**PLAIN, "train_text": "pooled"},
    "spokencse": SPOKENCSE,
    "spokencse_asis": {
        **SPOKENCSE, "contrastive_layer": 0, "mlm_text": "manual", "mask_contrastive_inputs": True,
        "first_head_labels": True, "teacher": "published", "soft_self": True,
        "fresh_token_types": True, "first_teacher": "one_hot", "contrastive_reduction": "sum",
    },
}  # fmt: skip

# Presets that had another name once: of a baseline's encoder, which need not be a RoBERTa.
RENAMED = {"roberta_asr": "ce_asr", "roberta_manual": "ce_manual"}


@dataclass(frozen=True)
class MlLmclConf:
    """All options.

    Attributes:
        preset: The method, or a baseline: ``ce_asr`` and ``ce_manual`` (cross-entropy, one
            classifier on one kind of transcript), ``pooled`` (one classifier on both),
            ``spokencse`` (its published code with its faults corrected), ``spokencse_asis`` (with
            them).
        stage1: Whether there is contrastive pre-training before the classifiers.
        train_text: ``both``: two classifiers, on manual and on ASR transcripts, trained together;
            otherwise one classifier, on ASR, on manual or on the pooled transcripts.
        use_manual: False puts the ASR transcript in place of the manual one everywhere: pairs then
            differ by their dropout only.
        inference_model: The classifier that development accuracy is measured with.
        train_samples: Use only so many training utterances, at a fixed stride.
        freeze_layers: Lowest layers of the encoder that stay as they are in both stages, with the
            embeddings; 0: none. Their output for a text is computed once.
        frozen_cache_mb: Memory for these outputs, in units of 10^6 bytes, each classifier's share
            being equal; texts beyond it are computed each time.
        precision: Of the encoder's products: ``float32``, ``bfloat16`` (half the time where the
            processor has it, much slower where it is emulated), or ``auto``: the faster one.
        max_tokens: Longer texts are cut, in sub-words with the two special ones.
        length_groups: A training batch is random, with the corpus' share of each label; the encoder
            reads it in so many parts of similar length, which saves padding and changes no loss.
        tau_sc: Temperature of the contrastive loss of stage 1.
        lambda_pt: L_pt = lambda_pt (L_sc + lambda_reg L_reg) + (1 - lambda_pt) L_mlm.
        mlm_weight: If given, L_pt = L_sc + lambda_reg L_reg + mlm_weight L_mlm (SpokenCSE).
        lambda_reg: Weight of the distance polarization regularizer.
        d_low, d_high: Its borders d+ and d-.
        distance: ``paper``: (1 + cosine) / 2; ``true``: (1 - cosine) / 2.
        reg_pairs: All pairs of the 2N texts, or manual against ASR only.
        reg_reduction: Sum or mean over pairs; None: the sum for ``paper``, the mean for ``true``.
        mask_ratio: Share of tokens that masked language modelling selects.
        mlm_text: Which transcripts it sees.
        mask_contrastive_inputs: Fault of SpokenCSE: the contrastive loss sees masked texts.
        contrastive_layer: Hidden state that represents a text; 0 (embeddings) is a fault of
            SpokenCSE, -1 the last layer.
        fresh_token_types: Fault of SpokenCSE: both stages start with random token-type vectors.
        alpha: Weight of mutual learning.
        mutual: Jensen-Shannon, or one-way distillation from the clean to the ASR classifier.
        mutual_reduction: Over utterances.
        beta: Weight of the supervised contrastive loss.
        tau_c: Its temperature.
        contrastive_reduction: ``positives``: mean over an utterance's positives; ``sum``: over them
            (SpokenCSE), which weighs a class by the square of its size.
        soft_positives: Add soft_weight <soft_i, soft_j> of the teachers to its indicator
            (SpokenCSE).
        soft_weight: See soft_positives.
        soft_self: Fault of SpokenCSE: these soft positives count an utterance with itself.
        first_head_labels: Fault of SpokenCSE: the contrastive term of the second head takes the
            labels of the first.
        tau_d: Temperature of self-distillation.
        gamma_mode: ``cyclic``, ``constant`` (always gamma_weight) or ``zero``.
        gamma_weight: Height of gamma.
        gamma_period: G, in updates.
        gamma_period_fraction: G as a share of the updates that have a teacher, in place of
            gamma_period.
        gamma_ratio: R, share of a period in which gamma rises.
        first_teacher: Of epoch 1, before which nothing was predicted. ``none``: no
            self-distillation and no soft positives, and gamma's cycle starts with epoch 2;
            ``one_hot``: the labels (SpokenCSE).
        teacher: ``published``: fault of SpokenCSE, a softmax of probabilities.
        teacher_refresh: ``full``: predict the training set again after each epoch; ``on_the_fly``:
            keep the logits of the epoch's own updates.
    """

    preset: str = "ml_lmcl"
    stage1: str = "contrastive"
    train_text: str = "both"
    use_manual: bool = True
    inference_model: str = "asr"
    train_samples: int | None = None
    freeze_layers: int = 0
    frozen_cache_mb: float = 1000.0
    precision: str = "float32"
    max_tokens: int = 64
    length_groups: int = 2
    tau_sc: float = 0.2
    lambda_pt: float = 0.5
    mlm_weight: float | None = None
    lambda_reg: float = 0.1
    d_low: float = 0.2
    d_high: float = 0.5
    distance: str = "paper"
    reg_pairs: str = "all"
    reg_reduction: str | None = None
    mask_ratio: float = 0.15
    mlm_text: str = "both"
    mask_contrastive_inputs: bool = False
    contrastive_layer: int = -1
    fresh_token_types: bool = False
    alpha: float = 1.0
    mutual: str = "js"
    mutual_reduction: str = "mean"
    beta: float = 0.1
    tau_c: float = 0.2
    contrastive_reduction: str = "positives"
    soft_positives: bool = False
    soft_weight: float = 10.0
    soft_self: bool = False
    first_head_labels: bool = False
    tau_d: float = 5.0
    gamma_mode: str = "cyclic"
    gamma_weight: float = 1.0
    gamma_period: int = 5000
    gamma_period_fraction: float | None = None
    gamma_ratio: float = 0.5
    first_teacher: str = "none"
    teacher: str = "logits"
    teacher_refresh: str = "full"

    @property
    def model_names(self) -> tuple[str, ...]:
        """Names of the classifiers of stage 2."""
        return ("clean", "asr") if self.train_text == "both" else ("asr",)

    @property
    def views(self) -> tuple[tuple[str, str], ...]:
        """What stage 2 reads: ``(classifier, transcript)``."""
        if self.train_text == "both":
            return (("clean", "manual"), ("asr", "asr"))
        texts = ("manual", "asr") if self.train_text == "pooled" else (self.train_text,)
        return tuple(("asr", text) for text in texts)

    @property
    def contrastive_weight(self) -> float:
        """Weight of L_sc + lambda_reg L_reg in L_pt."""
        return self.lambda_pt if self.mlm_weight is None else 1.0

    @property
    def masked_weight(self) -> float:
        """Weight of L_mlm in L_pt."""
        return 1.0 - self.lambda_pt if self.mlm_weight is None else self.mlm_weight

    @property
    def distils(self) -> bool:
        """Whether stage 2 needs teachers."""
        return (self.gamma_mode != "zero" and self.gamma_weight > 0) or self.soft_positives


ABOVE_0 = {
    "tau_sc", "tau_c", "tau_d", "gamma_period_fraction", "train_samples", "mask_ratio",
    "gamma_ratio",
}  # fmt: skip
FROM_0 = {
    "lambda_reg", "mlm_weight", "alpha", "beta", "soft_weight", "gamma_weight", "freeze_layers",
    "frozen_cache_mb",
}  # fmt: skip
SHARES = {"lambda_pt", "mask_ratio", "gamma_ratio", "gamma_period_fraction"}


def resolve(section: dict[str, Any] | None) -> MlLmclConf:
    """Return the checked configuration.

    Raises:
        UsageError: An unknown key or value (the nearest is named), or values that do not fit.
    """
    section = section or {}
    preset = section.get("preset", "ml_lmcl")
    if preset in RENAMED:
        how = f"write {RENAMED[preset]}: the same training under a name without an encoder in it"
        raise UsageError(f"the preset '{preset}' was renamed", "ml_lmcl.preset", how)
    if preset not in PRESETS:
        raise UsageError(
            f"there is no preset '{preset}'", "ml_lmcl.preset", nearest(preset, PRESETS)
        )
    words = {None: "none", True: "true"}  # as YAML and the command line read these two names
    named = {k: words.get(v, v) for k, v in section.items() if k in CHOICES.keys() - OPTIONAL}
    values = {**PRESETS[preset], **section, **named}
    conf = build(MlLmclConf, values, "training configuration", "ml_lmcl")
    for key, allowed in CHOICES.items():
        if (value := getattr(conf, key)) is None and key in OPTIONAL:
            continue
        if value not in allowed:
            how = f"{nearest(value, allowed)} ({', '.join(allowed)})"
            raise UsageError(f"{key} cannot be '{value}'", f"ml_lmcl.{key}", how)
    for keys, low, high, text in (
        (ABOVE_0, math.ulp(0), math.inf, "above 0"),
        (FROM_0, 0, math.inf, "0 or more"),
        (SHARES, 0, 1, "from 0 to 1"),
        ({"max_tokens"}, 4, math.inf, "4 or more"),
        ({"length_groups"}, 1, math.inf, "1 or more"),
        ({"gamma_period"}, SHORTEST_PERIOD, math.inf, f"of {SHORTEST_PERIOD} updates or more"),
    ):
        for key in sorted(keys):
            value = getattr(conf, key)
            if value is not None and not low <= value <= high:
                raise UsageError(f"{key} is {value:g}", f"ml_lmcl.{key}", f"give a value {text}")
    if not 0 < conf.d_low < conf.d_high < 1:
        raise UsageError("the borders must be 0 < d_low < d_high < 1", "ml_lmcl.d_low, d_high")
    if conf.contrastive_layer not in (-1, 0):
        what = f"layer {conf.contrastive_layer} cannot represent a text"
        raise UsageError(what, "ml_lmcl.contrastive_layer", "-1 (the last) or 0 (embeddings)")
    _check_together(conf)
    return conf


def _check_together(conf: MlLmclConf) -> None:
    """Refuse values that are possible alone, but not together."""
    if conf.freeze_layers and conf.contrastive_layer == 0 and conf.masked_weight == 0:
        raise UsageError(
            "stage 1 has nothing to train: its contrastive loss sees the embeddings, which are "
            "frozen, and masked LM is off", "ml_lmcl.freeze_layers", "set it to 0",
        )  # fmt: skip
    if conf.inference_model != "asr" and conf.train_text != "both":
        raise UsageError(
            f"there is one classifier only, called asr, not {conf.inference_model}",
            "ml_lmcl.inference_model", "asr, or train_text: both",
        )  # fmt: skip
    if conf.train_text != "both" and conf.alpha > 0:
        raise UsageError("mutual learning needs two classifiers", "ml_lmcl.alpha", "alpha: 0")


def check_frozen(count: int, layers: int, stage1: bool) -> None:
    """Check a number of frozen layers.

    Args:
        count: Lowest layers of an encoder to be frozen.
        layers: Those that it has.
        stage1: Whether stage 1 is to train the rest.

    Raises:
        UsageError: It has fewer layers, or stage 1 has nothing left to train.
    """
    where = "ml_lmcl.freeze_layers"
    if count > layers:
        what = f"{count} layers of an encoder that has {layers}"
        raise UsageError(what, where, f"give {layers} (all) or fewer")
    if stage1 and count == layers:
        what = f"all {layers} layers are frozen: stage 1 has nothing to train"
        raise UsageError(what, where, "freeze fewer, or set ml_lmcl.stage1=none")


def resolve_trained(section: dict[str, Any] | None) -> MlLmclConf:
    """Return the configuration that a model was trained with: presets may have their old names.

    Raises:
        UsageError: See :func:`resolve`.
    """
    section = dict(section or {})
    if (preset := section.get("preset")) in RENAMED:
        section["preset"] = RENAMED[preset]
    return resolve(section)
