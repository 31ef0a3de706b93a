# SPDX-License-Identifier: Apache-2.0
"""Batches that are drawn again each epoch, random or of texts of similar length.

ESPnet makes its batches once and changes their order only. Losses that compare the utterances of a
batch need other companions each epoch, and each label in the share that it has of the corpus: where
length tells of the label, batches of similar length are no fair sample.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from espnet2.samplers.abs_sampler import AbsSampler

POOL = 20  # batches that are sorted by length together


class BucketSampler(AbsSampler):
    """Random batches: a pool of utterances is drawn, sorted by length and cut.

    Args:
        lengths: Of each utterance, by id.
        batch_size: Largest batch, over all processes.
        rank, world_size: Part of each batch that this process gets.
        sorted_by_length: False cuts the random order itself.
    """

    def __init__(
        self,
        lengths: dict[str, int],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
        sorted_by_length: bool = True,
    ):
        if len(lengths) < world_size:
            raise ValueError(f"{len(lengths)} utterances for {world_size} processes")
        self.keys = np.array(list(lengths))
        self.lengths = np.array(list(lengths.values()))
        self.rank, self.world_size = rank, world_size
        self.sorted_by_length = sorted_by_length
        # Batches of almost equal size: a tiny last one would have nothing to compare.
        count = -(-len(self.keys) // batch_size)
        self.count = max(1, min(count, len(self.keys) // world_size))

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[str, ...]]:
        return iter(self.generate(0))

    def generate(self, seed: int) -> list[tuple[str, ...]]:
        """Return this process's part of every batch; the same for the same seed."""
        rng = np.random.RandomState(seed)
        order = rng.permutation(len(self.keys))
        # Cut first, so that pools hold whole batches.
        sizes = [len(part) for part in np.array_split(order, self.count)]
        batches: list[Sequence[int]] = []
        start = 0
        for first in range(0, self.count, POOL):
            chosen = sizes[first : first + POOL]
            pool = order[start : start + sum(chosen)]
            start += sum(chosen)
            if self.sorted_by_length:
                pool = pool[np.argsort(self.lengths[pool], kind="stable")]
            batches += np.split(pool, np.cumsum(chosen)[:-1])
        shuffled = (batches[i] for i in rng.permutation(self.count))
        return [tuple(self.keys[b[self.rank :: self.world_size]].tolist()) for b in shuffled]
