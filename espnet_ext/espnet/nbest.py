# SPDX-License-Identifier: Apache-2.0
"""Averages of the best models when some of these are gone.

ESPnet deletes what is not among the best ``keep_nbest_models``. A training that goes on with a
larger number would average models that are no more; it averages those that are there instead.
"""

from pathlib import Path
from typing import Any

from espnet_ext.progress import progress_log


class Kept:
    """The epochs whose models are there.

    Args:
        output_dir: Folder of ``<n>epoch.pth``.
        asked: ``keep_nbest_models``; it is changed in place, as ESPnet's loop holds it.
        criteria: ``best_model_criterion``.
    """

    def __init__(self, output_dir: Path, asked: list[int], criteria: Any):
        self.output_dir, self.asked, self.criteria = output_dir, asked, criteria
        self.wanted = max(asked)
        self.reporter: Any = None

    def lacks(self, reporter: Any) -> bool:
        """Return whether one of the best epochs has no model."""
        return any(
            not self._is_there(epoch)
            for criterion in self.criteria
            if reporter.has(*criterion[:2])
            for epoch, _ in reporter.sort_epochs_and_values(*criterion)[: self.wanted]
        )

    def _is_there(self, epoch: int) -> bool:
        return (self.output_dir / f"{epoch}epoch.pth").exists()

    def watch(self, reporter: Any) -> None:
        """Let this reporter tell of epochs only that are there, and average no more than these.

        It tells all of other criteria than those that choose models: early stopping has its own.
        """
        all_of_them = reporter.sort_epochs_and_values
        choosing = {tuple(criterion) for criterion in self.criteria}

        def there(key: str, key2: str, mode: str) -> list[tuple[int, float]]:
            if (key, key2, mode) not in choosing:
                return all_of_them(key, key2, mode)
            return [pair for pair in all_of_them(key, key2, mode) if self._is_there(pair[0])]

        reporter.sort_epochs_and_values, self.reporter = there, reporter
        if (count := self.limit()) < self.wanted:
            progress_log.warning(
                f"keep_nbest_models: {count} models are there to be averaged, not {self.wanted}; "
                "the others were deleted when fewer were asked for"
            )

    def limit(self, coming: int = 0) -> int:
        """Bound the number of averaged models by those that are there; return the largest.

        Args:
            coming: Epochs that end now and whose models will be there.
        """
        counts = {
            min(self.wanted, coming + len(self.reporter.sort_epochs_and_values(*criterion)))
            for criterion in self.criteria
            if self.reporter.has(*criterion[:2])
        }
        self.asked[:] = sorted(counts or {self.wanted})
        return max(self.asked)
