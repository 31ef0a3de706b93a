# SPDX-License-Identifier: Apache-2.0
r"""NewBob: the learning rate falls after an epoch that was hardly better than the one before.

With the development loss v_k of epoch k::

    (v_{k-1} - v_k) / |v_{k-1}| < threshold    ->    rate *= factor

It compares with the previous epoch, not with the best one: after a bad epoch, one that is half as
bad again counts as progress. With patience P the rate falls at every (P + 1)th such epoch, whether
or not others lie between them. A loss that is no finite number counts as no progress, and is not
compared with. Encoder and the other parts have an optimiser, and so a NewBob, each.

Source: SpeechBrain's NewBobScheduler, whose behaviour this has; factors of arXiv 2406.12141's
related recipes: 0.9 for the encoder, 0.8 for the rest, threshold 0.0025, patience 0.
"""

import math
from typing import Any

from torch.optim import Optimizer

from espnet_ext.errors import UsageError


class NewBob:
    """Anneal all parameter groups of an optimiser.

    Args:
        optimizer: Its rates are changed.
        factor: Above 0 and at most 1.
        threshold: The smallest relative improvement that counts, 0.0025: a quarter of a per cent.
        patience: Epochs without progress to let pass each time.

    Raises:
        UsageError: A value is not possible.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 0.8,
        threshold: float = 0.0025,
        patience: int = 0,
    ):
        if not 0 < factor <= 1:
            raise UsageError(f"the factor of NewBob is {factor}", "factor", "above 0, at most 1")
        if not math.isfinite(threshold):
            raise UsageError(f"the threshold of NewBob is {threshold}", "threshold", "0.0025")
        if patience < 0 or int(patience) != patience:
            raise UsageError(f"the patience of NewBob is {patience}", "patience", "0, 1, 2, ...")
        self.optimizer, self.factor, self.threshold = optimizer, factor, threshold
        self.patience = int(patience)
        self.previous: float | None = None
        self.left = self.patience  # epochs without progress that may still pass

    def step(self, value: float, epoch: int | None = None) -> bool:
        """Tell the loss of an epoch, after it.

        Args:
            value: Development loss: the lower, the better.
            epoch: Not used; ESPnet and torch pass it.

        Returns:
            Whether the rates fell.
        """
        value = float(value)
        falls = not self._progress(value)
        if falls and self.left:
            self.left -= 1
            falls = False
        elif falls:
            self.left = self.patience
            for group in self.optimizer.param_groups:
                group["lr"] *= self.factor
        if math.isfinite(value):
            self.previous = value
        return falls

    def _progress(self, value: float) -> bool:
        """Whether an epoch was better than the one before; the first one is."""
        if self.previous is None:
            return True
        if not math.isfinite(value):
            return False
        gain = self.previous - value
        return (gain / abs(self.previous) if self.previous else 0.0) >= self.threshold

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed training needs; the rates are in the optimiser's own state."""
        return {"previous": self.previous, "left": self.left}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state_dict`; a smaller patience of this run holds at once."""
        self.previous, self.left = state["previous"], min(state["left"], self.patience)
