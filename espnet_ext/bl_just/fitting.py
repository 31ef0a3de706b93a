# SPDX-License-Identifier: Apache-2.0
"""What an unsupervised loss learns of the unlabelled speech before the first update."""

import numpy as np
import torch
from torch import nn

from espnet_ext.espnet.iterators import PersistentIterFactory
from espnet_ext.espnet.random_state import unchanged_random_state
from espnet_ext.progress import progress_log

BATCH = 16  # utterances


def fit_unsup(model: nn.Module, stream: PersistentIterFactory | None) -> None:
    """Fit the loss g of a model if it asks for that; all processes end with the same state.

    Random numbers go on as they were, so a training that is taken up again, where nothing is
    fitted, draws the same.

    Args:
        model: :class:`~espnet_ext.bl_just.model.BLJustModel`, or its wrapper of several processes.
        stream: Unlabelled utterances; None if the schedule reads none.
    """
    inner = getattr(model, "module", model)
    unsup = getattr(inner, "unsup", None)
    if stream is None or unsup is None or not (wanted := unsup.utterances_to_fit):
        return
    several = torch.distributed.is_initialized()
    if not several or torch.distributed.get_rank() == 0:
        keys = _choose(stream, wanted, unsup.conf.seed)
        with unchanged_random_state():
            read = (batch for _, batch in stream.read(keys))
            line = unsup.fit(inner.features_for_fit(read))
        progress_log.info(f"{line} of {sum(map(len, keys)):,} unlabelled utterances")
    if several:
        for buffer in unsup.buffers():
            torch.distributed.broadcast(buffer, 0)


def _choose(stream: PersistentIterFactory, wanted: int, seed: int) -> list[list[str]]:
    """Return batches of ids, the same whatever the order of the first epoch is."""
    utts = sorted(utt for batch in stream.epoch_keys(1) for utt in batch)
    chosen = np.random.default_rng(seed).permutation(len(utts))[:wanted]
    ids = [utts[i] for i in sorted(chosen)]
    return [ids[i : i + BATCH] for i in range(0, len(ids), BATCH)]
