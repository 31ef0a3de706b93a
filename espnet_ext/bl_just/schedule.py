# SPDX-License-Identifier: Apache-2.0
"""Which losses each update of each epoch takes, and what gamma is: Algorithm 1 and its baselines.

A schedule is a list of epochs, an epoch a list of segments, a segment so many updates of one kind:

    explore   one batch of the lower level   optimiser 2 (rho)
    joint     one batch of each level        optimiser 1 (alpha)   upper + gamma lower
    label     one labelled batch             optimiser 1
    pseudo    one batch of each              optimiser 1           f + gamma f(pseudo-labels)
    final     one labelled batch             optimiser 3 (tau)

Everything is a function of the configuration and of two counts of batches, so a training that is
gone on with needs no state. Source: arXiv 2412.08548, Algorithm 1.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from espnet_ext.bl_just.options import BlJustConf

OPTIMISER = {"joint": 0, "label": 0, "pseudo": 0, "explore": 1, "final": 2}
OPTIMISERS = 3
REFERENCE_SLOPE, REFERENCE_CAP = 0.002, 1.0  # of the authors' code, per epoch
FINAL_PASSES = 5


@dataclass(frozen=True)
class Segment:
    """Consecutive updates of one kind.

    Attributes:
        kind: A key of ``OPTIMISER``.
        updates: How many.
        gamma: At the first one.
        slope: Added to gamma with each update.
        cap: gamma does not go beyond it.
    """

    kind: str
    updates: int
    gamma: float = 0.0
    slope: float = 0.0
    cap: float = math.inf

    def gamma_at(self, update: int) -> float:
        """Return gamma of an update, counted from 0."""
        return min(self.gamma + self.slope * update, self.cap)

    @property
    def with_lower(self) -> int:
        """Updates of a joint segment whose gamma is not 0, so that the lower level is computed."""
        return self.updates - ((self.updates if self.slope == 0 else 1) if self.gamma == 0 else 0)


@dataclass(frozen=True)
class Counts:
    """Updates by what they read; ``passes`` are forward-backward passes of a batch."""

    labelled: int = 0
    unlabelled: int = 0

    @property
    def passes(self) -> int:
        return self.labelled + self.unlabelled

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(self.labelled + other.labelled, self.unlabelled + other.unlabelled)


@dataclass(frozen=True)
class Step:
    """One update."""

    kind: str
    gamma: float
    labelled: bool
    unlabelled: bool


@dataclass(frozen=True)
class Schedule:
    """All epochs of a training.

    Attributes:
        epochs: The segments of each.
        lower_labelled: Whether the levels are reversed: exploration and penalty on f.
    """

    epochs: tuple[tuple[Segment, ...], ...]
    lower_labelled: bool = False

    def steps(self, epoch: int) -> Iterator[Step]:
        """Yield the updates of an epoch, counted from 1."""
        for s in self.epochs[epoch - 1]:
            for update in range(s.updates):
                gamma = s.gamma_at(update)
                if s.kind in ("label", "final"):
                    reads = (True, False)
                elif s.kind == "explore":
                    reads = (self.lower_labelled, not self.lower_labelled)
                else:
                    lower = gamma > 0
                    reads = (lower, True) if self.lower_labelled else (True, lower)
                yield Step(s.kind, gamma, *reads)

    def counts(self, epoch: int) -> Counts:
        """Return what an epoch reads, in updates."""
        return sum((self._segment_counts(s) for s in self.epochs[epoch - 1]), Counts())

    def _segment_counts(self, s: Segment) -> Counts:
        if s.kind in ("label", "final"):
            return Counts(labelled=s.updates)
        upper, lower = (0, s.updates) if s.kind == "explore" else (s.updates, s.with_lower)
        return Counts(lower, upper) if self.lower_labelled else Counts(upper, lower)

    def before(self, epoch: int) -> Counts:
        """Return what the epochs before this one read."""
        return sum((self.counts(e) for e in range(1, epoch)), Counts())

    @property
    def total(self) -> Counts:
        return self.before(len(self.epochs) + 1)

    def updates(self, optimiser: int) -> int:
        """Return how many updates an optimiser does in all."""
        segments = itertools.chain(*self.epochs)
        return sum(s.updates for s in segments if OPTIMISER[s.kind] == optimiser)

    def first(self, kind: str) -> int | None:
        """Return the first epoch with a segment of a kind."""
        for epoch, segments in enumerate(self.epochs, 1):
            if any(s.kind == kind and s.updates for s in segments):
                return epoch
        return None


@dataclass(frozen=True)
class Sizes:
    """N1, N2 and N3 in updates."""

    explore: int
    joint: int
    final: int


def sizes_of(conf: BlJustConf, labelled: int, unlabelled: int) -> Sizes:
    """Return N1, N2, N3.

    Args:
        conf: The configuration.
        labelled: Updates of one pass over the labelled data, at least 1.
        unlabelled: The same for the unlabelled data.
    """
    lower = labelled if conf.upper_level == "unsupervised" else unlabelled
    return Sizes(
        lower if conf.explore_steps is None else conf.explore_steps,
        labelled if conf.joint_steps is None else conf.joint_steps,
        FINAL_PASSES * labelled if conf.final_steps is None else conf.final_steps,
    )


def make_schedule(conf: BlJustConf, labelled: int, unlabelled: int) -> Schedule:
    """Return the schedule of a configuration; see :func:`sizes_of` for the arguments."""
    n = sizes_of(conf, labelled, unlabelled)
    reference = _bljust(replace(conf, schedule="bljust"), n)
    if conf.schedule == "bljust":
        return reference
    total = reference.total
    makers = {
        "supervised": _supervised, "pt_ft": _pt_ft, "weighted_sum": _weighted_sum,
        "pseudo_label": _pseudo_label,
    }  # fmt: skip
    epochs = makers[conf.schedule](conf, n, total)
    return Schedule(tuple((segment,) for segment in epochs))


def gamma_ramp(conf: BlJustConf, epoch: int) -> tuple[float, float, float]:
    """Return gamma at the start of an epoch (from 1), its growth in an epoch, its bound.

    Source: arXiv 2412.08548: gamma_k = (k - 1) gamma_m / K, so gamma_m itself is never reached.
    """
    if conf.gamma_ramp == "constant" or conf.gamma_max == 0:
        return conf.gamma_max, 0.0, math.inf
    slope, cap = conf.gamma_max / conf.epochs, math.inf
    if conf.gamma_ramp == "reference":
        slope, cap = REFERENCE_SLOPE, REFERENCE_CAP
    return min((epoch - 1) * slope, cap), slope, cap


def _bljust(conf: BlJustConf, n: Sizes) -> Schedule:
    epochs = []
    for epoch in range(1, conf.epochs + 1):
        segments = []
        if n.explore and (epoch == 1 or conf.explore_when == "each"):
            segments.append(Segment("explore", n.explore))
        gamma, slope, cap = gamma_ramp(conf, epoch)
        if conf.gamma_unit == "step":
            segments.append(Segment("joint", n.joint, gamma, slope / n.joint, cap))
        else:
            segments.append(Segment("joint", n.joint, gamma))
        epochs.append(tuple(segments))
    epochs += [(s,) for s in _cut(Segment("final", n.final), n.joint)]
    return Schedule(tuple(epochs), lower_labelled=conf.upper_level == "unsupervised")


def _cut(segment: Segment, size: int) -> list[Segment]:
    """Divide a segment into epochs, so that each is validated and saved."""
    whole, rest = divmod(segment.updates, size)
    parts = [replace(segment, updates=size)] * whole
    return parts + ([replace(segment, updates=rest)] if rest else [])


def _supervised(conf: BlJustConf, n: Sizes, total: Counts) -> list[Segment]:
    updates = total.passes if conf.budget == "passes" else total.labelled
    return _label_then_final(updates - n.final, n)


def _pt_ft(conf: BlJustConf, n: Sizes, total: Counts) -> list[Segment]:
    pretrain = Segment("explore", total.unlabelled)
    return [*_cut(pretrain, n.explore + n.joint), *_label_then_final(total.labelled - n.final, n)]


def _label_then_final(updates: int, n: Sizes) -> list[Segment]:
    return [*_cut(Segment("label", updates), n.joint), *_cut(Segment("final", n.final), n.joint)]


def _weighted_sum(conf: BlJustConf, n: Sizes, total: Counts) -> list[Segment]:
    updates = total.passes // 2 if conf.budget == "passes" else total.labelled
    return _cut(Segment("joint", updates, conf.gamma_max), n.joint)


def _pseudo_label(conf: BlJustConf, n: Sizes, total: Counts) -> list[Segment]:
    updates, share = total.labelled - n.final, conf.pseudo_warmup
    if conf.budget == "passes":  # a joint update is two passes
        updates = round((total.passes - n.final) / (2 - share))
    warm = round(share * updates)
    pseudo = Segment("pseudo", updates - warm, conf.gamma_max)
    return [
        *_cut(Segment("label", warm), n.joint),
        *_cut(pseudo, n.joint),
        *_cut(Segment("final", n.final), n.joint),
    ]
