# SPDX-License-Identifier: Apache-2.0
"""The section ``bl_just`` of a training configuration, checked before anything heavy is imported.

Provenance of the defaults: Algorithm 1 of arXiv 2412.08548 and the code of its authors.
"""

import math
from dataclasses import dataclass, field, make_dataclass
from typing import Any

from espnet_ext.bl_just.unsup_conf import UNSUP, unsup_conf
from espnet_ext.errors import UsageError, nearest
from espnet_ext.settings import build

CHOICES: dict[str, tuple[str, ...]] = {
    "schedule": ("bljust", "supervised", "pt_ft", "weighted_sum", "pseudo_label"),
    "explore_when": ("each", "first"),
    "gamma_ramp": ("linear", "reference", "constant"),
    "gamma_unit": ("epoch", "step"),
    "upper_level": ("supervised", "unsupervised"),
    "eta_scale": ("gamma", "one"),
    "unsup_scale": ("frame_mean", "match_tokens"),
    "bn_update_from": ("both", "labelled"),
    "budget": ("batches", "passes"),
    "short_utts": ("skip", "refuse"),
}


@dataclass(frozen=True)
class _Options:
    """All options but the sections of the unsupervised losses.

    Attributes:
        schedule: ``bljust``, or a baseline: ``supervised``, ``pt_ft`` (pre-training, then
            fine-tuning), ``weighted_sum`` (f + gamma g from first to last), ``pseudo_label``.
        unsup_loss: g; its options stand in the section of its name. ``module:Class`` for a loss
            of your own.
        unsup_conf: Options of a loss of your own.
        epochs: K. An epoch is an exploration and a joint phase; ESPnet's ``max_epoch`` follows.
        explore_steps: N1, updates of an exploration; None: one pass over the data of the lower
            level.
        joint_steps: N2, updates of a joint phase; None: one pass over the labelled data.
        final_steps: N3, updates of the last phase, on f alone; None: five passes.
        explore_when: Before each joint phase, or before the first one only.
        gamma_max: gamma_m; 0 alternates exploration and supervised training.
        gamma_ramp: ``linear``: (k - 1) gamma_m / K; ``reference``: 0.002 (k - 1) but 1 at most;
            ``constant``: gamma_m.
        gamma_unit: Whether gamma changes between epochs or between updates.
        upper_level: Which loss the penalty serves; ``unsupervised`` swaps f and g.
        eta_scale: Whether the head of g learns with gamma g or with g.
        unsup_scale: ``match_tokens``: g, a mean over frames, times the tokens of an utterance,
            since ESPnet's f is a sum over tokens. It gives gamma the meaning that it has for
            losses that are both means; ``frame_mean`` leaves g as it is.
        explore_ratio: rho / alpha, the rate of the exploration over that of the joint phase; 10
            as in the authors' code, where alpha is 0.0001.
        explore_lr: rho itself, in place of its ratio.
        final_lr: tau, rate of the last phase; None: a tenth of alpha (``optim_conf.lr``), or what
            the joint phase ends with if that is lower. More than that is refused.
        keep_state: Whether optimisers keep their state from epoch to epoch.
        final_reset: Whether the last phase starts with a fresh optimiser; else it takes over the
            state of the joint phase.
        bn_update_from: Which passes update the statistics of batch normalisation.
        specaug_unlabelled: Whether unlabelled speech is masked for g as labelled speech is;
            speech with pseudo-labels is in any case.
        short_utts: What to do with unlabelled utterances that are too short for g.
        budget: ``batches``: a baseline sees the batches that its phases have in ``bljust``;
            ``passes``: it is lengthened to as many forward-backward passes.
        pseudo_warmup: Share of labelled-only updates before pseudo-labels.
        measure_every: Joint updates between two measurements of the gradients of f and g; 0 none.
    """

    schedule: str = "bljust"
    unsup_loss: str = "cpc"
    unsup_conf: dict = field(default_factory=dict)
    epochs: int = 100
    explore_steps: int | None = None
    joint_steps: int | None = None
    final_steps: int | None = None
    explore_when: str = "each"
    gamma_max: float = 0.4
    gamma_ramp: str = "linear"
    gamma_unit: str = "epoch"
    upper_level: str = "supervised"
    eta_scale: str = "gamma"
    unsup_scale: str = "match_tokens"
    explore_ratio: float = 10.0
    explore_lr: float | None = None
    final_lr: float | None = None
    keep_state: bool = True
    final_reset: bool = False
    bn_update_from: str = "labelled"
    specaug_unlabelled: bool = False
    short_utts: str = "skip"
    budget: str = "batches"
    pseudo_warmup: float = 0.5
    measure_every: int = 50

    @property
    def unsup_options(self) -> dict[str, Any]:
        """Options of the chosen g."""
        return getattr(self, self.unsup_loss if self.unsup_loss in UNSUP else "unsup_conf")


# With a section for each loss that has a name.
BlJustConf = make_dataclass(
    "BlJustConf",
    [(name, dict, field(default_factory=dict)) for name in UNSUP],
    bases=(_Options,),
    frozen=True,
    module=__name__,
)

RANGES = {
    "epochs": (1, math.inf), "explore_steps": (0, math.inf), "joint_steps": (1, math.inf),
    "final_steps": (0, math.inf), "gamma_max": (0, math.inf), "explore_lr": (0, math.inf),
    "explore_ratio": (0, math.inf),
    "final_lr": (0, math.inf), "pseudo_warmup": (0, 1), "measure_every": (0, math.inf),
}  # fmt: skip


def resolve(section: dict[str, Any] | None) -> BlJustConf:
    """Return the checked configuration.

    Args:
        section: What stands under ``bl_just``; ``resolved`` is left out of account.

    Raises:
        UsageError: A key, a type or a value is not possible.
    """
    given = {k: v for k, v in (section or {}).items() if k != "resolved"}
    conf = build(BlJustConf, given, "training configuration", "bl_just")
    for key, valid in CHOICES.items():
        if getattr(conf, key) not in valid:
            raise UsageError(
                f"'{getattr(conf, key)}' is not known",
                f"bl_just.{key}",
                nearest(getattr(conf, key), valid),
            )
    for key, (low, high) in RANGES.items():
        value = getattr(conf, key)
        if value is not None and not low <= value <= high:
            raise UsageError(f"{value} is out of range", f"bl_just.{key}", f"{low} to {high}")
    _check_losses(conf)
    _check_together(conf)
    if "explore_ratio" in given and conf.explore_lr is not None:
        raise UsageError(
            "the rate of the exploration is given twice", "bl_just.explore_lr",
            "explore_lr, a rate, or explore_ratio, times that of the joint phase",
        )  # fmt: skip
    return conf


def _check_losses(conf: BlJustConf) -> None:
    if conf.unsup_conf and conf.unsup_loss in UNSUP:
        raise UsageError(
            f"the options of '{conf.unsup_loss}' stand elsewhere", "bl_just.unsup_conf",
            f"bl_just.{conf.unsup_loss}; unsup_conf is for a loss named by module:Class",
        )  # fmt: skip
    for name in UNSUP:
        unsup_conf(name, getattr(conf, name))
    unsup_conf(conf.unsup_loss, conf.unsup_options)


def _check_together(conf: BlJustConf) -> None:
    """Refuse what would silently do nothing."""
    reversed_levels = conf.upper_level == "unsupervised"
    if reversed_levels and conf.schedule != "bljust":
        raise UsageError(
            f"{conf.schedule} has no levels", "bl_just.upper_level", "schedule: bljust"
        )
    if reversed_levels and conf.eta_scale == "one":
        raise UsageError(
            "with reversed levels gamma scales f, not g", "bl_just.eta_scale", "eta_scale: gamma"
        )
    if conf.schedule in ("weighted_sum", "pseudo_label") and conf.gamma_max == 0:
        raise UsageError(
            f"{conf.schedule} with gamma 0 is supervised training", "bl_just.gamma_max",
            "schedule: supervised, or a gamma above 0",
        )  # fmt: skip


def refuse_patience(patience: int | None) -> None:
    """Refuse early stopping: nothing improves on labels while the encoder explores.

    Raises:
        UsageError: It is asked for.
    """
    if patience is not None:
        what = "the schedule says how long the training is: it cannot stop early"
        raise UsageError(what, "patience", "leave patience out")
