# SPDX-License-Identifier: Apache-2.0
"""Baselines against forgetting, at work in the SLU step: what the loss gets besides L_slu.

``ewc``     holds the encoder's parameters near those that the phase starts from; how strongly each
            one was measured on the specialisation loss, utterance by utterance, before the first
            update (``ewc.safetensors`` in the phase's folder, found there again after a kill). F is
            divided by its mean, so that the weight does not depend on the scale of L_samu.
``distil``  keeps utterance embeddings near those that the model the phase starts from gives; hidden
            states where it has no pooling head.

Both must begin with the specialised model: after ``init``, before a resumed state is loaded.
A model here is anything with ``encode``, ``embed`` and the parameters of
:mod:`espnet_ext.dual_task.groups`.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from espnet_ext.dual_task.distil_loss import embedding_distil_loss, frame_distil_loss
from espnet_ext.dual_task.ewc import Anchor, Fisher
from espnet_ext.dual_task.groups import parameter_groups
from espnet_ext.dual_task.samu_loss import samu_loss
from espnet_ext.errors import DataError, UsageError

FILE = "ewc.safetensors"
UNUSED = ("slu", "phone_head")  # parts of a model that its vectors do not need
Batch = tuple[list[str], Mapping[str, Tensor]]


class Ewc:
    """Adds ``weight / 2 * sum F (theta - theta*)^2``.

    Args:
        anchor: theta* and F, by the model's parameter names.
        weight: Above 0.
    """

    def __init__(self, anchor: Anchor, weight: float):
        self.anchor, self.weight = anchor, weight

    def __call__(self, model: nn.Module, encoded: Tensor, lengths: Tensor, speech: Tensor,
                 speech_lengths: Tensor, stats: dict[str, Any]) -> Tensor:  # fmt: skip
        """Return the penalty; the arguments are those of :class:`Distil`."""
        named = dict(model.named_parameters())
        if odd := sorted(self.anchor.values.keys() - named.keys()):
            raise DataError(f"the model has no parameter {odd[0]}", "anchor and model")
        penalty = self.anchor.penalty({n: named[n] for n in self.anchor.values}, self.weight)
        stats["retain"] = penalty.detach()
        return penalty


class Distil:
    """Adds ``weight`` times the mean cosine distance to a frozen model.

    Args:
        model: The specialised one; a copy of it, outside the trained model's state, is kept.
        weight: Above 0.
    """

    def __init__(self, model: nn.Module, weight: float):
        self.weight = weight
        self.teacher = copy.deepcopy(model).eval().requires_grad_(False)
        for name in UNUSED:
            if hasattr(self.teacher, name):
                setattr(self.teacher, name, None)

    def __call__(self, model: nn.Module, encoded: Tensor, lengths: Tensor, speech: Tensor,
                 speech_lengths: Tensor, stats: dict[str, Any]) -> Tensor:  # fmt: skip
        """Return the penalty.

        Args:
            model: That is trained.
            encoded: ``(B, T, D)`` its hidden states.
            lengths: ``(B,)`` their valid frames.
            speech: ``(B, samples)``, as both models hear it.
            speech_lengths: ``(B,)``.
            stats: Gets ``retain``, the distance without the weight (here), as the trainer shows it.
        """
        with torch.no_grad():
            target, target_lengths = self.teacher.encode(speech, speech_lengths)
            target = target[0] if isinstance(target, tuple) else target
        if model.pooling is None:
            loss, _ = frame_distil_loss(encoded, target, lengths)
        else:
            with torch.no_grad():
                wanted = self.teacher.embed(target, target_lengths)
            loss, _ = embedding_distil_loss(model.embed(encoded, lengths), wanted)
        stats["retain"] = loss.detach()
        return self.weight * loss


def make(kind: str, weight: float, model: nn.Module, folder: Path | str,
         batches: Callable[[], Iterable[Batch]]) -> Ewc | Distil | None:  # fmt: skip
    """Return what a model's loss needs, None for ``none``.

    Args:
        kind: ``none``, ``ewc`` or ``distil``.
        weight: Above 0.
        model: The specialised one.
        folder: Of the phase.
        batches: Gives training data as ESPnet's loader does; called for ``ewc`` only.

    Raises:
        UsageError: The model has no pooling head, or the data no sentence vectors, for ``ewc``.
        DataError: The loss has no gradient, or one that is not finite.
    """
    if kind == "none":
        return None
    if kind == "distil":
        return Distil(model, weight)
    return Ewc(anchor_of(model, Path(folder) / FILE, batches), weight)


def anchor_of(model: nn.Module, path: Path, batches: Callable[[], Iterable[Batch]]) -> Anchor:
    """Return the anchor of the model as it is now, from ``path`` if it was measured already.

    An anchor of another model is measured again. Several processes share the work.
    """
    parameters = parameter_groups(model)["encoder"]
    device = next(model.parameters()).device
    if path.exists():
        found = Anchor.load(path).to(device)
        if _is_of(found, parameters):
            return found
    fisher = Fisher(parameters)
    was_training = model.training
    model.eval()  # no dropout, no masks, batch normalisation as it is
    try:
        for utt, loss in specialisation_losses(model, batches()):
            fisher.add(loss, utt)
    finally:
        model.train(was_training)
    _add_up(fisher, device)
    anchor = fisher.finish(normalise=True)
    if not dist.is_initialized() or dist.get_rank() == 0:
        anchor.save(path)
    return anchor


def specialisation_losses(
    model: nn.Module, batches: Iterable[Batch]
) -> Iterator[tuple[str, Tensor]]:
    """Yield id and L_samu (scale 1) of each utterance, computed alone.

    Args:
        model: With a pooling head.
        batches: ESPnet's: ids, and ``speech``, ``speech_lengths``, ``sentence`` ``(B, E)``.

    Raises:
        UsageError: There is no pooling head or no sentence vector.
    """
    if getattr(model, "pooling", None) is None:
        how = "start from a specialised model (schedule: sequential)"
        raise UsageError("elastic weight consolidation needs a pooling head", "retain: ewc", how)
    device = next(model.parameters()).device
    for utts, batch in batches:
        if "sentence" not in batch:
            how = "streams: {name: sentence, file: plain, type: text, batch: false}"
            raise UsageError("elastic weight consolidation needs sentence vectors", "streams", how)
        for i, (utt, n) in enumerate(zip(utts, batch["speech_lengths"].tolist(), strict=True)):
            speech = batch["speech"][i : i + 1, :n].to(device)
            hidden, lengths = model.encode(speech, torch.tensor([n], device=device))
            hidden = hidden[0] if isinstance(hidden, tuple) else hidden
            y = batch["sentence"][i : i + 1].to(device)
            yield utt, samu_loss(model.embed(hidden, lengths), y, 1, "sum")[0]


def _is_of(anchor: Anchor, parameters: Mapping[str, Tensor]) -> bool:
    """Whether an anchor was made of these parameters and values."""
    if anchor.values.keys() != parameters.keys():
        return False
    return all(torch.equal(x, parameters[name].detach()) for name, x in anchor.values.items())


def _add_up(fisher: Fisher, device: torch.device) -> None:
    """Add what the processes of a distributed training have measured."""
    if not dist.is_initialized():
        return
    count = torch.tensor(float(fisher.utterances), device=device)
    for tensor in (count, *fisher.sums.values()):
        dist.all_reduce(tensor)
    fisher.utterances = int(count)
