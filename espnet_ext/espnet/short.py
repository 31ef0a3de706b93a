# SPDX-License-Identifier: Apache-2.0
"""Audio that is too short for the encoder is left out of training and validation, by name.

ESPnet raises without the utterance's name if all of a batch is too short, and goes on with no
frame of it, or a negative number, if something else in the batch is longer.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch

from espnet_ext.errors import DataError, EspnetExtError
from espnet_ext.espnet.recognise import shortest_samples
from espnet_ext.frames import rate_hz
from espnet_ext.progress import progress_log

LENGTHS = "speech_lengths"
Batch = dict[str, Any]


def shortest_of(model: torch.nn.Module) -> int:
    """Return the fewest samples that a model's encoder takes; 0 for one that reads no audio."""
    frontend = getattr(model, "frontend", None)
    if frontend is None or not hasattr(model, "encode"):
        return 0
    training = model.training
    try:
        model.eval()
        return shortest_samples(model, int(rate_hz({"fs": getattr(frontend, "fs", 16000)})))
    except EspnetExtError as e:  # it needs more than audio
        logging.warning(f"the shortest audio of the model is not known: {e}")
        return 0
    finally:
        model.train(training)


class LongEnough:
    """Hand batches on without the utterances that are too short.

    Args:
        batches: Yields ``(utterance ids, batch)``; a further stream ``u`` has keys ``u_<key>``.
        shortest: Samples that an utterance must have.
        part: What the messages call the data.
        told: Utterances that were told of before; it is added to.
    """

    def __init__(self, batches: Any, shortest: int, part: str, told: set[str]):
        self.batches, self.shortest, self.part, self.told = batches, shortest, part, told

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[list[str], Batch]]:
        new: list[str] = []
        used = 0
        for utts, batch in self.batches:
            fine, batch, short = self._without_short(list(utts), batch)
            new += [utt for utt in short if utt not in self.told]
            self.told.update(short)
            if batch is not None:
                used += 1
                yield fine, batch
        if new:
            shown = ", ".join(new[:5]) + (", ..." if new[5:] else "")
            progress_log.warning(
                f"{len(new)} utterances of the {self.part} data are left out, too short for the "
                f"encoder: {shown}"
            )
        if new and not used:
            raise DataError(f"all {self.part} data are too short for the encoder", shown)

    def _without_short(
        self, utts: list[str], batch: Batch
    ) -> tuple[list[str], Batch | None, list[str]]:
        """Return ids, batch, and the ids left out; no batch if one of its streams is empty."""
        lost: list[str] = []
        for key in [k for k in batch if k.endswith(LENGTHS)]:
            keep = batch[key] >= self.shortest
            if keep.all():
                continue
            stream = key.removesuffix(LENGTHS)
            own = f"{stream}utt_id" if f"{stream}utt_id" in batch else None
            ids = batch[own] if own else utts
            rows = keep.nonzero().flatten().tolist()
            lost += [utt for i, utt in enumerate(ids) if i not in rows]
            if not rows:
                return utts, None, lost
            batch = {k: _rows(v, rows, len(ids)) if _is_of(k, stream, batch) else v
                     for k, v in batch.items()}  # fmt: skip
            if not own:
                utts = [utts[i] for i in rows]
        return utts, batch, lost


def _is_of(key: str, stream: str, batch: Batch) -> bool:
    """Whether a key is one of a stream's; the main one has those of no other."""
    if stream:
        return key.startswith(stream)
    others = [k.removesuffix(LENGTHS) for k in batch if k.endswith(LENGTHS) and k != LENGTHS]
    return not key.startswith(tuple(others))


def _rows(value: Any, rows: list[int], count: int) -> Any:
    """Return these rows of what has one for each utterance."""
    if isinstance(value, torch.Tensor) and value.shape[:1] == (count,):
        return value[rows]
    if isinstance(value, list) and len(value) == count:
        return [value[i] for i in rows]
    return value
