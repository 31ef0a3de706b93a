# SPDX-License-Identifier: Apache-2.0
"""Slot accuracy of translations: the share of the drawn words that are there, in their order.

BLEU also counts the words that every order has. Whoever knows the grammar and does not listen has a
chance of one in five to ten with each of these.
"""

from functools import cache
from pathlib import Path

import jiwer
import numpy as np

import espnet_ext.data.synth
from espnet_ext import yamlfile
from espnet_ext.scoring.metrics import Metric

GRAMMAR = Path(espnet_ext.data.synth.__file__).with_name("orders_it.yaml")


@cache
def drawn() -> frozenset[str]:
    """Return the words that slots of the grammar take."""
    slots = yamlfile.read(GRAMMAR)["slots"]
    return frozenset(w for values in slots.values() for v in values.values() for w in v.split())


def count(ref: str, hyp: str) -> tuple[int, int]:
    """Return the drawn words of the translation that are right, and those of the reference."""
    wanted, found = (" ".join(w for w in t.split() if w in drawn()) for t in (ref, hyp))
    return (jiwer.process_words(wanted, found).hits if wanted else 0), len(wanted.split())


METRIC = Metric(
    name="slots",
    title="Slot accuracy",
    better="higher",
    counts=("right", "slots"),
    score=lambda refs, hyps: np.array(
        [count(r, h) for r, h in zip(refs, hyps, strict=True)], dtype=np.int64
    ).reshape(-1, 2),
    hyp_file="translation",
    optional=True,
    note="Share of the drawn words that a translation has, in their order.",
)
