# SPDX-License-Identifier: Apache-2.0
"""Every format is read back as it was written; what it cannot hold is told."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from praatio import textgrid as praat

from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.export import export
from espnet_ext.align.formats.sources import WRITTEN, Source, open_alignment
from espnet_ext.align.formats.tiers import Interval, TierOf, Utterance
from espnet_ext.cli import main
from espnet_ext.errors import DataError, UsageError

# What is left out of a format, and never from the others: spaces in names (CTM), intervals of no
# length, confidences, times finer than a millisecond (ELAN).
HOLDS = {
    "jsonl": "space point score fine",
    "lhotse": "space point score fine",
    "ctm": "point score fine",
    "textgrid": "space fine",
    "textgrid-short": "space fine",
    "elan": "space",
    "audacity": "space point fine",
}
TRICKY = ['"', '""', '"IntervalTier"', "<exists>", "1.5", "&lt;<&>'", "]]>", "!x", "\\t",
          "ä\u0308ß", "日本"]  # fmt: skip
PHRASES = ["item [1]:", "intervals [2]:", 'text = "x"', "!no comment", "a\u2028b", '"a" 1 "b']
LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zs", "Zl", "Zp"))
WORD = (st.text(LETTERS, min_size=1, max_size=5) | st.sampled_from(TRICKY)).filter(
    lambda w: w.lower() not in ("sil", "sp", "pau", "_", "silence") and w.strip() == w
)
SPACED = st.sampled_from(PHRASES) | st.tuples(WORD, st.sampled_from(" \t"), WORD).map("".join)
NAME = st.text(LETTERS, min_size=1, max_size=6).filter(
    lambda n: not n.startswith((";", ".", "\ufeff")) and n not in ("manifest",) and n.strip() == n
)


@st.composite
def utterances(draw, holds):
    names = draw(st.lists(NAME, min_size=1, max_size=3, unique_by=str.casefold))
    unit = 16000 if "fine" in holds else 1000
    return {name: draw(one(name, holds, unit)) for name in names}


@st.composite
def one(draw, name, holds, unit):
    tiers = {}
    for tier in ("words", "phones"):
        steps = draw(st.lists(st.integers(1, 30000), max_size=8))
        cuts = [c / unit for c in np.cumsum([0, *steps]).tolist()]
        names = WORD | SPACED if "space" in holds else WORD
        scores = st.none() | st.floats(-9, 1) if "score" in holds else st.none()
        rows = [
            Interval(a, b, draw(names), draw(scores))
            for a, b in pairwise(cuts)
            if draw(st.booleans())
        ]
        if "point" in holds and rows and draw(st.booleans()):
            rows.append(Interval(rows[-1].end_s, rows[-1].end_s, draw(names)))
        tiers[tier] = rows
    length = max((i.end_s for rows in tiers.values() for i in rows), default=0.0)
    return Utterance(name, length + draw(st.integers(1, 100)) / unit, tiers)


def source(content):
    return Source("test", content, TierOf(content, "phones"), TierOf(content, "words"))


def out_of(folder, form):
    return folder / ("out.jsonl" if form in ("jsonl", "lhotse") else "out")


def spoken(u):
    """Return the tiers without the silence that a format fills gaps with."""
    return {t: [i for i in rows if i.name != "SIL"] for t, rows in u.tiers.items()}


@pytest.mark.parametrize("form", WRITTEN)
def test_round_trip(form, tmp_path_factory):
    @settings(max_examples=20, deadline=None)
    @given(utterances(HOLDS[form].split()))
    def check(content):
        out = out_of(tmp_path_factory.mktemp("export"), form)
        done = export(source(content), out, form)
        assert not done.losses.counts and not done.failed
        got = open_alignment(out)
        assert set(got.utts) == set(content)
        for name, u in content.items():
            back = got.utterances[name]
            assert spoken(back) == u.tiers
            assert math.isclose(back.length_s, u.length_s, abs_tol=1e-7)

    check()


@pytest.mark.parametrize("form", WRITTEN)
def test_what_a_format_cannot_hold_is_told(form, tmp_path):
    tiers = {
        "words": [
            Interval(0.1, 0.2, "new york"),
            Interval(0.2, 0.2, "point"),
            Interval(0.2, 0.30005, "sure", 0.5),
            Interval(0.31, 0.4, "a\x01\nb"),
        ],
        "phones": [],
    }
    done = export(source({"u": Utterance("u", 1.0, tiers)}), out_of(tmp_path, form), form)
    told = " ".join(done.losses.counts)
    holds = HOLDS[form].split()
    assert ("one word" in told) == ("space" not in holds)
    assert ("no length" in told) == ("point" not in holds)
    assert ("confidence" in told) == ("score" not in holds)
    assert ("milliseconds" in told) == ("fine" not in holds)
    assert ("control character" in told) == (form == "elan")
    assert ("one line" in told) == (form == "audacity")
    assert all("u: '" in line for line in done.lines()[1:])
    assert open_alignment(out_of(tmp_path, form)).words["u"][-1].end_s == pytest.approx(0.4)


def test_praatio_reads_both_forms(tmp_path):
    words = [Interval(0.00005, 0.5, 'say "x"'), Interval(0.7, 0.8, "日本")]
    content = {"a/b": Utterance("a/b", 1.0, {"words": words, "phones": []})}
    for form in ("textgrid", "textgrid-short"):
        export(source(content), tmp_path / form, form)
        grid = praat.openTextgrid(str(tmp_path / form / "a%2Fb.TextGrid"), False)
        assert [tuple(e) for e in grid.getTier("words").entries] == [
            (i.start_s, i.end_s, i.name) for i in words
        ]
        assert grid.maxTimestamp == 1.0 and grid.tierNames == ("words", "phones")


@pytest.fixture
def aligned(tmp_path):
    phones = [Interval(0, 0.1, "SIL"), Interval(0.1, 0.2, "HH"), Interval(0.2, 0.4, "AY")]
    with AlignmentWriter(tmp_path / "ali", Header("phone", 3, phones=("SIL", "AY", "HH"))) as w:
        for utt in ("s1-u1", "s1-u2"):
            word = Interval(0.1, 0.4, "hi", 0.75)
            w.add(utt, np.repeat([0, 2, 1], [10, 10, 20]), phones, [word])
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"call {tmp_path}/my call.wav\n")
    (data / "segments").write_text("s1-u1 call 1.5 1.9\ns1-u2 call 3 3.4\n")
    (data / "utt2spk").write_text("s1-u1 s1\ns1-u2 s1\n")
    return tmp_path


@pytest.mark.parametrize("form", WRITTEN)
def test_import_takes_what_export_writes(aligned, form, capsys):
    out = out_of(aligned, form)
    argv = ["export", str(aligned / "ali"), str(out), "--format", form]
    assert main(["align", *argv]) == main(["align", *argv]) == 0  # over its own files again
    assert "2 utterances written" in capsys.readouterr().out
    assert main(["align", "import", str(out), str(aligned / "back"), "--unit", "phone"]) == 0
    was, now = AlignmentDir(aligned / "ali"), AlignmentDir(aligned / "back")
    for utt in was.utts:
        score = 0.75 if "score" in HOLDS[form] else None
        assert [replace(w, score=score) for w in was.words[utt]] == now.words[utt]
        assert was.phones[utt] == now.phones[utt]
        np.testing.assert_array_equal(was.frame_phones(utt), now.frame_phones(utt))
    assert main(["align", "compare", str(aligned / "ali"), str(out)]) == 0


def test_recordings_and_speakers_of_a_data_folder(aligned):
    ali = open_alignment(aligned / "ali")
    export(ali, aligned / "sup.jsonl.gz", "lhotse", aligned / "data")
    export(ali, aligned / "sup.jsonl", "lhotse", aligned / "data")
    rows = [json.loads(line) for line in (aligned / "sup.jsonl").read_text().splitlines()]
    assert (
        rows[1]["recording_id"] == "call" and rows[1]["speaker"] == "s1" and rows[1]["start"] == 3
    )
    assert rows[1]["alignment"]["phone"][1] == ["HH", 3.1, 0.1] and rows[1]["text"] == "hi"
    back = open_alignment(aligned / "sup.jsonl.gz").utterances["s1-u2"]
    assert back.recording == "call" and back.start_s == 3 and back.speaker == "s1"
    assert back.tiers["phones"] == ali.phones["s1-u2"]
    export(ali, aligned / "elan", "elan", aligned / "data")
    text = (aligned / "elan/s1-u2.eaf").read_text()
    assert "/my%20call.wav" in text and 'TIME_ORIGIN="3000"' in text and 'PARTICIPANT="s1"' in text


def test_misuse(aligned, capsys):
    ali = open_alignment(aligned / "ali")
    (aligned / "mine").mkdir()
    (aligned / "mine/thesis.tex").write_text("x")
    for out, form, what in (
        (aligned / "mine", "textgrid", r"OUT has 'thesis\.tex'"),
        (aligned / "ali", "ctm", "the alignment itself"),
        (aligned / "mine", "jsonl", "OUT is a folder"),
        (aligned / "x.txt", "lhotse", "not named"),
        (aligned / "x", "praat", "no format 'praat'"),
    ):
        with pytest.raises(UsageError, match=what):
            export(ali, out, form)
    assert (aligned / "mine/thesis.tex").exists()
    # One utterance that cannot be read: named, and the rest goes on.
    (aligned / "bad").mkdir()
    export(ali, aligned / "grids", "textgrid")
    (aligned / "grids/s1-u1.TextGrid").write_text("no")
    done = export(open_alignment(aligned / "grids"), aligned / "c", "ctm")
    assert done.utterances == 1 and "not a TextGrid" in done.failed["s1-u1"]
    with pytest.raises(DataError, match=r"not an \.eaf"):
        (aligned / "bad/u.eaf").write_text("<a>")
        _ = open_alignment(aligned / "bad").phones["u"]
    assert main(["align", "import", str(aligned / "c/words.ctm"), str(aligned / "z")]) == 0
    (aligned / "w.jsonl").write_text('{"id": "u", "words": [["a", 0, 1]]}\n')
    assert main(["align", "import", str(aligned / "w.jsonl"), str(aligned / "z")]) == 3
    assert "only words" in capsys.readouterr().err
