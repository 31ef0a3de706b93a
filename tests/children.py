# SPDX-License-Identifier: Apache-2.0
"""Trainings in a process of their own, which may be killed."""

import multiprocessing
from collections.abc import Callable
from typing import Any


def in_child(target: Callable, *args: Any, within_s: float = 200) -> int | None:
    """Run in a forked process (ESPnet is imported already); return its exit code."""
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    process.join(within_s)
    return process.exitcode
