# SPDX-License-Identifier: Apache-2.0
"""Options of the aligner: the ``align`` section of recipe.yaml, and ``--set`` of the command line.

The schedules follow Kaldi's train_mono, train_deltas, train_lda_mllt and train_sat: numbers of
iterations, of Gaussians, and when to realign. A budget of 0 is derived from the amount of data.
"""

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_ext.errors import SetupError, UsageError, nearest
from espnet_ext.lang.lexicon import POLICIES
from espnet_ext.precision import PRECISIONS

SHIFTS_MS = (10, 5)
GMM_PASSES = ("mono", "tri", "lda_mllt", "sat")
PASSES = (*GMM_PASSES, "hybrid")


USUAL = {
    "tdnn": {"layers": 4, "units": 128, "epochs": 6, "batch_frames": 2000},
    "blstm": {"layers": 2, "units": 96, "epochs": 8, "batch_frames": 8000},
}


def _mono_realign() -> list[int]:
    return [*range(1, 11), *range(12, 39, 2)]


def _tri_realign() -> list[int]:
    return [10, 20, 30]


@dataclass
class Mono:
    """Monophone pass."""

    iterations: int = 40
    realign: list[int] = field(default_factory=_mono_realign)
    gaussians: int = 1000
    increase_until: int = 30  # last iteration that adds Gaussians
    max_utterances: int = 10000  # the shortest ones, as Kaldi's recipes do


@dataclass
class Tri:
    """Triphone pass: tri, lda_mllt and sat have the same fields."""

    iterations: int = 35
    realign: list[int] = field(default_factory=_tri_realign)
    leaves: int = 0
    gaussians: int = 0
    increase_until: int = 25
    min_count: float = 60.0  # frames of a leaf
    splice: int = 4  # frames on each side (lda_mllt, sat)
    dim: int = 40  # after LDA
    transforms: list[int] = field(default_factory=lambda: [2, 4, 6, 12])  # MLLT or fMLLR updates


@dataclass
class Hybrid:
    """Network on the tied states."""

    network: str = "tdnn"  # tdnn, or blstm as in the papers
    rounds: int = 1  # a round: train on the alignment, realign
    layers: int = 0  # 0: 4 (tdnn), 2 (blstm)
    units: int = 0  # of a layer, each direction of the blstm; 0: 128 (tdnn), 96 (blstm)
    dropout: float = 0.1
    epochs: int = 0  # 0: 6 (tdnn), 8 (blstm)
    patience: int = 2  # epochs without a better held-out frame accuracy
    lr: float = 0.003
    batch_frames: int = 0  # 0: 2000 (tdnn), 8000 (blstm)
    epoch_frames: int = 3_600_000  # an epoch takes so many of a larger corpus; 0: all
    max_frames: int = 200  # training sequences are cut to this length
    num_mel: int = 40
    prior_scale: float = 0.3
    held_out: float = 0.05  # share of utterances
    device: str = "auto"
    precision: str = "auto"  # of training: auto (bfloat16 where it is faster), float32, bfloat16

    def filled(self) -> "Hybrid":
        """Return these options with what is usual for the network instead of 0."""
        usual = USUAL[self.network]
        return dataclasses.replace(self, **{k: getattr(self, k) or v for k, v in usual.items()})


@dataclass
class AlignOptions:
    """All options; see the fields' comments."""

    run: str = ""  # another aligner: module:function(ctx, folder)
    text: str = "text"  # table of the transcripts; another one where `text` has more than words
    lexicon: str = ""  # dictionary file; empty: letters
    lexicon_kind: str = "auto"  # auto, cmudict, kaldi or kaldi_prob
    stress: bool = False  # keep stress marks of phones
    long_phones: str = "auto"  # of two 3-state units: auto (diphthongs, vowel + r), none, or names
    oov: str = "auto"  # words the lexicon lacks: see espnet_ext/lang/pronounce.py
    # Alignment directories that exist already, {set: folder}: nothing is trained then.
    alignments: dict[str, str] = field(default_factory=dict)
    # An aligner that is there, by folder or name (en_us): it aligns, and nothing is trained.
    model: str = ""
    adapt: bool = False  # to the training set first; labels of all sets are of the adapted aligner
    sets: list[str] = field(default_factory=list)  # default: training and development set
    passes: list[str] = field(default_factory=lambda: ["mono", "tri", "hybrid"])
    fs: int = 16000
    frame_shift_ms: int = 10  # 10, or 5: finer times for twice the work
    channel: str = "auto"  # auto, mix, or a number from 0; auto: mix, one where they cancel
    num_ceps: int = 13
    cmvn_vars: bool = False
    times: str = "auto"  # written for the last pass's phones: those of auto (mono), tri or last
    edges: bool = True  # times beside silence move inward by what features see beyond them
    # Kaldi has order 2 and window 2: those see speech up to 40 ms before it begins, and draw the
    # boundaries of silence there; benchmarks/align_boundaries.py has the figures.
    delta_order: int = 1
    delta_window: int = 1
    sil_prob: float = 0.5
    power: float = 0.25  # share of Gaussians of a state: occupancy ** power
    tolerance: float = 0.002  # converged: gain in log-likelihood per frame below this
    seed: int = 1
    device: str = "cpu"  # of the GMM passes: cpu, cuda
    mono: Mono = field(default_factory=Mono)
    tri: Tri = field(default_factory=Tri)
    lda_mllt: Tri = field(default_factory=Tri)
    sat: Tri = field(default_factory=Tri)
    hybrid: Hybrid = field(default_factory=Hybrid)
    textgrid: bool = True
    keep: list[str] = field(default_factory=list)  # further passes whose labels are written
    # Labels with phone boundaries moved at random are written, too, by each standard deviation:
    # aux.label_source jitter_50. To learn how exact labels must be.
    jitter_ms: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        for key in ("passes", "keep"):
            for name in getattr(self, key):
                if name not in PASSES:
                    raise UsageError(
                        f"there is no pass '{name}'", f"align.{key}", nearest(name, PASSES)
                    )
        order = [PASSES.index(name) for name in self.passes]
        if not order or order != sorted(set(order)) or self.passes[0] != "mono":
            raise UsageError(
                f"the passes {self.passes} are not in order",
                "align.passes",
                "start with mono, then any of tri, lda_mllt, sat, hybrid in this order",
            )
        if "sat" in self.passes and "lda_mllt" not in self.passes:
            raise UsageError("sat needs the features of lda_mllt", "align.passes", "add lda_mllt")
        if self.times in GMM_PASSES and self.times not in self.passes:
            where, how = "align.times", f"add {self.times} to align.passes, or use auto"
            raise UsageError(f"there is no pass '{self.times}' to take times from", where, how)
        if self.model and (self.keep or self.alignments or self.run):
            other = "keep" if self.keep else "alignments" if self.alignments else "run"
            what = f"'{other}' stands beside 'model', with which nothing is trained"
            raise UsageError(what, "align.model", "give one of them")
        if self.adapt and not self.model:
            what, how = "there is no aligner to adapt", "add align.model, e.g. en_us"
            raise UsageError(what, "align.adapt", how)
        if self.frame_shift_ms not in SHIFTS_MS:
            what = f"{self.frame_shift_ms} ms between frames"
            raise UsageError(what, "align.frame_shift_ms", f"use one of {SHIFTS_MS}")
        if self.model and self.frame_shift_ms != SHIFTS_MS[0]:
            what = "'frame_shift_ms' stands beside 'model', which has its own"
            raise UsageError(what, "align.frame_shift_ms", "give one of them")
        _check_ranges(self)

    @property
    def shift_s(self) -> float:
        """Seconds between frames."""
        return self.frame_shift_ms / 1000

    def times_of(self, name: str) -> str:
        """Return the pass whose times are written with the labels of a pass."""
        chosen = {"auto": "mono", "last": name}.get(self.times, self.times)
        return chosen if PASSES.index(chosen) < PASSES.index(name) else name


KINDS = {
    int: "a whole number", float: "a number", bool: "true or false", str: "text", list: "a list",
    dict: "a section",
}  # fmt: skip
RANGES: dict[str, tuple[float, float]] = {
    "fs": (4000, 192000), "frame_shift_ms": (5, 10), "num_ceps": (1, 23),
    "delta_order": (0, 2), "delta_window": (1, 10),
    "sil_prob": (0.001, 0.999), "power": (0, 1), "tolerance": (0, 1e9), "seed": (0, 2**31),
    "mono.iterations": (1, 1000), "mono.gaussians": (1, 10**7), "mono.max_utterances": (1, 10**9),
    "mono.increase_until": (0, 1000),
    **{
        f"{name}.{key}": bounds
        for name in ("tri", "lda_mllt", "sat")
        for key, bounds in {
            "iterations": (1, 1000), "leaves": (0, 10**6), "gaussians": (0, 10**7),
            "increase_until": (0, 1000), "min_count": (0, 1e9), "splice": (0, 20), "dim": (1, 1000),
        }.items()
    },
    "hybrid.rounds": (1, 100), "hybrid.layers": (0, 20), "hybrid.units": (0, 10**5),
    "hybrid.dropout": (0, 0.99), "hybrid.epochs": (0, 10**4), "hybrid.patience": (1, 10**4),
    "hybrid.lr": (1e-9, 10), "hybrid.batch_frames": (0, 10**8), "hybrid.max_frames": (10, 10**7),
    "hybrid.epoch_frames": (0, 10**12),
    "hybrid.num_mel": (1, 128), "hybrid.prior_scale": (0, 1), "hybrid.held_out": (1e-9, 0.999),
}  # fmt: skip


def on_device(o: AlignOptions, device: str = "cpu", network: str = "auto") -> AlignOptions:
    """Return options for this machine: a trained aligner's are of where it was trained.

    Args:
        o: The options.
        device: Of the GMM passes.
        network: Of the hybrid network.
    """
    hybrid = dataclasses.replace(o.hybrid, device=network)
    return dataclasses.replace(o, device=device, hybrid=hybrid)


def pick_device(name: str) -> str:
    """Return ``cpu`` or ``cuda``; ``auto`` takes a GPU if this machine has one.

    Call it where the work runs: the machine that gives out the work may have other devices.

    Raises:
        SetupError: ``cuda`` is asked for and torch finds no GPU.
    """
    import torch

    have = torch.cuda.is_available()
    if name.startswith("cuda") and not have:
        raise SetupError("there is no GPU that torch can use", "align device", "use cpu or auto")
    return ("cuda" if have else "cpu") if name == "auto" else name


def _check_ranges(o: AlignOptions) -> None:
    for key, (low, high) in RANGES.items():
        value = o
        for name in key.split("."):
            value = getattr(value, name)
        if not low <= value <= high:
            raise UsageError(f"{value} is out of range", f"align.{key}", f"use {low:g} to {high:g}")
    if not o.text or Path(o.text).name != o.text:
        what = f"'{o.text}' is no table of a data folder"
        raise UsageError(what, "align.text", "the name of a file beside wav.scp, e.g. text")
    for key, name, allowed in (
        ("device", o.device, ("cpu", "cuda")),
        ("hybrid.device", o.hybrid.device, ("auto", "cpu", "cuda")),
        ("hybrid.network", o.hybrid.network, tuple(USUAL)),
        ("hybrid.precision", o.hybrid.precision, PRECISIONS),
        ("oov", o.oov, POLICIES),
        ("times", o.times, ("auto", "last", "mono", "tri")),
        ("lexicon_kind", o.lexicon_kind, ("auto", "cmudict", "kaldi", "kaldi_prob")),
    ):
        if name not in allowed:
            raise UsageError(f"'{name}' is not possible", f"align.{key}", nearest(name, allowed))
    if wrong := [ms for ms in o.jitter_ms if not 1 <= ms <= 1000]:
        raise UsageError(f"{wrong[0]} is out of range", "align.jitter_ms", "use 1 to 1000")
    if o.channel not in ("auto", "mix") and not o.channel.isdecimal():
        what = f"'{o.channel}' is no channel"
        raise UsageError(what, "align.channel", "auto, mix, or a number from 0")


def from_dict(given: dict[str, Any], cls: type = AlignOptions, where: str = "align") -> Any:
    """Make options from a section of YAML.

    Raises:
        UsageError: A key does not exist (the nearest is named) or a value has another type.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}
    default, values = cls(), {}
    for key, value in (given or {}).items():
        if key not in fields:
            raise UsageError(f"there is no option '{key}'", where, nearest(str(key), fields))
        now = getattr(default, key)
        if dataclasses.is_dataclass(now):
            if not isinstance(value, dict):
                raise UsageError("must be a section", f"{where}.{key}")
            values[key] = from_dict(value, type(now), f"{where}.{key}")
            continue
        values[key] = _typed(value, now, f"{where}.{key}", fields[key].type)
    return cls(**values)


def _typed(value: Any, now: Any, where: str, annotation: Any) -> Any:
    """Return the value if it has the type of ``now``, after what YAML leaves undone."""
    if isinstance(now, str) and type(value) is int:
        value = str(value)  # channel: 0
    if isinstance(now, float) and isinstance(value, int | str) and not isinstance(value, bool):
        with contextlib.suppress(ValueError):
            value = float(value)  # YAML takes 1e-3 for text
    if type(value) is not type(now):
        raise UsageError(f"{value!r} is not {KINDS[type(now)]}", where)
    if isinstance(now, dict):  # alignments
        _typed(list(value.values()), [], where, list[str])
    if isinstance(now, list):
        item = int if annotation == list[int] else str
        wrong = [x for x in value if type(x) is not item]
        if wrong:
            raise UsageError(f"{wrong[0]!r} in it is not {KINDS[item]}", where)
    return value
