# SPDX-License-Identifier: Apache-2.0
"""Slot accuracy of the synthetic translations."""

from pathlib import Path

from espnet_ext.scoring.metrics import find

RECIPE = Path(__file__).resolve().parents[2] / "egs2/synth/multistage1"


def test_slots_are_the_drawn_words_of_a_translation():
    slots = find("local.slots:METRIC", RECIPE)
    refs = ["nove sedie rosse a roma", "vendi le tazze nuove lunedì", "due porte da roma a madrid"]
    hyps = ["nove sedie nere a roma", "le", "due porte da madrid a madrid"]
    # Another value is wrong, and words that all orders have count nothing.
    assert slots.score(refs, hyps).tolist() == [[3, 4], [0, 4], [3, 4]]
    assert slots.score(refs[:1], [""]).tolist() == [[0, 4]]
