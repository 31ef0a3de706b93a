# SPDX-License-Identifier: Apache-2.0
"""The configuration under ``aux``: presets, defaults, checks.

``aux: {preset: weak_tri, layer: 3}`` is a preset with one key changed. Keys of a loss at the top
level hold for every loss of the preset, ``layer`` and ``tap`` for the first one only. Several
losses of one's own are a list::

    aux:
      losses:
      - {type: frame_ce, layer: 3}
      - {type: bpe_ce, smoothing: 0.3}
"""

import copy
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from espnet_ext.errors import UsageError, nearest
from espnet_ext.weak_align.alternation import UNITS, Alternation
from espnet_ext.weak_align.labels import RULES
from espnet_ext.weak_align.loss import FORMS, NORMALISE
from espnet_ext.weak_align.taps import PLACES, TAPS

TYPES = ("frame_ce", "frame_ctc", "bpe_ce")
SPLITS = ("phone_proportional", "equal", "hybrid_bpe_lexicon")
CHOICES: dict[str, tuple[str, ...]] = {
    "type": TYPES,
    "smoothing_form": FORMS,
    "label_rule": RULES,
    "bpe_collision": RULES,
    "silence": ("keep", "mask"),
    "normalise": NORMALISE,
    "tap": TAPS,
    "bpe_split": SPLITS,
    "ctc_sequence": ("encoder", "frames"),
    "unit": ("triphone", "phone"),
}


@dataclass(frozen=True)
class LossConf:
    """One auxiliary loss.

    Attributes:
        type: ``frame_ce`` on the classes of the alignment, ``frame_ctc`` on their sequence,
            ``bpe_ce`` on the BPE units in time.
        name: In the statistics (``loss_aux_<name>``) and in the names of the head's parameters.
        layer: Number from 1, ``middle``, ``output`` or ``context``.
        tap: Whether an RNN encoder is read before or after the layer's pool.
        weight: Of the loss in the sum. 0 computes the loss for the statistics alone.
        smoothing: m in [0, 1].
        smoothing_form: ``uniform_all`` or ``uniform_other``.
        label_rule: Which label frames make the label of an encoder frame.
        bpe_collision: The same for BPE units.
        silence: Whether silence frames count in the loss.
        normalise: How frames are averaged.
        head_layers: Linear layers of the head.
        head_norm: Layer normalisation before the head.
        bpe_split: How the frames of a word go to its BPE units.
        ctc_sequence: Whether labels are merged at the rate of the encoder, which always fits, or
            of the alignment.
    """

    type: str = "frame_ce"
    name: str = ""
    layer: int | str = "middle"
    tap: str = TAPS[0]
    weight: float = 1.0
    smoothing: float = 0.5
    smoothing_form: str = "uniform_all"
    label_rule: str = "centre"
    bpe_collision: str = "centre"
    silence: str = "keep"
    normalise: str = "frame_mean"
    head_layers: int = 1
    head_norm: bool = False
    bpe_split: str = "phone_proportional"
    ctc_sequence: str = "encoder"


_TRI = {"type": "frame_ce", "name": "tri"}
_BPE = {"type": "bpe_ce", "name": "bpe", "layer": "output"}
_NAMES = {"frame_ce": _TRI, "frame_ctc": {"type": "frame_ctc", "name": "tri_ctc"}, "bpe_ce": _BPE}

#: Rows of the ablation table: the losses, and what else the preset changes.
PRESETS: dict[str, dict[str, Any]] = {
    "baseline": {"losses": []},
    "aed_only": {"losses": [], "no_ctc": True},
    "weak_tri": {"losses": [_TRI]},
    "one_hot": {"losses": [{**_TRI, "smoothing": 0.0}]},
    "one_hot_weighted": {"losses": [{**_TRI, "smoothing": 0.0, "weight": 0.5}]},
    "tri_ctc": {"losses": [_NAMES["frame_ctc"]]},
    "bpe_ce": {"losses": [_BPE]},
    "bpe_ce_no_ctc": {"losses": [_BPE], "no_ctc": True},
    "bpe_ce_ctx": {"losses": [{**_BPE, "layer": "context"}]},
    "both": {"losses": [_TRI, _BPE]},
    "alternating": {"losses": [_TRI, _BPE], "alternation": {}},
}
_LOSS_KEYS = {f.name for f in fields(LossConf)}
_TOP_KEYS = {
    "preset", "losses", "header", "label_source", "unit", "alternation", "ctc_in_alternation",
}  # fmt: skip
_FIRST_ONLY = ("layer", "tap", "name")


@dataclass(frozen=True)
class AuxConf:
    """Everything under ``aux``, with defaults filled in.

    Attributes:
        losses: The auxiliary losses; none is plain ESPnet.
        alternation: None: all losses in every update.
        no_ctc: Train without the CTC branch.
        unit: ``triphone``, the classes of stream ``align``, or ``phone``, those of
            ``align_phone``.
        label_source: ``aligned``, ``shuffled`` (labels of other utterances, a control), or the
            sub-folder of another alignment.
        header: Path of header.json; None: next to the labels.
    """

    preset: str
    losses: tuple[LossConf, ...] = ()
    alternation: Alternation | None = None
    no_ctc: bool = False
    unit: str = "triphone"
    label_source: str = "aligned"
    header: str | None = None
    given: dict = field(default_factory=dict, compare=False)


def resolve(aux: dict[str, Any] | None) -> AuxConf:
    """Return the configuration for what stands under ``aux``.

    Raises:
        UsageError: A key or value is unknown; the message names the nearest.
    """
    aux = {k: v for k, v in (aux or {}).items() if k != "resolved"}
    for key in aux:
        if key not in _TOP_KEYS | _LOSS_KEYS - {"type"}:
            valid = _TOP_KEYS | _LOSS_KEYS - {"type", "name"}
            raise UsageError(f"there is no option '{key}'", f"aux.{key}", nearest(key, valid))
    name = aux.get("preset") or "weak_tri"
    if name not in PRESETS:
        raise UsageError(f"there is no preset '{name}'", "aux.preset", nearest(str(name), PRESETS))
    preset = PRESETS[name]
    losses = _losses(aux, preset)
    alternation = aux.get("alternation", preset.get("alternation"))
    if alternation is not None:
        alternation = _alternation(alternation, len(losses))
    ctc = aux.get("ctc_in_alternation", True)
    if not isinstance(ctc, bool):
        raise UsageError(f"'{ctc}' is not true or false", "aux.ctc_in_alternation")
    unit = aux.get("unit", "triphone")
    _check_choice("unit", unit, "aux.unit")
    return AuxConf(
        preset=name,
        losses=losses,
        alternation=alternation,
        no_ctc=preset.get("no_ctc", False) or (alternation is not None and not ctc),
        unit=unit,
        label_source=str(aux.get("label_source") or "aligned"),
        header=aux.get("header"),
        given=aux,
    )


def _losses(aux: dict, preset: dict) -> tuple[LossConf, ...]:
    common = {k: aux[k] for k in _LOSS_KEYS if k in aux}
    own = aux.get("losses")
    if own is None:
        items = []
        for i, defaults in enumerate(preset["losses"]):
            here = {k: v for k, v in common.items() if i == 0 or k not in _FIRST_ONLY}
            items.append({**defaults, **here})
    else:
        if not isinstance(own, list) or not all(isinstance(x, dict) for x in own):
            raise UsageError("losses must be a list of sections", "aux.losses")
        items = [{**_NAMES.get(x.get("type", "frame_ce"), {}), **common, **x} for x in own]
    names: list[str] = []
    out = []
    for i, item in enumerate(items):
        base, n = str(item.get("name", "")), 2
        while item.get("name", "") in names:
            item = {**item, "name": f"{base}{n}"}
            n += 1
        names.append(item.get("name", ""))
        out.append(_loss(item, f"aux.losses[{i}]" if own is not None else "aux"))
    return tuple(out)


def _loss(item: dict, where: str) -> LossConf:
    for key, value in item.items():
        if key not in _LOSS_KEYS:
            raise UsageError(
                f"there is no option '{key}'", f"{where}.{key}", nearest(key, _LOSS_KEYS)
            )
        if key in CHOICES:
            _check_choice(key, value, f"{where}.{key}")
    conf = LossConf(**item)
    _check_number(conf.smoothing, 0, 1, f"{where}.smoothing")
    _check_number(conf.weight, 0, float("inf"), f"{where}.weight")
    if type(conf.head_layers) is not int or conf.head_layers < 1:
        raise UsageError(f"'{conf.head_layers}' is no number of layers", f"{where}.head_layers")
    if not isinstance(conf.head_norm, bool):
        raise UsageError(f"'{conf.head_norm}' is not true or false", f"{where}.head_norm")
    if not conf.name.isidentifier():
        raise UsageError(f"'{conf.name}' cannot name a loss", f"{where}.name", "letters and _")
    if type(conf.layer) is not int and conf.layer not in PLACES:
        raise UsageError(
            f"'{conf.layer}' is not a layer", f"{where}.layer",
            nearest(str(conf.layer), PLACES) + ", or a number from 1",
        )  # fmt: skip
    return conf


def _alternation(given: Any, count: int) -> Alternation:
    if not isinstance(given, dict):
        raise UsageError("alternation must be a section", "aux.alternation", "{period: 1}")
    for key in given:
        if key not in ("period", "unit"):
            raise UsageError(
                f"there is no option '{key}'", "aux.alternation", nearest(key, ("period", "unit"))
            )
    conf = Alternation(**given)
    if type(conf.period) is not int or conf.period < 1:
        raise UsageError(f"'{conf.period}' is not a period", "aux.alternation.period", "1 or more")
    if conf.unit not in UNITS:
        raise UsageError(
            f"'{conf.unit}' is not a unit", "aux.alternation.unit", nearest(str(conf.unit), UNITS)
        )
    if count < 2:
        raise UsageError("there is nothing to alternate", "aux.alternation", "two losses or more")
    return conf


def _check_choice(key: str, value: Any, where: str) -> None:
    if value not in CHOICES[key]:
        raise UsageError(f"'{value}' is not known", where, nearest(str(value), CHOICES[key]))


def _check_number(value: Any, low: float, high: float, where: str) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:
        raise UsageError(f"'{value}' is not a number from {low} to {high}", where)


def as_plain(conf: AuxConf) -> dict[str, Any]:
    """Return what config.yaml keeps; :func:`stored` reads it."""
    return {"losses": [asdict(x) for x in conf.losses], "given": copy.deepcopy(conf.given)}


def stored(aux: dict[str, Any] | None) -> AuxConf | None:
    """Return the configuration that a training has resolved; None if other keys are given now."""
    facts = (aux or {}).get("resolved")
    given = {k: v for k, v in (aux or {}).items() if k != "resolved"}
    if not facts or facts["given"] != given:
        return None
    losses = tuple(LossConf(**x) for x in facts["losses"])
    return replace(resolve(given), losses=losses)
