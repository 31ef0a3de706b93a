# SPDX-License-Identifier: Apache-2.0
"""Two data streams in the order of a schedule.

A step is ``(utt_ids, batch)`` as the trainer wants it. ``batch["step"]`` says what it is for:
``kind``, ``gamma``, ``measure``. The labelled batch has its keys as they are, the unlabelled one
has them as ``u_<key>``; either may be absent.
"""

import itertools
from collections.abc import Iterator
from typing import Any

from espnet_ext.bl_just.schedule import Counts, Schedule, Step
from espnet_ext.espnet.iterators import AbsIterFactory, PersistentIterFactory, stretch

UNLABELLED = "u"


class ScheduledIterFactory(AbsIterFactory):
    """Batches of an epoch, computed from the epoch alone: a resumed training needs no state.

    Args:
        labelled: The main stream.
        unlabelled: The second one; None for a schedule without.
        schedule: All epochs.
        accum_grad: Batches of an update.
        measure_every: Joint updates between two measurements; 0 for none.
    """

    def __init__(
        self,
        labelled: PersistentIterFactory,
        unlabelled: PersistentIterFactory | None,
        schedule: Schedule,
        accum_grad: int = 1,
        measure_every: int = 0,
    ):
        self.labelled, self.unlabelled, self.schedule = labelled, unlabelled, schedule
        self.accum_grad, self.measure_every = accum_grad, measure_every

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> "ScheduledLoader":
        """Return the batches of an epoch (counted from 1)."""
        now, before = self.schedule.counts(epoch), self.schedule.before(epoch)
        counts = Counts(now.labelled * self.accum_grad, now.unlabelled * self.accum_grad)
        loaders = []
        for factory, start, count in (
            (self.labelled, before.labelled, counts.labelled),
            (self.unlabelled, before.unlabelled, counts.unlabelled),
        ):
            start *= self.accum_grad
            loaders.append(stretch(factory, epoch, start, count) if count else ())
        steps = list(self.schedule.steps(epoch))
        return ScheduledLoader(*loaders, steps, counts, self.accum_grad, self.measure_every)


class ScheduledLoader:
    """Iterator of :class:`ScheduledIterFactory`.

    Attributes:
        counts: Labelled and unlabelled batches of this epoch.
    """

    def __init__(
        self,
        labelled: Any,
        unlabelled: Any,
        steps: list[Step],
        counts: Counts,
        accum_grad: int,
        measure_every: int,
    ):
        self.labelled, self.unlabelled, self.steps, self.counts = (
            labelled,
            unlabelled,
            steps,
            counts,
        )
        self.accum_grad, self.measure_every = accum_grad, measure_every

    def __len__(self) -> int:
        return len(self.steps) * self.accum_grad

    def __iter__(self) -> Iterator[tuple[list[str], dict]]:
        labelled, unlabelled = iter(self.labelled), iter(self.unlabelled)
        joint = itertools.count()
        for step in self.steps:
            both = step.labelled and step.unlabelled
            measure = both and self.measure_every > 0 and next(joint) % self.measure_every == 0
            for part in range(self.accum_grad):
                info = {"kind": step.kind, "gamma": step.gamma, "measure": measure and part == 0}
                utt_ids, batch = [], {}
                if step.labelled:
                    utt_ids, batch = next(labelled)
                if step.unlabelled:
                    ids, extra = next(unlabelled)
                    batch.update({f"{UNLABELLED}_{key}": x for key, x in extra.items()})
                    if utt_ids:
                        batch[f"{UNLABELLED}_utt_id"] = ids
                    utt_ids = utt_ids or ids
                yield utt_ids, {**batch, "step": info}
