# SPDX-License-Identifier: Apache-2.0
"""Keyword spotting and intent classification: one label, or several that must all be right."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from espnet_ext.errors import DataError
from espnet_ext.multistage.superb.heads import UtteranceHead
from espnet_ext.multistage.superb.task_base import ProbeTask, number, numbered

SEPARATOR = "|"  # between the slots of an intent in `text`: action | object | location


class Slots(ProbeTask):
    """Classification into slots; an utterance counts as correct only if all slots are right."""

    metric = "accuracy"
    slots = 1

    def split(self, label: str, utt: str, where: Path) -> list[str]:
        """Return the labels of the slots.

        Raises:
            DataError: Their number is another one.
        """
        parts = [p.strip() for p in label.split(SEPARATOR)] if self.slots > 1 else [label]
        if len(parts) != self.slots or not all(parts):
            what = f"the label of '{utt}' is not {self.slots} parts with '{SEPARATOR}' in between"
            raise DataError(what, where / "text", "as in: activate | lights | kitchen")
        return parts

    def fit(self, labels: Mapping[str, Any], where: Path) -> None:
        """Number the labels of each slot by their first occurrence in the training set."""
        rows = [self.split(x, utt, where) for utt, x in labels.items()]
        self.classes = [numbered(column) for column in zip(*rows, strict=True)]
        for slot, classes in enumerate(self.classes):
            if len(classes) < 2 and self.slots == 1:
                what = f"slot {slot + 1} has the label '{next(iter(classes))}' only"
                raise DataError(what, where / "text", "give at least two classes")

    def targets(self, labels: Mapping[str, Any], frames: Mapping[str, int], where: Path) -> dict:
        """Return ``{utterance: class of each slot}``."""
        return {
            utt: tuple(
                number(part, classes, utt, where)
                for part, classes in zip(self.split(x, utt, where), self.classes, strict=True)
            )
            for utt, x in labels.items()
        }

    def head(self, size: int, width: int) -> UtteranceHead:
        """Make the head: one projection, a classifier for each slot."""
        return UtteranceHead(size, [len(c) for c in self.classes], width)

    def loss(self, out: Any, lengths: torch.Tensor, targets: list[Any]) -> torch.Tensor:
        """Return the sum of the slots' cross-entropies."""
        wanted = torch.tensor(targets, device=lengths.device)  # (B, slots)
        return sum(functional.cross_entropy(x, wanted[:, i]) for i, x in enumerate(out))

    def predict(self, out: Any, lengths: torch.Tensor) -> list[Any]:
        """Return the best class of each slot."""
        return list(zip(*(x.argmax(1).tolist() for x in out), strict=True))

    def texts(
        self, predictions: Sequence[Any], targets: Sequence[Any], report: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Return ``prediction``: the labels."""
        names = [list(classes) for classes in self.classes]
        rows = [
            f" {SEPARATOR} ".join(slot[i] for slot, i in zip(names, found, strict=True))
            for found in predictions
        ]
        return {"prediction": rows}

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
        """Return the percentage of utterances with every slot right."""
        right = sum(tuple(p) == tuple(t) for p, t in zip(predictions, targets, strict=True))
        return 100 * right / max(len(targets), 1)

    def report(self, dev: tuple[list, list], test: tuple[list, list]) -> dict[str, Any]:
        """Add what always giving the most frequent labels would score."""
        frequent = max(dev[1], key=dev[1].count)
        always = self.score([frequent] * len(test[1]), test[1])
        return {"score": self.score(*test), "most_frequent_label": always}


class Keywords(Slots):
    """Keyword spotting (KS); training draws each class equally often."""

    balanced = True


class Intents(Slots):
    """Intent classification (IC): action, object, location."""

    slots = 3
