# SPDX-License-Identifier: Apache-2.0
"""The section ``dual_task`` of a training configuration, checked before anything heavy is imported.

A training phase has a role, which its task's class tells: ``pretrain`` (a small encoder learns the
phones of all languages, and the pooling head its sentence vectors), ``midtrain`` (specialisation of
the sequential baseline) and ``finetune``. Schedule and role together say which losses a phase has.
Source of the defaults: arXiv 2406.12141 and related public recipes; what the paper leaves open and
would change the meaning of lambda (``samu_scale``, ``samu_reduce``) has none.
"""

import math
from dataclasses import dataclass
from typing import Any

from espnet_ext.errors import UsageError, nearest
from espnet_ext.settings import build

SECTION = "dual_task"
CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": ("dual", "slu", "samu", "sequential"),
    "pretrain": ("phones_samu", "phones", "samu", "none"),
    "samu_reduce": ("sum", "mean"),
    "slu_reduce": ("label", "utterance"),
    "retain": ("none", "ewc", "distil"),
    "sort": ("ascending", "random"),
}
PHONES, SAMU, SLU = "phones", "samu", "slu"


@dataclass(frozen=True)
class DualTaskConf:
    """All options.

    Attributes:
        schedule: ``dual``: L_samu + lambda L_slu; ``slu``: L_slu alone; ``samu``: L_samu alone;
            ``sequential``: midtrain with L_samu, then finetune with L_slu.
        pretrain: Losses of the pretraining: frame cross-entropy on phones, with or without L_samu;
            ``samu`` warms up the pooling head of a given speech encoder; ``none``: no pretraining.
        lambda_: lambda, weight of L_slu in ``dual``; the paper tuned it from 1 to 20.
        samu_scale, samu_reduce: L_samu = scale * reduce_i (1 - cos(e_i, y_i)); both must be given
            where it is used. The public code that comes closest has 50 and ``sum``.
        slu_reduce: CTC loss by ``label`` (of each utterance divided by its length, then the mean
            over utterances: torch's and SpeechBrain's mean) or by ``utterance`` (ESPnet's).
        phone_weight: Of the frame cross-entropy beside L_samu.
        phones: List of phones, one a line; a frame's label is its line, from 0. Or header.json of
            an alignment, whose phone ids are the labels; empty: the one beside the labels.
        blstm_layers, blstm_cells: Bi-LSTM on the encoder; cells a direction, null: its width.
        linear_blocks, linear_width: Linear layers with LeakyReLU after it; null: encoder's width.
            With no Bi-LSTM and no linear block stock ESPnet loads the model.
        head_dropout: In the SLU head.
        embedding_dim: Width of the sentence vectors; null: that of the store.
        sentences: Folder of the sentence vectors.
        freeze_layers: Freeze the encoder's front part and this many of its lowest blocks.
        train_cnn: Train the convolutions of a wav2vec2-type encoder, too.
        gradient_checkpointing: Compute the encoder's blocks again in the backward pass.
        bf16: Train the encoder in bfloat16, on a CPU as well; all else stays in float32.
        speech_encoder: Folder of a converted encoder; empty: the encoder of this configuration.
        retain: Against forgetting: elastic weight consolidation, or distillation from the encoder
            that the phase starts from.
        retain_weight: Its weight.
        rebalance_alpha: Languages are drawn with r_l ~ p_l^(alpha - 1); null: as they come.
        sort: Batches by ascending duration and not shuffled (paper), or in random order.
    """

    schedule: str = "dual"
    pretrain: str = "phones_samu"
    lambda_: float = 10.0
    samu_scale: float | None = None
    samu_reduce: str | None = None
    slu_reduce: str = "label"
    phone_weight: float = 1.0
    phones: str = "data/phones.txt"
    blstm_layers: int = 3
    blstm_cells: int | None = None
    linear_blocks: int = 1
    linear_width: int | None = None
    head_dropout: float = 0.0
    embedding_dim: int | None = None
    sentences: str = "dump/sentences"
    freeze_layers: int = 0
    train_cnn: bool = False
    gradient_checkpointing: bool = False
    bf16: bool = False
    speech_encoder: str = ""
    retain: str = "none"
    retain_weight: float = 1.0
    rebalance_alpha: float | None = None
    sort: str = "random"

    def losses(self, role: str) -> tuple[str, ...]:
        """Return the losses of a phase: some of :data:`PHONES`, :data:`SAMU`, :data:`SLU`."""
        if role == "pretrain":
            return () if self.pretrain == "none" else tuple(self.pretrain.split("_"))
        if role == "midtrain":
            return (SAMU,)
        return {"dual": (SAMU, SLU), "samu": (SAMU,)}.get(self.schedule, (SLU,))

    @property
    def has_head(self) -> bool:
        """Whether there is anything between the encoder and the output layer of CTC."""
        return self.blstm_layers > 0 or self.linear_blocks > 0


RANGES = (
    (("lambda_", "phone_weight", "retain_weight"), 0, math.inf, "0 or more"),
    (("blstm_layers", "linear_blocks", "freeze_layers"), 0, math.inf, "0 or more"),
    (("samu_scale",), math.ulp(0), math.inf, "above 0"),
    (("blstm_cells", "linear_width", "embedding_dim"), 1, math.inf, "1 or more"),
    (("head_dropout",), 0, 0.99, "from 0 to 0.99"),
    (("rebalance_alpha",), 0, 1, "from 0 to 1"),
)


def resolve(section: dict[str, Any] | None) -> DualTaskConf:
    """Return the checked configuration.

    Args:
        section: Of the training configuration; its key ``lambda`` is the field ``lambda_``.

    Raises:
        UsageError: An unknown key or value (the nearest is named), or values that do not fit.
    """
    words = {None: "none"}  # as YAML and the command line read this name
    values = {
        ("lambda_" if k == "lambda" else "lambda_?" if k == "lambda_" else k): v
        for k, v in (section or {}).items()
    }
    for key in ("pretrain", "retain"):
        if key in values:
            values[key] = words.get(values[key], values[key])
    try:
        conf = build(DualTaskConf, values, "training configuration", SECTION)
    except UsageError as e:
        raise UsageError(*(_public(x) for x in (e.what, e.where, e.how))) from None
    for key, allowed in CHOICES.items():
        if (value := getattr(conf, key)) not in allowed and value is not None:
            how = f"{nearest(value, allowed)} ({', '.join(allowed)})"
            raise UsageError(f"{key} cannot be '{value}'", f"{SECTION}.{key}", how)
    for keys, low, high, text in RANGES:
        for key in keys:
            value = getattr(conf, key)
            if value is not None and not low <= value <= high:
                name = _public(key)
                raise UsageError(f"{name} is {value:g}", f"{SECTION}.{name}", f"a value {text}")
    if conf.lambda_ == math.inf or conf.samu_scale == math.inf:
        raise UsageError("a weight must be finite", f"{SECTION}.lambda, samu_scale")
    return conf


def _public(text: Any) -> Any:
    """Show the key ``lambda`` as YAML has it; as a field of Python it is ``lambda_``."""
    return text.replace("lambda_", "lambda") if isinstance(text, str) else text


def check(conf: DualTaskConf, role: str) -> None:
    """Check what a phase needs and what goes together.

    Raises:
        UsageError: An option is missing, or would do nothing.
    """
    losses = conf.losses(role)
    if SAMU in losses:
        for key, usual in (("samu_scale", "50 or 1"), ("samu_reduce", "sum or mean")):
            if getattr(conf, key) is None:
                raise UsageError(
                    f"{key} is not given: lambda has a meaning only together with it",
                    f"{SECTION}.{key}",
                    f"{key}: {usual} (the nearest public code has samu_scale 50, samu_reduce sum)",
                )
    if role == "finetune" and conf.retain != "none":
        if SAMU in losses:
            raise UsageError(
                f"schedule {conf.schedule} keeps the sentence vectors by its own loss; retain: "
                f"{conf.retain} is a baseline without it", f"{SECTION}.retain",
                "schedule: sequential or slu",
            )  # fmt: skip
        if conf.retain_weight == 0:
            what = f"retain: {conf.retain} with weight 0 does nothing"
            raise UsageError(what, f"{SECTION}.retain_weight", "a weight above 0, or retain: none")
    if conf.train_cnn and conf.freeze_layers:
        how = "freeze_layers: 0, or train_cnn: false"
        raise UsageError("frozen layers include the convolutions", f"{SECTION}.train_cnn", how)
