# SPDX-License-Identifier: Apache-2.0
import re
from itertools import islice

import numpy as np
import pytest

from espnet_ext.data.synth.grammar import Grammar, expand, languages
from espnet_ext.errors import DataError, UsageError

LANGUAGES = ["ar", "en", "fr", "it"]


def test_languages():
    assert languages() == LANGUAGES


@pytest.mark.parametrize("language", LANGUAGES)
def test_slots_point_to_their_words(language):
    pools = Grammar(language).sentences()
    texts = [s.text for rows in pools.values() for s in rows]
    assert len(texts) == len(set(texts)) >= 300
    assert len(pools) >= 5 and all(pools.values())
    for intent, rows in pools.items():
        for s in rows:
            words = s.text.split(" ")
            assert s.intent == intent
            assert s.text == s.text.lower() and re.fullmatch(r"[^\W\d_]+( [^\W\d_]+)*", s.text)
            for slot in s.slots:
                assert " ".join(words[slot.word_start : slot.word_end]) == slot.value
            ends = [0, *(slot.word_end for slot in s.slots)]
            assert all(e <= slot.word_start for e, slot in zip(ends, s.slots, strict=False))


def test_english_has_60_to_100_words_and_several_values_per_slot():
    grammar = Grammar("en")
    assert 60 <= len(grammar.vocabulary()) <= 100
    assert {"three", "seven"} <= grammar.vocabulary()
    slots = {s.name for rows in grammar.sentences().values() for x in rows for s in x.slots}
    assert {"room", "city", "from", "to", "time"} <= slots


@pytest.mark.parametrize("language", LANGUAGES)
def test_splits_share_no_speaker(language):
    speakers = Grammar(language).speakers
    everyone = [s.voice for split in ("train", "dev", "test") for s in speakers[split]]
    assert len(everyone) == len(set(everyone))
    train, dev, test = (
        {s.voice.partition("+")[2] for s in speakers[k]} for k in ("train", "dev", "test")
    )
    assert not (train & dev or train & test or dev & test)  # not even with another accent
    assert all(speakers[split] for split in ("train", "dev", "test"))


def test_draw_is_seeded_mixed_and_complete():
    grammar = Grammar("fr")

    def texts(seed):
        return [s.text for s in grammar.draw(np.random.default_rng(seed))]

    assert texts(1) == texts(1) != texts(2)
    assert sorted(texts(1)) == sorted(texts(2))
    first = {s.intent for s in islice(grammar.draw(np.random.default_rng(3)), 40)}
    assert first == set(grammar.sentences())


def test_expand_takes_every_choice_and_no_value_twice():
    values = {"city": ["rome", "new york"], "n": ["one"]}
    got = list(expand("[please|] go from {from:city} to {city} {n}", "go", values))
    assert [s.text for s in got] == [
        "please go from rome to new york one",
        "please go from new york to rome one",
        "go from rome to new york one",
        "go from new york to rome one",
    ]
    assert [(s.name, s.value, s.word_start, s.word_end) for s in got[3].slots] == [
        ("from", "new york", 2, 4),
        ("city", "rome", 5, 6),
        ("n", "one", 6, 7),
    ]


@pytest.mark.parametrize("template", ["go to {cty}", "go [now", "go {a b}"])
def test_malformed_templates_are_refused(template):
    with pytest.raises(DataError):
        list(expand(template, "go", {"city": ["rome"]}))


def test_unknown_language_names_the_known_ones():
    with pytest.raises(UsageError, match="valid: ar, en, fr, it"):
        Grammar("klingon")
