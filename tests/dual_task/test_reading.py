# SPDX-License-Identifier: Apache-2.0
"""Tagged text, concepts and times from frames of CTC."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.dual_task.reading import Concept, pieces, read
from espnet_ext.errors import UsageError
from espnet_ext.text import tagged

TOKENS = ["<blank>", "<unk>", "a", "b", "c", "<space>", "<x>", "<y>", ">", "<sos/eos>"]
CHARS = pieces(TOKENS, "char")
MARKS = ("<unk>", "<x>", "<y>", ">")
ID = {t: i for i, t in enumerate(TOKENS)}


def heard(path, shift_s=0.1, first_s=0.0):
    ids = [ID[{"_": "<space>", "-": "<blank>"}.get(t, t)] for t in path.split()]
    return read(ids, CHARS, [first_s + i * shift_s for i in range(len(ids))], shift_s)


def test_a_reading_by_hand():
    #           0 1 2 3   4 5 6 7 8 9 10 11 12 13 14
    found = heard("a - _ <x> _ b b - b _ c - _ > _ <y> _ > -")
    assert found.tagged == "a <x> bb c > <y> >" and found.words == "a bb c"
    assert found.concepts == (Concept("x", "bb c", 0.5, 1.1), Concept("y", "", None, None))


def test_a_missing_space_behind_a_tag_or_before_a_closing_mark_hides_no_concept():
    found = heard("a <x> b c > <y> _ a >")  # "<x>milan>" in small
    assert found.tagged == "a<x>bc><y> a>" and found.words == "a bc a"
    assert tagged.units(found.tagged) == []  # what the scorer sees
    assert found.concepts == (Concept("x", "bc", 0.2, 0.4), Concept("y", "a", 0.7, 0.8))
    assert heard("<x> b c _ >").tagged == "<x>bc >"
    assert tagged.units("<x>bc >") == [("<x>bc", "")]
    assert heard("<x> b c _ >").concepts == (Concept("x", "bc", 0.1, 0.3),)


def test_repeats_are_one_symbol_and_blank_parts_them():
    assert heard("a a a - a").tagged == "aa"
    assert heard("- - -") == heard("") and heard("").concepts == ()


def test_frames_begin_where_they_are_said_to():
    assert heard("<x> _ b _ >", first_s=-0.05).concepts == (Concept("x", "b", 0.15, 0.25),)
    assert heard("_ <x> _ b _ >", first_s=-0.55).concepts[0].start_s == 0.0  # not before the audio


def test_what_no_reference_has_is_read_as_the_scorer_does():
    for path in ("<x> _ b _ c _ >", "> _ b _ <x> _ <y> _ a", "<unk> _ a _ >", "> _ > _ <x>"):
        found = heard(path)
        wanted = tagged.units(found.tagged)
        assert [(c.concept, c.value) for c in found.concepts] == [tuple(u) for u in wanted]


def collapsed(path):
    """Return what the symbols of a path write, one by one."""
    kept = [i for at, i in enumerate(path) if i and (at == 0 or path[at - 1] != i)]
    return [CHARS[i] for i in kept]


@given(st.lists(st.sampled_from(range(len(TOKENS))), max_size=30))
def test_any_path(path):
    times = [0.02 * i for i in range(len(path))]
    found = read(path, CHARS, times, 0.02)
    assert found.words == tagged.plain(found.tagged)
    apart = tagged.units("".join(f" {s} " if s in MARKS else s for s in collapsed(path)))
    assert [(c.concept, c.value) for c in found.concepts] == [tuple(u) for u in apart]
    ends = [-1.0]
    for c in found.concepts:
        if c.start_s is not None:
            assert ends[-1] - 1e-9 <= c.start_s < c.end_s <= 0.02 * len(path) + 1e-9
            ends.append(c.end_s)
        else:
            assert tagged.plain(c.value) == ""


def test_words_and_pieces():
    words = pieces(["<blank>", "le", "mans", "<ville>", ">"], "word")
    found = read([3, 0, 1, 2, 2, 4], words, [0, 1, 2, 3, 4, 5], 1)
    assert found.tagged == "<ville> le mans >"
    assert found.concepts == (Concept("ville", "le mans", 2, 5),)
    bpe = pieces(["<blank>", "\u2581le", "\u2581ma", "ns", "\u2581", "<ville>", ">"], "bpe")
    found = read([5, 1, 2, 3, 4, 6], bpe, [0, 1, 2, 3, 4, 5], 1)
    assert found.tagged == "<ville> le mans >" and found.concepts[0].end_s == 4
    with pytest.raises(UsageError, match="'phn' are not supported"):
        pieces(["a"], "phn")
