# SPDX-License-Identifier: Apache-2.0
"""The development score after each epoch of the last training phase, and whether it still rose.

A difference between systems that are still learning is one of learning speed: with more updates it
may vanish. So every page tells which systems were trained out.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from espnet_ext.scoring.record import Phase, Record

PHASES = ("pretrain", "midtrain", "finetune")  # in the order of the stages
LAST_PART = 0.25  # of the training in which nothing should be gained any more
FLAT_PERCENT = 5.0  # of the error: what may be gained there all the same
NOISE = 0.001  # of all tokens: a smaller gain is none, however small the error is
MIN_EPOCHS = 4  # fewer show no last quarter


class Measure(NamedTuple):
    """What is measured on the development set, as a share; fields of :class:`Phase` have it.

    Attributes:
        title: For a reader.
        field: Of :class:`Phase`.
        is_error: Whether lower is better.
    """

    title: str
    field: str
    is_error: bool


# The character error rate is that of greedy CTC; the accuracy that of the attention decoder's
# tokens with the right history, or of classified utterances.
ACCURACY = Measure("Accuracy", "valid_acc", False)
CTC_ERRORS = Measure("Character error rate of greedy CTC", "valid_cer_ctc", True)


@dataclass(frozen=True)
class Curve:
    """Scores after each epoch of the last phase, and what had been done by then.

    Attributes:
        values: Shares, 0 to 1 (error rates may be larger).
        updates: Of all kinds.
        passes: Over the labelled training data; None where a record does not tell.
        counted: Whether the passes were counted, not taken from the number of epochs.
    """

    values: Sequence[float]
    updates: Sequence[float]
    passes: Sequence[float] | None
    counted: bool = True


def one_count(curves: Sequence[Curve]) -> list[Curve]:
    """Leave the guessed passes of old records away where others were counted: an epoch need not be
    a pass."""
    guess = not any(c.counted for c in curves)
    return [c if c.counted or guess else replace(c, passes=None) for c in curves]


def last_phase(record: Record) -> Phase | None:
    """Return the phase that made the final model; records do not keep the order of phases."""
    order = [*reversed(PHASES), *record.phases]
    return next((record.phases[name] for name in order if name in record.phases), None)


def curve(record: Record, measure: Measure = ACCURACY) -> Curve | None:
    """Return the curve of the last phase; None where it was not recorded.

    Records of earlier releases count no updates by epoch: epochs are taken as equally long, and as
    one pass each where all batches are labelled.
    """
    phase = last_phase(record)
    values = getattr(phase, measure.field) if phase is not None else []
    if not values:
        return None
    count, counted = len(values), True
    updates, passes = phase.valid_updates, phase.valid_passes
    if len(updates) != count:
        counted = False
        updates = [phase.updates * i / count for i in range(1, count + 1)]
        passes = range(1, count + 1) if phase.labelled_batches is None else []
    return Curve(values, updates, passes if len(passes) == count else None, counted)


def measure_of(records: Iterable[Record]) -> Measure:
    """Return what curves of runs are drawn of: what all their models are chosen by, if recorded."""
    phases = [p for p in map(last_phase, records) if p is not None and (p.valid_acc or p.chosen_by)]
    by_errors = all(p.chosen_by == "cer_ctc" and p.valid_cer_ctc for p in phases)
    return CTC_ERRORS if phases and by_errors else ACCURACY


def late_gain_percent(record: Record) -> float | None:
    """Return by how much the best error fell in the last quarter of the last phase.

    The quarter is one of the passes over the labelled data where these are known, as a phase may
    begin with unlabelled data; else of the updates.

    Returns:
        Percent of the best error before; None where the curve is not recorded or too short.
    """
    measure = measure_of([record])
    found = curve(record, measure)
    if found is None or len(found.values) < MIN_EPOCHS:
        return None
    errors = [v if measure.is_error else 1 - v for v in found.values]
    done = found.updates if found.passes is None or not found.passes[-1] else found.passes
    early = [e for e, at in zip(errors, done, strict=True) if at <= (1 - LAST_PART) * done[-1]]
    if not early or len(early) == len(errors):
        return None
    before, best = min(early), min(errors)
    return 100 * (before - best) / before if before - best > NOISE else 0.0


def late_gain_of(records: Iterable[Record]) -> float | None:
    """Return the mean of :func:`late_gain_percent` over those runs that have one, or None."""
    known = [g for r in records if (g := late_gain_percent(r)) is not None]
    return statistics.fmean(known) if known else None


def is_half_trained(records: Iterable[Record]) -> bool:
    """Whether a system was still learning at its end; False where nobody knows."""
    gain = late_gain_of(records)
    return gain is not None and gain > FLAT_PERCENT
