# SPDX-License-Identifier: Apache-2.0
"""How fast training goes: the wait for data, what is told within a long epoch, the time left."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from espnet_ext.progress import duration, progress_log

FIRST_S = 60.0  # of an epoch, until it is told how far it has come; then twice as long each time


class WaitTimer:
    """Iterate over ``items`` and add up the time spent waiting for the next one, ``wait_s``.

    Args:
        items: What to iterate over.
        before: Called with the number of each item, from 0, before it is handed out.
    """

    def __init__(self, items: Any, before: Callable[[int], None] = lambda number: None):
        self.items, self.before, self.wait_s, self.count = items, before, 0.0, 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator:
        start = time.perf_counter()
        for item in self.items:
            self.wait_s += time.perf_counter() - start
            self.before(self.count)
            self.count += 1
            yield item
            start = time.perf_counter()


class EpochPace:
    """Tells after 1, 2, 4, 8 ... minutes of an epoch how far it has come.

    Args:
        title: Of the epoch.
        batches: Of the epoch.
    """

    def __init__(self, title: str, batches: int):
        self._title, self._batches = title, batches
        self._start, self._next_s = time.monotonic(), FIRST_S

    def __call__(self, done: int) -> None:
        """Be told how many batches are done."""
        if not done or (spent_s := time.monotonic() - self._start) < self._next_s:
            return
        while self._next_s <= spent_s:
            self._next_s *= 2
        left = duration(spent_s / done * max(0, self._batches - done))
        how_far = f"{done:,} of {self._batches:,} batches, {left} left of it"
        progress_log.info(f"{self._title}: {how_far}")


def time_left(spent_s: float, work: Sequence[int], first: int, done: int) -> float:
    """Return the seconds that training still takes.

    Args:
        spent_s: Since this process began.
        work: Of each epoch, for example batches: epochs can differ in length.
        first: Epoch with which this process began, from 1.
        done: Last finished epoch.
    """
    return spent_s / max(sum(work[first - 1 : done]), 1) * sum(work[done:])
