# SPDX-License-Identifier: Apache-2.0
"""One run at a time in a recipe's folder."""

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from espnet_ext.errors import SetupError


@contextmanager
def hold(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file while the block runs.

    The kernel drops the lock when its process ends, however it ends; so a file that a killed
    run left behind is recognised by its being free.

    Raises:
        SetupError: Another run holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as f:
        f.seek(0)
        text = f.read()
        try:
            holder = json.loads(text) if text else {}
        except json.JSONDecodeError:
            holder = {}
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SetupError(
                f"another run is at work in this folder: process {holder.get('pid', '?')} on "
                f"{holder.get('host', '?')}, since {holder.get('since', '?')}",
                path,
                "wait for it, or stop it; for two runs at the same time copy the recipe's folder",
            ) from None
        if holder:
            say(f"taking over the lock of process {holder.get('pid')}, which no longer runs")
        # A data loading process, forked from a run that is killed, would hold the lock on.
        os.register_at_fork(after_in_child=f.close)
        f.truncate(0)
        me = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%H:%M:%S")}
        f.write(json.dumps(me))
        f.flush()
        try:
            yield
        finally:
            f.truncate(0)
