# SPDX-License-Identifier: Apache-2.0
"""Which of several auxiliary losses an update gets (arXiv 2402.15594)."""

from dataclasses import dataclass

from espnet_ext.errors import UsageError

UNITS = ("update", "epoch")


@dataclass(frozen=True)
class Alternation:
    """One loss at a time: ``(n // period) mod count`` at the n-th unit, from 0.

    Args:
        period: Units that a loss stays.
        unit: ``update`` of the optimiser, or ``epoch``.
    """

    period: int = 1
    unit: str = "update"

    def active(self, progress: tuple[int, int] | None, count: int) -> int:
        """Return the number of the loss to compute.

        Args:
            progress: Epoch from 1 and update from 0, as the trainer counts them.
            count: Number of losses.

        Raises:
            UsageError: The trainer does not tell how far it is.
        """
        if progress is None:
            raise UsageError(
                "alternating losses need a trainer that counts updates", "aux.alternation",
                "train by 'python -m espnet_ext.espnet.train' or a recipe",
            )  # fmt: skip
        epoch, update = progress
        return (update if self.unit == "update" else epoch - 1) // self.period % count
