# SPDX-License-Identifier: Apache-2.0
"""The section ``multistage`` of a pre-training's configuration, checked before heavy imports.

What the paper (arXiv 2403.19822) tells is the default, the rest follows related public recipes.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any

from espnet_ext.errors import UsageError
from espnet_ext.settings import Limits, build

SECTION = "multistage"
MAE, CLR = "mae", "clr"


@dataclass(frozen=True)
class MultistageConf:
    """All options of stage 1."""

    objective: Annotated[
        str, "Masked auto-encoding, contrastive learning, or their sum",
        Limits(one_of=("mae", "clr", "mae+clr")),
    ] = "mae"  # fmt: skip
    modalities: Annotated[
        str, "audio: only the audio half of MAE", Limits(one_of=("both", "audio"))
    ] = "both"
    mask_ratio: Annotated[float, "Share of hidden tokens", Limits(at_least=0, at_most=0.99)] = 0.6
    mask_mode: Annotated[
        str, "Hidden audio tokens are left out (drop) or set to 0", Limits(one_of=("drop", "zero"))
    ] = "drop"
    mask_at: Annotated[
        str,
        "Hide tokens after the subsampling, which leaves most of their frames visible through the "
        "neighbours, or set their frames to 0 before it",
        Limits(one_of=("token", "frame")),
    ] = "token"
    mae_loss_on: Annotated[
        str, "Tokens that MAE is scored on", Limits(one_of=("masked", "all"))
    ] = "masked"
    normalise_audio: Annotated[bool, "Each audio target to mean 0, variance 1"] = False
    normalise_video: Annotated[bool, "Each video target to mean 0, variance 1"] = True
    tau: Annotated[str | float, "Temperature of CLR: learned, or a number above 0"] = "learned"
    clr_on_masked: Annotated[bool, "mae+clr: CLR on the seen tokens, no second pass"] = False
    clr_weight: Annotated[float, "Of CLR beside MAE", Limits(at_least=0)] = 1.0
    clr_tokens: Annotated[
        str,
        "What CLR compares: means over time (the paper), means of the steps of the pictures with "
        "the sound at the same time (aligned), or those without the clip's mean (centred)",
        Limits(one_of=("mean", "aligned", "centred")),
    ] = "mean"
    cross_modal: Annotated[bool, "Decode sound and pictures in one pass (not the paper's)"] = False
    pairing: Annotated[
        str, "shuffled: training clips get the video of another clip of their batch (a control)",
        Limits(one_of=("true", "shuffled")),
    ] = "true"  # fmt: skip
    max_frames: Annotated[int, "Speech is cut after so many frames", Limits(at_least=7)] = 1000
    frames: Annotated[int, "Pictures of a clip", Limits(at_least=1)] = 16
    stride: Annotated[int, "Distance of two pictures", Limits(at_least=1)] = 4
    size: Annotated[int, "Pixels of a side", Limits(at_least=1)] = 224
    patch: Annotated[list[int], "Frames, rows, columns of a patch"] = field(
        default_factory=lambda: [2, 16, 16]
    )
    video_sampling: Annotated[
        str, "Pictures at a stride, or spread over the clip", Limits(one_of=("stride", "uniform"))
    ] = "stride"
    video_start: Annotated[str | int, "First picture: 0, or random in training"] = 0
    width: Annotated[int, "Of the video encoder", Limits(at_least=1)] = 768
    blocks: Annotated[int, "Of the video encoder", Limits(at_least=1)] = 12
    heads: Annotated[int, "Of the video encoder", Limits(at_least=1)] = 12
    decoder_width: Annotated[int, "Of the common decoder", Limits(at_least=2)] = 512
    decoder_blocks: Annotated[int, "Of the common decoder", Limits(at_least=1)] = 4
    decoder_heads: Annotated[int, "Of the common decoder", Limits(at_least=1)] = 16
    decoder_start: Annotated[
        str,
        "near: hidden tokens first look at their neighbours, else small models learn for hundreds "
        "of updates nothing but the average of each place (random)",
        Limits(one_of=("near", "random")),
    ] = "near"

    @property
    def losses(self) -> tuple[str, ...]:
        """Some of :data:`MAE` and :data:`CLR`."""
        return tuple(self.objective.split("+"))

    @property
    def with_video(self) -> bool:
        """Whether the model looks at pictures."""
        return self.modalities == "both"


def resolve(section: dict[str, Any] | None) -> MultistageConf:
    """Return the checked configuration.

    Raises:
        UsageError: An unknown key or value (the nearest is named), or values that do not fit.
    """
    values = dict(section or {})
    if values.get("pairing") is True:  # YAML's and the command line's reading of the word
        values["pairing"] = "true"
    for key in ("tau", "video_start"):  # either a word or a number
        if key in values and isinstance(values[key], int | float):
            values[key] = str(values[key])
    conf = build(_Read, values, "training configuration", SECTION)
    return MultistageConf(**{**vars(conf), **_numbers(conf), **_fitting(conf)})


@dataclass(frozen=True)
class _Read(MultistageConf):
    """As YAML gives it, where a word may stand for a number."""

    tau: str = "learned"
    video_start: str = "0"


def _numbers(conf: _Read) -> dict[str, Any]:
    tau: str | float = conf.tau
    if tau != "learned":
        try:
            tau = float(tau)
        except ValueError:
            tau = 0.0
        if not 0 < tau < float("inf"):
            how = "learned, or a number above 0, e.g. 0.07"
            raise UsageError(f"tau cannot be '{conf.tau}'", f"{SECTION}.tau", how)
    if conf.video_start not in ("0", "random"):
        how = "0 or random"
        what = f"video_start cannot be '{conf.video_start}'"
        raise UsageError(what, f"{SECTION}.video_start", how)
    return {"tau": tau, "video_start": 0 if conf.video_start == "0" else "random"}


def _fitting(conf: MultistageConf) -> dict[str, Any]:
    """Check what goes together."""
    patch = conf.patch
    whole = (conf.frames, conf.size, conf.size)
    if len(patch) != 3 or any(p < 1 or n % p for n, p in zip(whole, patch, strict=False)):
        raise UsageError(
            f"patches of {patch} do not fill {conf.frames} pictures of {conf.size} x {conf.size}",
            f"{SECTION}.patch", "[frames, rows, columns], which divide frames and size",
        )  # fmt: skip
    for width, heads in (("width", "heads"), ("decoder_width", "decoder_heads")):
        if getattr(conf, width) % getattr(conf, heads):
            what = f"{width} {getattr(conf, width)} is not a multiple of {heads}"
            raise UsageError(what, f"{SECTION}.{heads}", "a divisor of the width")
    if conf.decoder_width % 2:
        raise UsageError("decoder_width is odd", f"{SECTION}.decoder_width", "an even number")
    if CLR in conf.losses and not conf.with_video:
        how = "modalities: both, or objective: mae"
        raise UsageError("CLR needs the pictures", f"{SECTION}.modalities", how)
    if conf.clr_on_masked and conf.losses != (MAE, CLR):
        what = f"objective {conf.objective} has no masked pass with CLR"
        raise UsageError(what, f"{SECTION}.clr_on_masked", "objective: mae+clr")
    if conf.cross_modal and not (MAE in conf.losses and conf.with_video):
        what = "cross_modal needs pictures and a reconstruction of them"
        raise UsageError(what, f"{SECTION}.cross_modal", "false, or objective: mae")
    if conf.clr_tokens != "mean" and conf.video_sampling != "uniform":
        what = f"clr_tokens {conf.clr_tokens}: pictures at a stride have no known time"
        raise UsageError(what, f"{SECTION}.clr_tokens", "mean, or video_sampling: uniform")
    if MAE in conf.losses and conf.mae_loss_on == "masked" and conf.mask_ratio == 0:
        what = "mask_ratio 0 hides nothing, so there is nothing to score"
        raise UsageError(what, f"{SECTION}.mask_ratio", "above 0, or mae_loss_on: all")
    return {}
