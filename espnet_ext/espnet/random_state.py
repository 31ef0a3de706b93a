# SPDX-License-Identifier: Apache-2.0
"""Work beside a training that must not change what the training draws."""

import contextlib
import random
from collections.abc import Iterator

import numpy as np
import torch


@contextlib.contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Leave the random numbers of Python, numpy and torch's CPU as they were."""
    before = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
