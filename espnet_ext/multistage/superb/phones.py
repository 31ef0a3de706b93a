# SPDX-License-Identifier: Apache-2.0
"""Phoneme recognition (PR): linear CTC on frames, phone error rate of the best path."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from rapidfuzz.distance import Levenshtein
from torch.nn import functional

from espnet_ext.multistage.superb.heads import FrameHead
from espnet_ext.multistage.superb.task_base import ProbeTask, number

BLANK = 0


class Phones(ProbeTask):
    """Phoneme recognition; ``text`` holds the phones of an utterance.

    Attributes:
        too_long: ``{folder: utterances}`` with more phones than frames: CTC has no path for them,
            their loss counts as 0 (``zero_infinity``), their errors count in full.
    """

    metric = "phone error rate"
    higher_is_better = False

    def __init__(self) -> None:
        self.classes: dict[str, int] = {}
        self.too_long: dict[str, int] = {}

    def fit(self, labels: Mapping[str, Any], where: Path) -> None:
        """Number the phones of the training set from 1; 0 is the blank."""
        phones = sorted({p for text in labels.values() for p in text.split()})
        self.classes = {p: i for i, p in enumerate(phones, BLANK + 1)}

    def targets(self, labels: Mapping[str, Any], frames: Mapping[str, int], where: Path) -> dict:
        """Return ``{utterance: classes of its phones}``."""
        made = {
            utt: [number(p, self.classes, utt, where) for p in text.split()]
            for utt, text in labels.items()
        }
        self.too_long[where.name] = sum(needed(x) > frames[utt] for utt, x in made.items())
        return made

    def head(self, size: int, width: int) -> FrameHead:
        """Make the head."""
        return FrameHead(size, len(self.classes) + 1, width)

    def loss(self, out: Any, lengths: torch.Tensor, targets: list[Any]) -> torch.Tensor:
        """Return the CTC loss, divided by the phones of an utterance, averaged."""
        flat = torch.tensor([p for x in targets for p in x], device=out.device)
        sizes = torch.tensor([len(x) for x in targets], device=out.device)
        logp = out.transpose(0, 1).log_softmax(2)  # (T, B, C)
        return functional.ctc_loss(logp, flat, lengths, sizes, BLANK, zero_infinity=True)

    def predict(self, out: Any, lengths: torch.Tensor) -> list[Any]:
        """Return the phones of the best path: repeats joined, blanks removed."""
        best = out.argmax(2).cpu()
        rows = [
            torch.unique_consecutive(x[:n]) for x, n in zip(best, lengths.tolist(), strict=True)
        ]
        return [row[row != BLANK].tolist() for row in rows]

    def texts(
        self, predictions: Sequence[Any], targets: Sequence[Any], report: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Return ``phones``: those that were recognised."""
        names = dict(zip(self.classes.values(), self.classes, strict=True))
        return {"phones": [" ".join(names[i] for i in found) for found in predictions]}

    def score(self, predictions: Sequence[Any], targets: Sequence[Any]) -> float:
        """Return insertions, deletions and substitutions in percent of the phones."""
        pairs = zip(targets, predictions, strict=True)
        errors = sum(Levenshtein.distance(ref, hyp) for ref, hyp in pairs)
        return 100 * errors / max(sum(map(len, targets)), 1)

    def report(self, dev: tuple[list, list], test: tuple[list, list]) -> dict[str, Any]:
        """Add the number of utterances for which CTC has no path."""
        return {"score": self.score(*test), "more_phones_than_frames": dict(self.too_long)}


def needed(phones: Sequence[int]) -> int:
    """Return the frames that CTC needs: one a phone, and a blank between equal neighbours."""
    return len(phones) + sum(a == b for a, b in pairwise(phones))
