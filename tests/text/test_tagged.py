# SPDX-License-Identifier: Apache-2.0
"""Tagged text: references are checked to the word, hypotheses are read whatever they hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.errors import DataError
from espnet_ext.text import tagged
from espnet_ext.text.tagged import Span, Unit

TEXT = "Je voudrais <chambre> une chambre double > à <ville> Le Mans > <book_room> >"
WORD = st.text(st.characters(codec="utf-8", exclude_categories=["Z", "C"], exclude_characters="<>"),
               min_size=1, max_size=4).filter(lambda w: w.split() == [w])  # fmt: skip
WORDS = st.lists(WORD, max_size=4).map(" ".join)
PIECES = st.lists(st.one_of(WORD, st.builds(Unit, WORD.map("c-{}".format), WORDS)), max_size=8)


def written(pieces):
    return " ".join(p if isinstance(p, str) else tagged.wrap(p) for p in pieces)


def test_the_example():
    tagged.check(TEXT, "text:1")
    assert tagged.plain(TEXT) == "Je voudrais une chambre double à Le Mans"
    assert tagged.units(TEXT) == [
        Unit("chambre", "une chambre double"), Unit("ville", "Le Mans"), Unit("book_room", ""),
    ]  # fmt: skip
    assert tagged.spans(TEXT) == [
        Span("chambre", 2, 5), Span("ville", 6, 8), Span("book_room", 8, 8),
    ]  # fmt: skip
    assert tagged.symbols([TEXT, "oui", "<a> x >"]) == [
        "<a>", "<book_room>", "<chambre>", "<ville>", ">",
    ]  # fmt: skip
    assert tagged.symbols(["oui"]) == []


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("oui <a> x", "<a> is not closed", "word 2 of 3"),
        ("<a> x <b> y > >", "<b> stands within <a>", "word 3"),
        ("<a> x > y >", "'>' closes nothing", "word 5"),
        ("3 < 4", "'<' or '>' but is no tag", "word 2"),
        ("<a>x >", "'<a>x' has", "word 1"),
        ("<a> x> >", "'x>' has", "word 2"),
        ("<> x >", "'<>' has", "word 1"),
        ("hm <UNK> >", "a symbol of this name", "word 2"),
        ("<a> x > <c> y >", "<c> is not in the list of symbols", "word 4"),
    ],
)
def test_a_faulty_reference_is_told_to_the_word(text, message, place):
    with pytest.raises(DataError) as error:
        tagged.check(text, "data/train/text:12", known={"<a>", "<b>"})
    assert message in error.value.what
    assert error.value.where == f"data/train/text:12, {place}"


def test_the_way_to_mend_an_unknown_tag_is_the_nearest_known_one():
    with pytest.raises(DataError) as error:
        tagged.check("<citty> lyon >", known={"<city>", "<date>"})
    assert "did you mean '<city>'?" in error.value.how


@pytest.mark.parametrize(
    ("hypothesis", "units"),
    [
        ("<a> x <b> y", [("a", "x"), ("b", "y")]),  # a tag closes, the end closes
        ("x > y <a> > z", [("a", "")]),
        ("<a> x > y z > <a> x", [("a", "x"), ("a", "x")]),
        ("<a>x y > <b", [("<a>x", "y"), ("<b", "")]),  # whole words, as SpeechBrain has them
        ("<a> x >y z", [("a", "x")]),
        ("  ", []),
    ],
)
def test_units_of_hypotheses(hypothesis, units):
    assert tagged.units(hypothesis) == units


@given(PIECES)
def test_what_was_put_in_comes_out(pieces):
    text = written(pieces)
    tagged.check(text)
    words = " ".join(p if isinstance(p, str) else p.value for p in pieces).split()
    units = [p for p in pieces if isinstance(p, Unit)]
    assert tagged.plain(text) == " ".join(words)
    assert tagged.units(text) == units
    found = [" ".join(words[s.start : s.stop]) for s in tagged.spans(text)]
    assert found == [u.value for u in units]


@given(st.one_of(st.text(), st.text("<>a b", max_size=30)))
def test_any_hypothesis_can_be_read(text):
    plain = tagged.plain(text)
    words = plain.split()
    assert not {"<", ">"} & set(plain)
    assert words == plain.split(" ") or not plain
    units, spans = tagged.units(text), tagged.spans(text)
    assert len(units) == sum(w.startswith("<") for w in text.split())
    for unit, span in zip(units, spans, strict=True):
        assert unit.concept == span.concept
        assert words[span.start : span.stop] == tagged.plain(unit.value).split()


def test_case_and_unicode_form_are_kept():
    text = "<a> E\N{COMBINING ACUTE ACCENT}tE > É"
    assert tagged.plain(text) == "E\N{COMBINING ACUTE ACCENT}tE É"
