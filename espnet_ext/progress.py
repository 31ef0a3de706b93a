# SPDX-License-Identifier: Apache-2.0
"""What long work says while it runs; any layer may use it, the runner shows it."""

import logging

progress_log = logging.getLogger("espnet_ext.progress")  # its lines go to the terminal as well


def count(n: int, what: str) -> str:
    """Return ``1 utterance``, ``2 utterances``."""
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def duration(seconds: float) -> str:
    """Return ``1 h 02 min``, ``3 min 20 s`` or ``4.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, s = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {s:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
