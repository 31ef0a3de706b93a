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
ID = {t: i for i, t in enumerate(TOKENS)}


def heard(path, shift_s=0.1, first_s=0.0):
    ids = [ID[{"_": "<space>", "-": "<blank>"}.get(t, t)] for t in path.split()]
    return read(ids, CHARS, [first_s + i * shift_s for i in range(len(ids))], shift_s)


def test_a_reading_by_hand():
    #           0 1 2 3   4 5 6 7 8 9 10 11 12 13 14
    found = heard("a - _ <x> _ b b - b _ c - _ > _ <y> _ > -")
    assert found.tagged == "a <x> bb c > <y> >" and found.words == "a bb c"
    assert found.concepts == (Concept("x", "bb c", 0.5, 1.1), Concept("y", "", None, None))


def test_repeats_are_one_symbol_and_blank_parts_them():
    assert heard("a a a - a").tagged == "aa"
    assert heard("- - -") == heard("") and heard("").concepts == ()


def test_frames_begin_where_they_are_said_to():
    assert heard("<x> _ b _ >", first_s=-0.05).concepts == (Concept("x", "b", 0.15, 0.25),)
    assert heard("_ <x> _ b _ >", first_s=-0.55).concepts[0].start_s == 0.0  # not before the audio


def test_what_no_reference_has_is_read_as_the_scorer_does():
    for path in ("<x> b _ c >", "> b _ <x> <y> a", "b <x> _ c > c _ a", "<unk> a _ >", "> > <x>"):
        found = heard(path)
        wanted = tagged.units(found.tagged)
        assert [(c.concept, c.value) for c in found.concepts] == [tuple(u) for u in wanted]


@given(st.lists(st.sampled_from(range(len(TOKENS))), max_size=30))
def test_any_path(path):
    times = [0.02 * i for i in range(len(path))]
    found = read(path, CHARS, times, 0.02)
    assert found.words == tagged.plain(found.tagged)
    assert [(c.concept, c.value) for c in found.concepts] == [
        tuple(u) for u in tagged.units(found.tagged)
    ]
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
