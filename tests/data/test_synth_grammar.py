# SPDX-License-Identifier: Apache-2.0
import re
from itertools import islice

import numpy as np
import pytest

from espnet_ext.data.synth.grammar import Grammar, expand, families, languages
from espnet_ext.errors import DataError, UsageError
from espnet_ext.text import tagged

LANGUAGES = ["ar", "en", "fr", "it"]


def test_languages():
    assert languages() == LANGUAGES
    assert families() == {"commands": ["en"], "travel": LANGUAGES, "orders": ["en", "it"]}


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


@pytest.mark.parametrize(
    ("language", "family"), [(x, f) for f, known in families().items() for x in known]
)
def test_splits_share_no_speaker(language, family):
    speakers = Grammar(language, family).speakers
    assert {"train", "dev", "test"} <= set(speakers)
    everyone = [s.voice for rows in speakers.values() for s in rows]
    assert len(everyone) == len(set(everyone)) and all(speakers.values())
    variants = [{s.voice.partition("+")[2] for s in rows} for rows in speakers.values()]
    assert sum(map(len, variants)) == len(set.union(*variants))  # not even with another accent


def test_draw_is_seeded_mixed_and_complete():
    grammar = Grammar("fr")

    def texts(seed):
        return [s.text for s in grammar.draw(np.random.default_rng(seed))]

    assert texts(1) == texts(1) != texts(2)
    assert sorted(texts(1)) == sorted(texts(2))
    first = {s.intent for s in islice(grammar.draw(np.random.default_rng(3)), 40)}
    assert first == set(grammar.sentences())


def test_expand_takes_every_choice_and_no_value_twice():
    values = {"city": {"r": "rome", "ny": "new york"}, "n": {"1": "one"}}
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
    assert got[1].meaning == got[3].meaning == "go.1:city=r,from=ny,n=1" != got[0].meaning
    assert got[3].tagged == "<go> > go from <from> new york > to <city> rome > <n> one >"


@pytest.mark.parametrize("template", ["go to {cty}", "go [now", "go {a b}", "{city} {city}"])
def test_malformed_templates_are_refused(template):
    with pytest.raises(DataError):
        list(expand(template, "go", {"city": {"r": "rome", "ny": "new york"}}))


def test_unknown_language_names_the_known_ones():
    with pytest.raises(UsageError, match="valid: ar, en, fr, it"):
        Grammar("klingon")
    with pytest.raises(UsageError, match="valid: en"):
        Grammar("fr", "commands")
    with pytest.raises(UsageError, match="did you mean 'travel'"):
        Grammar("fr", "travels")


def by_meaning(language, family="travel"):
    """Meaning to its sentences."""
    found = {}
    for rows in Grammar(language, family).sentences().values():
        for s in rows:
            found.setdefault(s.meaning, []).append(s)
    return found


@pytest.mark.parametrize(("family", "values"), [("travel", 35), ("orders", 43)])
def test_sentences_of_equal_meaning_are_translations(family, values):
    known = {language: by_meaning(language, family) for language in families()[family]}
    meanings = set(known["en"])
    assert len(meanings) > 1000 and all(set(m) == meanings for m in known.values())
    kinds = {m: sorted(s.name for s in rows[0].slots) for m, rows in known["en"].items()}
    for language, found in known.items():
        words = {}  # a value's key to the words that express it: one way only
        for meaning, rows in found.items():
            intent, _, filled = re.split("[.:]", meaning)
            keys = dict(pair.split("=") for pair in filled.split(","))
            for s in rows:
                assert s.intent == intent and sorted(s.name for s in s.slots) == kinds[meaning]
                for slot in s.slots:
                    kind = slot.name.rpartition("-")[2]
                    words.setdefault((kind, keys[slot.name]), set()).add(slot.value)
        assert all(len(x) == 1 for x in words.values()), language
        found = [(kind, *x) for (kind, _), x in words.items()]
        assert len(set(found)) == len(found) == values, language


@pytest.mark.parametrize("language", LANGUAGES)
def test_travel_has_paraphrases_and_tags_in_balance(language):
    found = by_meaning(language)
    assert sum(len(rows) > 1 for rows in found.values()) > 0.5 * len(found)
    for s in (s for rows in found.values() for s in rows):
        tagged.check(s.tagged)
        assert tagged.plain(s.tagged) == s.text
        assert tagged.units(s.tagged) == [(s.intent, ""), *((x.name, x.value) for x in s.slots)]


def test_one_text_has_one_meaning():
    for language in LANGUAGES:
        texts = [s.text for rows in by_meaning(language).values() for s in rows]
        assert len(texts) == len(set(texts))
