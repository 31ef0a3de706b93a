# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is in a recipe's folder.

Stages 1 to 4 make what all experiments of the folder read: one run at a time is in them, and one
of them runs only while nobody trains on what it would change. From stage 5 on a run writes what is
of its experiment, ``exp/NAME`` and the record, so experiments of other names run at the same time;
the page that all have in common has a lock of its own.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from espnet_ext.recipe import lock

FOLDER = Path(".stages/lock")
EXPERIMENTS = Path(".stages/experiments")  # a lock file each


class Turn:
    """A run's two locks: that of the folder, for its shared stages, and that of its experiment.

    Args:
        name: Of the experiment.
        say: Is told of killed runs, and of waiting.
        wait: Wait for other runs instead of raising.

    Raises:
        SetupError: Another run is in the shared stages, or has the same name.
    """

    def __init__(self, name: str, say: Callable[[str], None], wait: bool = False):
        self._own, self._where = EXPERIMENTS / f"{name}.lock", f"on experiment '{name}'"
        self._say, self._wait, self._told = say, wait, set[str]()
        self._folder, self._all = ExitStack(), ExitStack()
        self._taken = False
        self.killed = False  # whether the run before was

    def __enter__(self) -> "Turn":
        with ExitStack() as entered:
            entered.push(self._all)
            self._all.push(self._folder)
            if known := self._own.exists():
                # The folder's lock comes first: who waits for it is not taken for one who reads.
                # But while it is held nobody else can begin: it is not held through a training.
                lock.until_free(self._own, self._tell, self._where, self._wait)
            folder = lock.hold(FOLDER, self._tell, wait=self._wait)
            self.killed = self._folder.enter_context(folder)
            if known:
                self._take()
            entered.pop_all()
        return self

    def begin(self) -> None:
        """Take the lock of the experiment; a run that was wrongly called leaves no file."""
        if not self._taken:
            self._take()

    def _take(self) -> None:
        own = lock.hold(self._own, self._tell, self._where, self._wait)
        self.killed = self._all.enter_context(own) or self.killed
        self._taken = True

    def __exit__(self, *error: object) -> bool | None:
        return self._all.__exit__(*error)

    def _tell(self, line: str) -> None:
        if line not in self._told:  # one who was killed in a shared stage held both
            self._told.add(line)
            self._say(line)

    def others(self) -> list[Path]:
        """Return the lock files of other experiments that run at the moment."""
        files = sorted(EXPERIMENTS.glob("*.lock"))
        return [path for path in files if path != self._own and not lock.is_free(path)]

    def alone(self, stage: str) -> None:
        """Make sure that nobody reads what a shared stage is about to change.

        Raises:
            SetupError: Another experiment runs.
        """
        for path in self.others():
            where = f"on experiment '{path.stem}', which reads what {stage} would change"
            lock.until_free(path, self._tell, where, self._wait)

    def share(self) -> None:
        """Leave the shared stages: other experiments may begin."""
        self._folder.close()
