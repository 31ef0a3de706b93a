# SPDX-License-Identifier: Apache-2.0
"""Training batches: by ascending duration without shuffling (the paper), at random, or drawn so
that small languages are heard more often.

With p_l the share of language l among the utterances, an utterance of language l is drawn with a
probability proportional to p_l^(alpha - 1), so a language with p_l^alpha: alpha 1 leaves the shares
as they are, 0 makes all languages equal. Source: SAMU-XLSR (arXiv 2205.08180), alpha 0.05.
"""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_ext.data.tables import read_table
from espnet_ext.dual_task.options import SECTION, DualTaskConf
from espnet_ext.errors import DataError, UsageError

LANGUAGES = "utt2lang"
BY_NUMBER = ("sorted", "unsorted")  # types of ESPnet's batches of a number of utterances


def check(args: argparse.Namespace, conf: DualTaskConf) -> None:
    """Refuse batches that an order cannot be made of, and set ESPnet's options for the others.

    Raises:
        UsageError: The type of batches does not fit.
    """
    if conf.sort == "ascending":
        if args.batch_type == "unsorted":
            how = "batch_type: sorted, or dual_task.sort: random"
            raise UsageError("unsorted batches have no ascending order", "batch_type", how)
        args.sort_batch = args.sort_in_batch = "ascending"
    if conf.rebalance_alpha is not None and args.batch_type not in BY_NUMBER:
        how = "batch_type: sorted and a batch_size"
        raise UsageError("languages are re-balanced by utterance", "batch_type", how)


def arrange(stock: Any, conf: DualTaskConf, args: argparse.Namespace, iter_options: Any) -> None:
    """Put the order of the options into ESPnet's factory of training batches."""
    if conf.sort == "ascending":
        stock.shuffle = False
    if conf.rebalance_alpha is None:
        return
    import torch

    rank, world_size = 0, 1
    if iter_options.distributed:
        rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    lengths = {u: int(n.split(",")[0]) for u, n in read_table(iter_options.shape_files[0]).items()}
    languages = read_languages(Path(iter_options.data_path_and_name_and_type[0][0]).parent, lengths)
    stock.sampler = LanguageSampler(
        lengths, languages, conf.rebalance_alpha, args.batch_size, conf.sort == "ascending",
        rank, world_size,
    )  # fmt: skip


def read_languages(folder: Path, utts: Mapping[str, Any]) -> dict[str, str]:
    """Return the language of each utterance, from the set's folder in ``dump/`` or ``data/``.

    Raises:
        DataError: There is no table, or an utterance is not in it.
    """
    places = [folder / LANGUAGES, Path("data") / folder.name / LANGUAGES]
    path = next((p for p in places if p.is_file()), None)
    how = f"write {places[1]}, or leave {SECTION}.rebalance_alpha out"
    if path is None:
        raise DataError("the languages of the utterances are not known", places[1], how)
    table = read_table(path)
    # A speed copy has its utterance's language: sp0.9-<utterance>.
    found = {u: table.get(u) or table.get(u.partition("-")[2]) for u in utts}
    if lost := next((u for u, language in found.items() if not language), None):
        raise DataError(f"the language of {lost} is not known", path, how)
    return found


def probabilities(languages: Sequence[str], alpha: float) -> np.ndarray:
    """Return the probability ``(N,)`` float64 of each utterance to be drawn."""
    counts = Counter(languages)
    share = {k: n / len(languages) for k, n in counts.items()}
    rates = np.array([share[k] ** (alpha - 1) for k in languages])
    return rates / rates.sum()


class LanguageSampler:
    """Batches of as many utterances as there are, drawn with replacement for each epoch.

    Args:
        lengths: Of each utterance, by id.
        languages: Likewise.
        alpha: See the module's text.
        batch_size: Utterances of a batch, over all processes.
        ascending: Batches by ascending length; else in random order.
        rank, world_size: Part of each batch that this process gets.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        languages: Mapping[str, str],
        alpha: float,
        batch_size: int,
        ascending: bool,
        rank: int = 0,
        world_size: int = 1,
    ):
        self.keys = np.array(list(lengths))
        self.lengths = np.array([lengths[u] for u in lengths])
        self.p = probabilities([languages[u] for u in lengths], alpha)
        self.batch_size, self.ascending = max(batch_size, world_size), ascending
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return max(1, len(self.keys) // self.batch_size)

    def __iter__(self) -> Any:
        return iter(self.generate(0))

    def generate(self, seed: int) -> list[tuple[str, ...]]:
        """Return this process's part of every batch; the same for the same seed."""
        rng = np.random.RandomState(seed)
        drawn = rng.choice(len(self.keys), size=len(self.keys), p=self.p)
        drawn = drawn[np.argsort(self.lengths[drawn], kind="stable")]
        parts = np.array_split(drawn, len(self))
        order = range(len(parts)) if self.ascending else rng.permutation(len(parts))
        return [tuple(self.keys[parts[i][self.rank :: self.world_size]].tolist()) for i in order]
