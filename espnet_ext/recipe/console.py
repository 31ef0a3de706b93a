# SPDX-License-Identifier: Apache-2.0
"""What the person at the terminal sees, and the log file of each stage."""

import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

from espnet_ext.progress import duration, progress_log


def say(text: str) -> None:
    """Print a line for the person, also when stdout is redirected to a log."""
    print(text, file=sys.__stdout__, flush=True)


class Progress:
    """Rate and time left of a loop: one line redrawn on a terminal, some lines elsewhere."""

    def __init__(self, what: str, unit: str = "utterances", every_s: float = 10.0):
        self.what, self.unit = what, unit
        self.tty = sys.__stdout__ is not None and sys.__stdout__.isatty()
        self.every_s = 0.2 if self.tty else every_s
        self.start = self.last = time.monotonic()
        self.shown = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        finished = done >= total
        if now - self.last < self.every_s and not (finished and self.shown):
            return
        self.last, self.shown = now, True
        rate = done / max(now - self.start, 1e-9)
        left = duration((total - done) / rate) if rate else "?"
        line = f"  {self.what}: {done}/{total} {self.unit}, {rate:.0f}/s, {left} left"
        if self.tty:
            print(f"\r{line:<78}", end="\n" if finished else "", file=sys.__stdout__, flush=True)
        else:
            say(line)


class _ToTerminal(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"  {record.getMessage()}")


@contextmanager
def stage_log(path: Path, header: list[str]) -> Iterator[TextIO]:
    """Send logging, stdout and stderr of a stage to ``path``; the last log stays as ``.old``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        os.replace(path, path.with_suffix(".old.log"))
    root, level = logging.getLogger(), logging.getLogger().level
    terminal = _ToTerminal()
    with open(path, "w", encoding="utf-8", buffering=1) as f:
        f.write("".join(f"# {line}\n" for line in header))
        handler = logging.StreamHandler(f)
        handler.setFormatter(
            logging.Formatter("%(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s")
        )
        root.addHandler(handler)
        root.setLevel(logging.INFO)
        progress_log.addHandler(terminal)
        try:
            with redirect_stdout(f), redirect_stderr(f):
                yield f
        finally:
            root.removeHandler(handler)
            root.setLevel(level)
            progress_log.removeHandler(terminal)
