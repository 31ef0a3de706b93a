# SPDX-License-Identifier: Apache-2.0
"""Batches in ESPnet's order, with workers that live through all epochs and seeded items.

ESPnet makes a new DataLoader an epoch; its workers start again each time, and what they draw at
random (speed, noise) depends on how many there are. Here each item is seeded by (seed, epoch,
utterance), so results do not depend on the number of workers, and a resumed run draws the same.
"""

import argparse
import hashlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.iterators.sequence_iter_factory import SequenceIterFactory
from espnet2.samplers.build_batch_sampler import build_batch_sampler
from torch.utils.data import DataLoader, Dataset

from espnet_ext.espnet.unreadable import (
    READ_ERRORS,
    NamingCollate,
    NamingLoader,
    Unreadable,
    find_unreadable,
    told_by_preprocessor,
)

__all__ = [
    "AbsIterFactory", "JointIterFactory", "PersistentIterFactory", "count_batches", "stretch",
]  # fmt: skip


class SeededDataset(Dataset):
    """Seed ``random`` and ``numpy.random`` before each item; keys are ``(seed, epoch, utt)``."""

    def __init__(self, dataset: Any):
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int, str]) -> tuple[str, dict] | Unreadable:
        digest = hashlib.blake2b("{}:{}:{}".format(*key).encode(), digest_size=4).digest()
        seed = int.from_bytes(digest)
        random.seed(seed)
        np.random.seed(seed)
        try:
            return self.dataset[key[2]]
        except READ_ERRORS as e:
            if lost := find_unreadable(self.dataset, key[2]) or told_by_preprocessor(e):
                return lost
            raise


class EpochBatches:
    """A batch sampler whose content is exchanged between epochs."""

    def __init__(self) -> None:
        self.items: list[list[tuple[int, int, str]]] = []

    def __iter__(self) -> Iterator:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class PersistentIterFactory(AbsIterFactory):
    """Wrap a stock factory: same batches in the same order.

    Args:
        stock: The factory that ESPnet built.
        prefetch: Batches that each worker keeps ready.
    """

    def __init__(self, stock: SequenceIterFactory, prefetch: int = 4):
        self.stock = stock
        self.batches = EpochBatches()
        workers = stock.num_workers
        self.loader = NamingLoader(
            SeededDataset(stock.dataset),
            batch_sampler=self.batches,
            num_workers=workers,
            pin_memory=stock.pin_memory,
            collate_fn=NamingCollate(stock.collate_fn),
            persistent_workers=workers > 0,
            prefetch_factor=prefetch if workers > 0 else None,
            generator=torch.Generator(),
        )

    def epoch_keys(self, epoch: int, shuffle: bool | None = None) -> list[list[str]]:
        """Return the utterance ids of the epoch's batches, as stock ESPnet would draw them."""
        return list(self.stock.build_iter(epoch, shuffle).batch_sampler)

    def load(self, epoch: int, keys: list[list[str]]) -> DataLoader:
        """Return the loader over the given batches."""
        # A loader draws a number when its workers start. Stock ESPnet's is new each epoch, this one
        # would draw in the first epoch of a process alone: other dropout after a resume.
        torch.empty((), dtype=torch.int64).random_()
        seed = self.stock.seed
        self.batches.items = [[(seed, epoch, utt) for utt in batch] for batch in keys]
        return self.loader

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> DataLoader:
        """Return the loader of an epoch (counted from 1)."""
        return self.load(epoch, self.epoch_keys(epoch, shuffle))

    def read(self, keys: list[list[str]]) -> DataLoader:
        """Return a loader of batches outside any epoch, in this process."""
        return NamingLoader(
            SeededDataset(self.stock.dataset),
            batch_sampler=[[(self.stock.seed, 0, utt) for utt in batch] for batch in keys],
            collate_fn=NamingCollate(self.stock.collate_fn),
            generator=torch.Generator(),
        )


class JointIterFactory(AbsIterFactory):
    """Several data streams side by side: one batch of each a step.

    The main stream sets the length of the epoch. Every other stream goes on where the epoch
    before left it and starts its next pass when it is through, so all of its data are used
    whatever the lengths. Where it stands is computed from the epoch, so resume needs no state.

    A step is ``(utt_ids, batch)`` with the main stream's keys as they are and the keys of stream
    ``u`` as ``u_<key>``, its utterance ids as ``u_utt_id``.
    """

    def __init__(self, main: PersistentIterFactory, others: dict[str, PersistentIterFactory]):
        self.main, self.others = main, others

    def build_iter(self, epoch: int, shuffle: bool | None = None) -> "JointLoader":
        """Return the joint loader of an epoch (counted from 1)."""
        loader = self.main.build_iter(epoch, shuffle)
        count = len(loader)
        before = (epoch - 1) * count
        return JointLoader(
            loader, {n: stretch(f, epoch, before, count) for n, f in self.others.items()}
        )


class JointLoader:
    """Iterator of :class:`JointIterFactory`, with a length as the trainer expects."""

    def __init__(self, main: DataLoader, others: dict[str, DataLoader]):
        self.main, self.others = main, others

    def __len__(self) -> int:
        return len(self.main)

    def __iter__(self) -> Iterator[tuple[list[str], dict]]:
        iterators = {name: iter(loader) for name, loader in self.others.items()}
        for utt_ids, batch in self.main:
            for name, iterator in iterators.items():
                ids, extra = next(iterator)
                batch.update({f"{name}_{key}": value for key, value in extra.items()})
                batch[f"{name}_utt_id"] = ids
            yield utt_ids, batch


def labelled_pass(factory: Any) -> int | None:
    """Return the batches of one pass over the main, labelled stream; None where it is not known."""
    main = getattr(factory, "labelled", getattr(factory, "main", factory))
    stock = getattr(main, "stock", None)
    return None if stock is None else len(stock.sampler)


def stretch(factory: PersistentIterFactory, epoch: int, start: int, count: int) -> DataLoader:
    """Return a loader of ``count`` batches of a stream that passes on and on.

    Args:
        factory: Of the stream.
        epoch: Seeds what is drawn at random in the items.
        start: Batches that have been read before.
        count: Batches to read; the data of a pass are all read before the next pass begins.
    """
    size = len(factory.epoch_keys(1))
    passes, offset = divmod(start, size)
    keys: list[list[str]] = []
    while len(keys) < count:
        passes += 1
        keys += factory.epoch_keys(passes)[offset:]
        offset = 0
    return factory.load(epoch, keys[:count])


def count_batches(args: argparse.Namespace, shape_files: list[str], processes: int = 1) -> int:
    """Return the number of batches that ESPnet makes of a training stream.

    Args:
        args: ESPnet's training options.
        shape_files: Lengths of the utterances.
        processes: Of a distributed training; each gets a part of every batch.
    """
    sampler = build_batch_sampler(
        type=args.batch_type,
        shape_files=shape_files,
        fold_lengths=args.fold_length,
        batch_size=args.batch_size,
        batch_bins=args.batch_bins,
        sort_in_batch=args.sort_in_batch,
        sort_batch=args.sort_batch,
        drop_last=args.drop_last_iter,
        min_batch_size=processes if processes > 1 else args.min_batch_size,
    )
    return len(list(sampler))
