# SPDX-License-Identifier: Apache-2.0
"""What a task of SUPERB is: targets out of a data folder, a head, a loss, a score."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError


class ProbeTask(ABC):
    """A task.

    Attributes:
        metric: Title of its score.
        higher_is_better: Whether a high score is good.
        balanced: Training draws each class equally often.
        frame_s: Seconds between frames of the features; set before targets are made.
    """

    metric = ""
    higher_is_better = True
    balanced = False
    frame_s = 0.04

    @abstractmethod
    def fit(self, labels: Mapping[str, Any], where: Path) -> None:
        """Learn the classes from the labels of the training set."""

    @abstractmethod
    def targets(self, labels: Mapping[str, Any], frames: Mapping[str, int], where: Path) -> dict:
        """Return ``{utterance: target}``; ``frames`` are those of its features.

        Raises:
            DataError: A label that the training set does not have.
        """

    @abstractmethod
    def head(self, size: int, width: int) -> nn.Module:
        """Make the head on features of width ``size``."""

    @abstractmethod
    def loss(self, out: Any, lengths: torch.Tensor, targets: list[Any]) -> torch.Tensor:
        """Return the loss of a batch; ``lengths (B,)`` in frames."""

    @abstractmethod
    def predict(self, out: Any, lengths: torch.Tensor) -> list[Any]:
        """Return a prediction for each utterance of a batch."""

    @abstractmethod
    def texts(
        self, predictions: Sequence[Any], targets: Sequence[Any], report: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Return what scoring reads, by file name: a line for each utterance of the test set.

        Args:
            predictions, targets: Of the test set.
            report: What :meth:`report` has returned for it.
        """

    @abstractmethod
    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
        """Return the score in percent."""

    def labels(self, folder: Path) -> dict[str, Any]:
        """Read the labels of a data folder, by default its ``text``.

        Raises:
            DataError: ``text`` is missing, or an utterance has no label.
        """
        table = read_table(folder / "text")
        for utt, value in table.items():
            if not value:
                how = "prepare the data again"
                raise DataError(f"'{utt}' has no label", folder / "text", how)
        return table

    def piece(self, target: Any, first: int, last: int) -> Any:
        """Return the target of frames ``[first, last)``."""
        return target

    def report(self, dev: tuple[list, list], test: tuple[list, list]) -> dict[str, Any]:
        """Return the score of the test set, and what else is to be reported.

        Args:
            dev, test: Predictions and targets.
        """
        return {"score": self.score(*test)}


def number(label: str, classes: Mapping[str, int], utt: str, where: Path) -> int:
    """Return the class of a label.

    Raises:
        DataError: The training set does not have it.
    """
    if label not in classes:
        what = f"'{label}' of '{utt}' is not a label of the training set"
        raise DataError(what, where / "text", "prepare train, dev and test together")
    return classes[label]


def numbered(labels: Sequence[str]) -> dict[str, int]:
    """Number labels by their first occurrence."""
    return {label: i for i, label in enumerate(dict.fromkeys(labels))}
