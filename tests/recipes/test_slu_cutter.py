# SPDX-License-Identifier: Apache-2.0
"""Cutting annotated turns: whatever the marks, no word is lost and every text is a reference."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipe_tree import load_local

from espnet_ext.text import tagged

slu_xml = load_local("slu_xml")
Open, Close, Sync = slu_xml.Open, slu_xml.Close, slu_xml.Sync

CONCEPTS = st.sampled_from(["a", "b-c", "null", "", "two words", "<x>"])
EVENTS = st.lists(
    st.one_of(
        st.builds(Open, CONCEPTS, st.sampled_from(["", "1", "v w", "> x"])),
        st.just(Close()),
        st.just("mark"),
        st.text("xyz <>", max_size=6),
    ),
    max_size=14,
)


def timed(events):
    """Put times that rise into the marks."""
    times = itertools.count(1)
    return [Sync(next(times)) if event == "mark" else event for event in events]


@given(EVENTS, st.sampled_from(["sync", "turn"]), st.sampled_from(["words", "normalised"]))
def test_no_word_is_lost_and_every_text_is_a_reference(events, segmentation, value):
    cutter = slu_xml.Cutter(segmentation, value, str)
    events = timed(events)
    cuts = cutter(events, 0.0, 99.0)
    said = " ".join(e for e in events if isinstance(e, str))
    words = said.replace("<", " ").replace(">", " ").split()
    assert [word for cut in cuts for word in cut.text.split()] == words
    for cut in cuts:
        tagged.check(cut.tagged)
        assert 0 <= cut.start_s <= cut.end_s <= 99 and cut.text
        if value == "words":
            assert tagged.plain(cut.tagged) == cut.text
            assert all(unit.value for unit in tagged.units(cut.tagged))
    assert all(a.end_s <= b.start_s for a, b in itertools.pairwise(cuts))
    assert len(cuts) <= 1 or segmentation == "sync"


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        # a mark before words moves the start, one after them ends the utterance
        ([Sync(1), "x", Sync(2), Sync(3), "y"], [(1, 2, "x"), (3, 9, "y")]),
        # within a concept the mark waits for its end ...
        ([Open("a"), "x", Sync(2), Close(), "y"], [(0, 2, "<a> x >"), (2, 9, "y")]),
        # ... and is void if words follow
        ([Open("a"), "x", Sync(2), "z", Close(), "y"], [(0, 9, "<a> x z > y")]),
        # a concept without words leaves no trace, one without an end mark ends with its turn
        ([Open("a"), Close(), "x", Open("b"), "y"], [(0, 9, "x <b> y >")]),
        # one that begins within another ends it
        ([Open("a"), "x", Open("b"), "y", Close()], [(0, 9, "<a> x > <b> y >")]),
        ([Sync(1)], []),
    ],
)
def test_marks_and_concepts(events, expected):
    cutter = slu_xml.Cutter("sync", "words", str)
    assert [(c.start_s, c.end_s, c.tagged) for c in cutter(events, 0, 9)] == expected


def test_a_turn_that_is_cut_again_forgets_the_one_before():
    cutter = slu_xml.Cutter("sync", "words", str)
    cutter([Open("a"), "x", Sync(2)], 0, 9)
    assert [c.tagged for c in cutter(["y"], 10, 12)] == ["y"]
    assert cutter.unclosed == 1
