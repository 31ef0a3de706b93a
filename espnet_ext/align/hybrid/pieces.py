# SPDX-License-Identifier: Apache-2.0
"""What a network is trained on: pieces of utterances, in batches that are read ahead of the steps.

Pieces lie in the order of the files. An epoch goes through them in chunks that are read from one
end to the other: chunks in random order, and those of a block mixed. So no frame is read twice in
an epoch, files are read in long stretches, and memory does not grow with the corpus, apart from
16 bytes for each piece.
"""

import math
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from espnet_ext.align.features.store import FeatureStore
from espnet_ext.align.options import Hybrid

CHUNK_FRAMES = 100_000  # 16 MB of 40 filters
BLOCK_FRAMES = 2_000_000
HELD_OUT_FRAMES = 360_000  # an hour tells an accuracy to 0.1 %
MIN_BATCHES = 12  # of an epoch: smaller sets have smaller batches, or nothing would be learnt
AHEAD = 3  # batches read before they are needed

Read = Callable[[str, int, int], np.ndarray]


@dataclass(frozen=True)
class Frames:
    """Labelled frames of utterances, in the order of the files; T frames, D filters, K states.

    Args:
        lengths: T of each utterance.
        read: ``read(utt, start, end)`` -> ``(end - start, D)``, see :func:`read_frames`.
        label: ``label(utt, start, end)`` -> ``(end - start,)`` tied states.
        counts: ``(K,)`` frames of each state.
    """

    lengths: dict[str, int]
    read: Read
    label: Read
    counts: np.ndarray


@dataclass(frozen=True)
class Pieces:
    """Frames ``[start, end)`` of utterances; ``utt`` indexes ``utts``. ``(P,)`` each."""

    utts: list[str]
    utt: np.ndarray
    start: np.ndarray
    end: np.ndarray

    @property
    def frames(self) -> np.ndarray:
        """``(P,)`` frames of each."""
        return self.end - self.start

    def of(self, rows: np.ndarray) -> Iterator[tuple[str, int, int]]:
        """Yield utterance, start and end of some."""
        for row in rows:
            yield self.utts[self.utt[row]], int(self.start[row]), int(self.end[row])


def read_frames(store: FeatureStore, utt: str, start: int, end: int) -> np.ndarray:
    """Return frames ``[start, end)``; those beyond the ends are the first and last one repeated."""
    frames = store.frames(utt)
    x = store.read(utt, start=max(0, start), end=min(frames, end))
    beyond = (max(0, -start), max(0, end - frames))
    return np.pad(x, (beyond, (0, 0)), mode="edge") if any(beyond) else x


def held_out(lengths: dict[str, int], share: float) -> set[str]:
    """Choose held-out utterances by their ids, the same in every round; none of a single one."""
    by_hash = sorted((zlib.crc32(utt.encode()), utt) for utt in lengths)
    wanted = sum(number < share * 2**32 for number, _ in by_hash)
    chosen: set[str] = set()
    frames = 0
    for _, utt in by_hash[: min(max(1, wanted), len(by_hash) - 1)]:
        if frames >= HELD_OUT_FRAMES:
            break
        chosen.add(utt)
        frames += lengths[utt]
    return chosen


def split(lengths: dict[str, int], o: Hybrid) -> tuple[Pieces, Pieces]:
    """Cut utterances into pieces; return those to train on and the held-out ones."""
    held, utts = held_out(lengths, o.held_out), list(lengths)
    parts: tuple[list, list] = ([], [])
    for i, utt in enumerate(utts):
        count = max(1, math.ceil(lengths[utt] / o.max_frames))
        cuts = [lengths[utt] * c // count for c in range(count + 1)]
        parts[utt in held].extend((i, a, b) for a, b in pairwise(cuts))
    train, valid = (np.array(p, np.int32).reshape(-1, 3).T for p in parts)
    return Pieces(utts, *train), Pieces(utts, *(valid if valid.size else train))


def batches(
    pieces: Pieces,
    rows: np.ndarray,
    limit: int,
    rng: np.random.Generator | None = None,
    padded: bool = False,
) -> Iterator[np.ndarray]:
    """Cut rows of pieces into batches of up to ``limit`` frames, or one piece.

    Args:
        pieces: All pieces.
        rows: Those wanted.
        limit: Frames.
        rng: Mixes them; None: in their order.
        padded: Pieces of a batch are of similar length, and padding counts as frames.
    """
    if padded:
        order = np.lexsort((pieces.start[rows], pieces.utt[rows], -pieces.frames[rows]))
    else:
        order = np.arange(len(rows)) if rng is None else rng.permutation(len(rows))
    rows, found = rows[order], []
    first = size = 0
    for i, frames in enumerate(pieces.frames[rows].tolist()):
        # The longest piece of a padded batch is its first.
        more = int(pieces.frames[rows[first]]) if padded and i > first else frames
        if i > first and size + more > limit:
            found.append(rows[first:i])
            first, size, more = i, 0, frames
        size += more
    found.append(rows[first:])
    if padded and rng is not None:
        rng.shuffle(found)
    yield from found


class Epochs:
    """The order of training: each call of :meth:`next` goes through the pieces once, or through
    the next ``epoch_frames`` of them.
    """

    def __init__(self, pieces: Pieces, o: Hybrid, rng: np.random.Generator, padded: bool):
        self.pieces, self.rng, self.padded = pieces, rng, padded
        ends = np.cumsum(pieces.frames, dtype=np.int64)
        self.frames = min(int(ends[-1]), o.epoch_frames or int(ends[-1]))
        self.limit = min(o.batch_frames, self.frames // MIN_BATCHES)
        cuts = np.flatnonzero(np.diff(ends // CHUNK_FRAMES)) + 1
        self.chunks = np.split(np.arange(len(ends)), cuts)
        self.left: list[int] = []

    def next(self) -> Iterator[np.ndarray]:
        """Yield the rows of each batch of an epoch."""
        block: list[np.ndarray] = []
        taken = held = 0
        while taken < self.frames:
            self.left = self.left or self.rng.permutation(len(self.chunks)).tolist()
            block.append(self.chunks[self.left.pop()])
            frames = int(self.pieces.frames[block[-1]].sum())
            taken, held = taken + frames, held + frames
            if held >= BLOCK_FRAMES or taken >= self.frames:
                rows = np.concatenate(block)
                yield from batches(self.pieces, rows, self.limit, self.rng, self.padded)
                block, held = [], 0


Batch = tuple[np.ndarray, list[int], np.ndarray]
"""Frames of all pieces with their context, their numbers in each piece, labels without context."""


def read_batches(
    data: Frames, pieces: Pieces, rows: Iterable[np.ndarray], context: int
) -> Iterator[Batch]:
    """Read batches, by a thread that is a few of them ahead."""

    def read(own: np.ndarray) -> Batch:
        xs = [data.read(u, a - context, b + context) for u, a, b in pieces.of(own)]
        ys = [data.label(u, a, b) for u, a, b in pieces.of(own)]
        return np.concatenate(xs), [len(x) for x in xs], np.concatenate(ys)

    waiting: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for own in rows:
            waiting.append(thread.submit(read, own))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
