# SPDX-License-Identifier: Apache-2.0
"""Splits by meaning: nothing is in two, and nothing held out is made of parts never heard."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest

from espnet_ext.data.synth.grammar import Grammar
from espnet_ext.data.synth.meanings import (
    by_meaning,
    draw,
    shared_meanings,
    split_by_meaning,
    template_of,
    values_of,
)
from espnet_ext.errors import DataError, UsageError

SIZES = {"dev": 70, "test": 120}


@pytest.fixture(scope="module")
def known():
    return {language: by_meaning(Grammar(language, "travel")) for language in ("fr", "ar")}


def test_split_is_disjoint_complete_seeded_and_even_over_templates(known):
    meanings = shared_meanings(known)
    parts = split_by_meaning(meanings, SIZES, seed=1)
    assert [len(parts[p]) for p in ("dev", "test")] == [70, 120]
    assert sorted(m for part in parts.values() for m in part) == meanings
    less = split_by_meaning(meanings, {"dev": 70}, seed=1)
    assert less["dev"] == parts["dev"] and set(less["train"]) > set(parts["train"])
    assert parts == split_by_meaning(meanings[::-1], SIZES, seed=1)
    assert parts["dev"] != split_by_meaning(meanings, SIZES, seed=2)["dev"]
    for part in ("dev", "test"):
        per_template = Counter(map(template_of, parts[part]))
        assert set(per_template) == {template_of(m) for m in meanings}
        assert max(per_template.values()) <= 3 * min(per_template.values())
    more = {"dev": 100, "test": 150}
    for seed in range(20):
        train = taught(split_by_meaning(meanings, more, seed)["train"])
        assert min(train.values()) >= 2 and set(train) == set(taught(meanings))


def taught(meanings):
    """How often each value stands in each template."""
    return Counter((template_of(m), value) for m in meanings for value in values_of(m))


def test_what_cannot_be_held_out_is_refused():
    few = [f"go.now:to={x},day={y}" for x in "abc" for y in "de"]
    with pytest.raises(UsageError, match="too many to hold out of 6"):
        split_by_meaning(few, {"dev": 2, "test": 2}, seed=1)
    with pytest.raises(UsageError, match="ask for 0 or fewer"):
        split_by_meaning(["a.b:c=1", "a.b:c=2"], {"dev": 1}, seed=1)


def test_a_language_without_a_meaning_is_named(known):
    meaning = next(iter(known["fr"]))
    lacking = {"fr": known["fr"], "ar": {m: s for m, s in known["ar"].items() if m != meaning}}
    with pytest.raises(DataError, match=meaning) as e:
        shared_meanings(lacking)
    assert "language ar" in str(e.value)


def test_draw_has_every_template_in_each_round_and_repeats_a_meaning_last(known):
    meanings = shared_meanings(known)
    templates = {template_of(m) for m in meanings}
    said = list(islice(draw(known["fr"], meanings, np.random.default_rng(1)), 20 * len(templates)))
    for i in range(0, len(said), len(templates)):
        assert {template_of(s.meaning) for s in said[i : i + len(templates)]} == templates
    assert max(Counter(s.meaning for s in said).values()) == 1  # the smallest template has 20
    again = list(islice(draw(known["fr"], meanings, np.random.default_rng(1)), len(said)))
    assert again == said
    wordings = {s.text.split()[0] for s in said if s.intent == "cancel"}
    assert wordings == {"annulez", "je"}
