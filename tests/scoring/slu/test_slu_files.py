# SPDX-License-Identifier: Apache-2.0
"""What is written about a scored set: counts by concept, files of sclite, errors, the picture."""

import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.scoring.slu.concepts import NONE, ConceptScore, confusions, score_concepts, total
from espnet_ext.scoring.slu.confusion import OTHER, chosen, plot_confusions
from espnet_ext.scoring.slu.files import write_files
from espnet_ext.text.tagged import Unit, units, wrap

REFS = {"u1": "<a> x > <b> y >", "u2": "<b> y > <a> x > <a> z >", "u3": "oui"}
HYPS = {"u1": "<b> y > <a> q >", "u2": "<b> y <a> x", "u3": "<c> >"}
VALUE = st.sampled_from(["", "x_y", "x y", "x%5Fy", "x _ y"])
UNIT = st.builds(Unit, st.sampled_from("abc"), VALUE)
TEXT = st.lists(UNIT, max_size=5).map(lambda us: " ".join(map(wrap, us)))


def test_a_concept_out_of_order_is_found_but_not_aligned():
    scores = score_concepts(REFS, HYPS)
    assert scores == {
        "a": ConceptScore(ref=3, hyp=2, hits=2, aligned=1, values=1),
        "b": ConceptScore(ref=2, hyp=2, hits=2, aligned=2, values=2),
        "c": ConceptScore(ref=0, hyp=1, hits=0, aligned=0, values=0),
    }
    a = scores["a"]
    assert a.precision(a.hits) == 100
    assert a.recall(a.hits) == pytest.approx(200 / 3)
    assert a.f1(a.hits) == pytest.approx(80)
    assert scores["c"].recall(0) is None
    assert total(scores) == ConceptScore(5, 5, 4, 3, 3)


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_confusions_add_up_to_the_units_of_both_sides(pairs):
    refs, hyps = ({str(i): p[side] for i, p in enumerate(pairs)} for side in (0, 1))
    counts, scores = confusions(refs, hyps), score_concepts(refs, hyps)
    assert (NONE, NONE) not in counts
    for name, s in scores.items():
        assert sum(n for (r, _), n in counts.items() if r == name) == s.ref
        assert sum(n for (_, h), n in counts.items() if h == name) == s.hyp
        assert counts[name, name] == s.aligned <= s.hits
        assert s.values <= s.hits <= min(s.ref, s.hyp)


def test_a_picture_shows_the_concepts_with_the_most_errors():
    counts = {("a", "a"): 9, ("a", "b"): 2, ("b", NONE): 1, ("c", "b"): 1, (NONE, "d"): 1,
              ("d", "d"): 5}  # fmt: skip
    cells, classes = chosen(counts, shown=2)
    assert classes == ["a", "b", OTHER, NONE]
    assert cells == {("a", "a"): 9, ("a", "b"): 2, ("b", NONE): 1, (OTHER, "b"): 1}
    assert chosen(counts)[1] == ["a", "b", "c", "d", NONE]


def test_files_of_a_set(tmp_path):
    pytest.importorskip("matplotlib")
    files = write_files(REFS, HYPS, tmp_path)
    assert sorted(p.name for p in files) == sorted(p.name for p in tmp_path.iterdir())
    read = {p.name: p.read_text(encoding="utf-8") for p in files[:-1]}
    assert read["ref.concept.trn"] == "<a> <b> (all-u1)\n<b> <a> <a> (all-u2)\n(all-u3)\n"
    assert read["hyp.words.trn"] == "y q (all-u1)\ny x (all-u2)\n(all-u3)\n"
    assert "<b>_y <a>_x (all-u2)" in read["hyp.concept_value.trn"]
    rows = [line.split("\t") for line in read["concepts.tsv"].splitlines()]
    assert {len(row) for row in rows} == {15}
    assert rows[1][:6] == ["a", "3", "2", "2", "1", "1"]
    assert rows[1][6:9] == ["100.00", "66.67", "80.00"]  # precision, recall, F1
    assert rows[1][12:] == ["50.00", "33.33", "40.00"]  # of values
    assert [row[0] for row in rows[-2:]] == ["(all, micro)", "(all, macro)"]
    confused = ["a\t(none)\t2", "(none)\ta\t1", "(none)\tc\t1"]
    assert read["confusions.tsv"].splitlines()[1:] == confused
    assert "u3\n  ref: oui\n  hyp: <c> >\n  insertion     <c>\n" in read["errors.txt"]
    assert files[-1].read_bytes().startswith(b"\x89PNG")


@given(TEXT, TEXT)
def test_words_of_sclite_are_equal_where_units_are(one, other):
    from espnet_ext.scoring.slu.files import _TRN

    write = _TRN["concept_value"]
    assert (write(one) == write(other)) == (units(one) == units(other))


def test_a_name_of_any_length_leaves_room_for_the_matrix(tmp_path):
    """A hypothesis may be one long word that begins with a tag: its concept by SpeechBrain."""
    pytest.importorskip("matplotlib")
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        counts = {("a", "<a>" + 300 * "x"): 1, ("$b", "<" + 50 * "é"): 2}
        plot_confusions(counts, tmp_path / "p.png")


def test_without_concepts_there_is_no_picture_and_no_old_one(tmp_path):
    (tmp_path / "confusion.png").write_bytes(b"old")
    files = write_files({"u": "oui"}, {"u": "non"}, tmp_path)
    assert not (tmp_path / "confusion.png").exists()
    assert len(files) == 9
    assert "(all, micro)\t0\t0" in (tmp_path / "concepts.tsv").read_text()
