# SPDX-License-Identifier: Apache-2.0
"""The unsupervised losses and their options, checked without torch.

:data:`UNSUP` is the one place where a loss is registered. Its section stands below ``bl_just``
under its name; a loss of your own needs no registration, its options stand under ``unsup_conf``::

    bl_just:
      unsup_loss: cpc
      cpc: {context_s: 1.0, future_s: 0.5, max_queries: 4096}

    bl_just:
      unsup_loss: my_package.my_loss:MyLoss
      unsup_conf: {temperature: 0.2}
"""

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from espnet_ext.errors import UsageError, nearest
from espnet_ext.plugin import load_object
from espnet_ext.settings import build


@dataclass(frozen=True)
class CpcConf:
    """Multi-step contrastive predictive coding.

    Attributes:
        context_s: Length of a context window.
        future_s: Length of the target window right after it.
        hop_s: From one context window to the next.
        temperature: tau, which divides the cosines.
        max_queries: Rows of the contrastive matrix at most, a random choice; null: all.
        stop_grad: Whether the targets are constants.
        same_utt_negatives: Whether rows of the same utterance are negatives.
    """

    context_s: float = 2.0
    future_s: float = 1.0
    hop_s: float = 1.0
    temperature: float = 0.1
    max_queries: int | None = None
    stop_grad: bool = False
    same_utt_negatives: bool = True

    @property
    def min_s(self) -> float:
        """Seconds of the shortest utterance with a query."""
        return self.context_s + self.future_s


@dataclass(frozen=True)
class _Spans:
    """Of the losses that mask spans.

    Attributes:
        mask_prob: Probability that a masked span begins at an input frame.
        mask_length_s: Length of a span.
    """

    mask_prob: float = 0.01
    mask_length_s: float = 0.4

    @property
    def min_s(self) -> float:
        """Seconds of the shortest utterance with a query: as much context as span."""
        return 2 * self.mask_length_s


@dataclass(frozen=True)
class Wav2vec2Conf(_Spans):
    """wav2vec 2.0: masked frames against quantised features.

    Attributes:
        mask_prob: Probability that a masked span begins at an encoder frame. With frames of
            40 ms the defaults mask half of the speech, as in the paper.
        negatives: K, distractors of a masked frame.
        temperature: kappa, which divides the cosines.
        diversity_weight: alpha.
        codebooks: G.
        codes: V, entries of a codebook.
        code_dim: Size of a quantised vector, all codebooks together.
        project_dim: Size of the space of the cosines.
        gumbel_temperature: Of the choice of a code; constant.
    """

    mask_prob: float = 0.065
    negatives: int = 100
    temperature: float = 0.1
    diversity_weight: float = 0.1
    codebooks: int = 2
    codes: int = 320
    code_dim: int = 256
    project_dim: int = 256
    gumbel_temperature: float = 1.0


@dataclass(frozen=True)
class BestRqConf(_Spans):
    """BEST-RQ: the class of a masked frame under a fixed random quantiser.

    Attributes:
        noise_std: Of the noise that replaces masked frames; its mean is 0.
        codes: Entries of the codebook.
        code_dim: Size of an entry.
        seed: Of the projection and the codebook.
    """

    noise_std: float = 0.1
    codes: int = 8192
    code_dim: int = 16
    seed: int = 0


@dataclass(frozen=True)
class KmeansConf(_Spans):
    """HuBERT's first iteration: the class of a masked frame by k-means of the input.

    Attributes:
        noise_std: Of the noise that replaces masked frames; its mean is 0.
        codes: Number of classes.
        utterances: Of the unlabelled ones, to which the centres are fitted at most.
        seed: Of the choice of these utterances and of the first centres.
    """

    noise_std: float = 0.1
    codes: int = 100
    utterances: int = 500
    seed: int = 0


class Registered(NamedTuple):
    """A loss that has a name.

    Attributes:
        conf: Dataclass of its options.
        loss: Its class as ``module:Class``, not imported before it is used.
    """

    conf: type
    loss: str


UNSUP: dict[str, Registered] = {
    "cpc": Registered(CpcConf, "espnet_ext.bl_just.cpc_loss:CpcLoss"),
    "wav2vec2": Registered(Wav2vec2Conf, "espnet_ext.bl_just.wav2vec2_loss:Wav2vec2Loss"),
    "best_rq": Registered(BestRqConf, "espnet_ext.bl_just.best_rq_loss:BestRqLoss"),
    "kmeans": Registered(KmeansConf, "espnet_ext.bl_just.kmeans_loss:KmeansLoss"),
}
UNSUP_LOSSES = tuple(UNSUP)


def section_of(conf: Any) -> str:
    """Return where the options of a registered loss stand."""
    return "bl_just." + next(name for name, r in UNSUP.items() if isinstance(conf, r.conf))


# Every number is above the low end and below the high one.
_RANGES = {
    "mask_prob": (0, 1),
    "noise_std": (-1e-9, math.inf),
    "diversity_weight": (-1e-9, math.inf),
    "max_queries": (1, math.inf),
    "codes": (1, math.inf),
    "seed": (-1, math.inf),
}


def loss_class(name: str, where: str = "bl_just") -> type:
    """Import the class of a loss.

    Args:
        name: A key of :data:`UNSUP`, or ``module:Class``.
        where: The section that names it, for messages.

    Raises:
        UsageError: There is no such loss, or it does not extend
            :class:`~espnet_ext.bl_just.unsup_base.UnsupLoss`.
    """
    if name not in UNSUP and ":" not in str(name):
        raise UsageError(
            f"there is no unsupervised loss '{name}'",
            f"{where}.unsup_loss",
            f"{nearest(str(name), UNSUP_LOSSES)} or module:Class",
        )
    from espnet_ext.bl_just.unsup_base import UnsupLoss

    found = load_object(UNSUP[name].loss if name in UNSUP else name, f"{where}.unsup_loss")
    if not (isinstance(found, type) and issubclass(found, UnsupLoss)):
        how = "extend espnet_ext.bl_just.unsup_base.UnsupLoss"
        raise UsageError(f"'{name}' is not an unsupervised loss", f"{where}.unsup_loss", how)
    return found


def unsup_conf(name: str, options: dict[str, Any] | None = None, where: str = "bl_just") -> Any:
    """Return the checked configuration of a loss.

    Args:
        name: A key of :data:`UNSUP`, or ``module:Class``, whose ``conf_class`` is then built.
        options: Keys of the loss's section; the rest are defaults.
        where: The section that holds it, for messages.

    Raises:
        UsageError: A name, key or value is not known; the message names the nearest.
    """
    if name not in UNSUP:
        found = loss_class(name, where)
        return build(found.conf_class, options, "training configuration", f"{where}.unsup_conf")
    section = f"{where}.{name}"
    conf = build(UNSUP[name].conf, options, "training configuration", section)
    for key, value in asdict(conf).items():
        low, high = _RANGES.get(key, (0, math.inf))
        if value is not None and not low < value < high and not isinstance(value, bool):
            least = "0 or more" if low < 0 else f"more than {low}"
            most = "" if high == math.inf else f", less than {high}"
            raise UsageError(f"{value} is out of range", f"{section}.{key}", f"{least}{most}")
    if isinstance(conf, Wav2vec2Conf) and conf.code_dim % conf.codebooks:
        raise UsageError(
            f"{conf.code_dim} cannot be divided among {conf.codebooks} codebooks",
            f"{section}.code_dim",
            "a multiple of codebooks",
        )
    return conf
