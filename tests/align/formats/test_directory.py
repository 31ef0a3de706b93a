# SPDX-License-Identifier: Apache-2.0
"""The alignment directory, CTM and TextGrid: what is written is read, what is broken is named."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omniio import kaldi

from espnet_ext.align.formats.ctm import Ctm, write_ctm
from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.sources import open_alignment
from espnet_ext.align.formats.textgrid import read_textgrid, write_textgrid
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.errors import DataError

HEADER = Header("phone", 3, silence_ids=(0,), phones=("SIL", "a", "b"), source="test")
PHONES = [
    Interval(0.0, 0.1, "SIL"),
    Interval(0.1, 0.2, "a"),
    Interval(0.2, 0.35, "b"),
    Interval(0.35, 0.4, "SIL"),
]
WORDS = [Interval(0.1, 0.35, "ab")]
LABELS = np.repeat([0, 1, 2, 0], [10, 10, 15, 5])


def write(out, utts=("u1", "x/2")):
    with AlignmentWriter(out, HEADER) as writer:
        for n, utt in enumerate(utts):
            writer.add(utt, LABELS, PHONES, WORDS, score=-n - 0.5)
        writer.skip("bad", "no path", "tab\there")
    return AlignmentDir(out)


def test_what_is_written_is_read(tmp_path):
    a = write(tmp_path / "ali")
    assert a.header == HEADER and a.utts == ["u1", "x/2"]
    for utt in a.utts:
        assert a.labels(utt).dtype == np.int32
        np.testing.assert_array_equal(a.labels(utt), LABELS)
        np.testing.assert_array_equal(a.frame_phones(utt), LABELS)  # taken from the times
        np.testing.assert_array_equal(a.frame_words(utt), np.repeat([-1, 0, -1], [10, 25, 5]))
        assert a.phones[utt] == PHONES and a.words[utt] == WORDS
    grids = open_alignment(a.path / "textgrid")
    assert dict(grids.phones) == dict(a.phones) and dict(grids.words) == dict(a.words)
    assert a.scores["x/2"] == (40, -1.5)
    assert a.skipped == {"bad": ("no path", "tab here")}


def test_espnets_loader_reads_the_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("dump/ali")
    loader = kaldi.load_scp("dump/ali/labels.scp", max_cache_fd=0)  # as espnet2's kaldi_ark does
    assert list(loader) == ["u1", "x/2"]
    np.testing.assert_array_equal(loader["x/2"], LABELS)


def test_a_moved_folder_reads_its_own_archives(tmp_path):
    write(tmp_path / "ali")
    shutil.copytree(tmp_path / "ali", tmp_path / "copy")
    (tmp_path / "ali" / "labels.ark").write_bytes(b"other")
    np.testing.assert_array_equal(AlignmentDir(tmp_path / "copy").labels("u1"), LABELS)
    shutil.rmtree(tmp_path / "ali")
    np.testing.assert_array_equal(AlignmentDir(tmp_path / "copy").frame_words("x/2")[:10], -1)


def test_damage_is_named(tmp_path):
    a = write(tmp_path / "ali")
    ark = a.path / "labels.ark"
    whole = ark.read_bytes()
    ark.write_bytes(whole[:-3])
    np.testing.assert_array_equal(a.labels("u1"), LABELS)
    with pytest.raises(DataError, match=r"x/2[\s\S]*labels\.ark"):
        a.labels("x/2")
    ark.write_bytes(b"?" + whole)  # offsets of another run
    with pytest.raises(DataError, match=r"does not hold 'u1'"):
        a.labels("u1")
    with pytest.raises(DataError, match="'nobody' has no alignment"):
        a.labels("nobody")
    (a.path / "words.ctm").unlink()
    with pytest.raises(DataError, match=r"words\.ctm is missing"):
        _ = AlignmentDir(a.path).words
    with pytest.raises(DataError, match=r"header\.json is missing"):
        AlignmentDir(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.full(40, 3)}, r"not in \[0, 3\)"),
        ({"labels": LABELS.astype(float)}, "whole numbers"),
        ({"frame_words": np.zeros(39, int)}, "one length"),
        ({"phones": [Interval(0, 0.4, "zz")]}, "does not list the phone 'zz'"),
        ({"words": [Interval(0.2, 0.1, "ab")]}, "lasts from 0.2 to 0.1"),
        ({"words": [Interval(0, 0.2, "a"), Interval(0.1, 0.3, "b")]}, "overlaps"),
        ({"utt": "a b"}, "no name"),
        ({"utt": "u0"}, "twice"),
    ],
)
def test_misuse_of_the_writer(tmp_path, change, message):
    good = {"utt": "u1", "labels": LABELS, "phones": PHONES, "words": WORDS}
    with AlignmentWriter(tmp_path / "ali", HEADER) as writer:
        writer.add(**good | {"utt": "u0"})
        with pytest.raises(DataError, match=message):
            writer.add(**good | change)
        writer.skip("u1", "not usable")  # the name is still free
    a = AlignmentDir(tmp_path / "ali")
    assert a.utts == ["u0"] and list(a.phones) == ["u0"]
    np.testing.assert_array_equal(a.labels("u0"), LABELS)


def test_an_error_leaves_the_old_alignment(tmp_path):
    write(tmp_path / "ali", ["old"])
    with pytest.raises(KeyError), AlignmentWriter(tmp_path / "ali", HEADER) as writer:
        writer.add("new", LABELS, PHONES, WORDS)
        raise KeyError
    assert AlignmentDir(tmp_path / "ali").utts == ["old"]
    assert os.listdir(tmp_path) == ["ali"]


def test_a_killed_writer_leaves_no_alignment(tmp_path):
    program = """
        import os, signal, sys
        import numpy as np
        from espnet_ext.align.formats.directory import AlignmentWriter, Header
        with AlignmentWriter(sys.argv[1], Header("pdf", 1, phones=("SIL",))) as writer:
            writer.add("u", np.zeros(9, int), [], [])
            os.kill(os.getpid(), signal.SIGKILL)
    """
    out, root = tmp_path / "ali", Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program), out], cwd=root)
    assert done.returncode == -signal.SIGKILL and not out.exists()
    assert write(out).utts == ["u1", "x/2"]
    assert os.listdir(tmp_path) == ["ali"]


NAMES = st.text(st.characters(exclude_categories=("Z", "C")), min_size=1, max_size=6)
# Steps of 1/16000 s: the exact times of the synthetic corpus.
CUTS = st.lists(st.just(0) | st.integers(2, 10**6), min_size=2, max_size=12, unique=True).map(
    sorted
)


@st.composite
def tiers(draw):
    cuts = [c / 16000 for c in draw(CUTS)]
    pairs = list(pairwise(cuts))
    kept = [p for p in pairs if draw(st.booleans())]
    return [Interval(s, e, draw(NAMES)) for s, e in kept]


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES.filter(lambda n: not n.startswith(";")), tiers(), max_size=4))
def test_ctm_round_trip(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("ctm") / "phones.ctm"
    write_ctm(path, content.items())
    assert dict(Ctm(path, content)) == content
    assert dict(Ctm(path)) == {u: rows for u, rows in content.items() if rows}


@settings(max_examples=40, deadline=None)
@given(tiers(), tiers())
def test_textgrid_round_trip(tmp_path_factory, words, phones):
    path = tmp_path_factory.mktemp("grid") / "u.TextGrid"
    silent = ("sil", "sp", "spn", "pau", "_", "silence", "<eps>", "<sil>", "!sil", "h#")
    words, phones = ([i for i in t if i.name.lower() not in silent] for t in (words, phones))
    write_textgrid(path, words, phones, 70.0)
    found = read_textgrid(path)
    assert found["words"] == words
    assert [i for i in found["phones"] if i.name != "SIL"] == phones
    times = [t for i in found["phones"] for t in (i.start_s, i.end_s)]
    assert times == sorted(times) and times[0] == 0 and times[-1] == 70  # gaps are silence


def test_foreign_textgrids(tmp_path):
    body = """0 \n1 \n<exists> \n{n} \n"""
    tier = '"IntervalTier"\n"{name}"\n0\n1\n3\n0\n0.3\n"{a}"\n0.3\n0.9\n"x"\n0.9\n1\n"spn"\n'
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
    short = head + body.format(n=2)
    short += "".join(tier.format(name=f"ann - {t}", a="") for t in ("words", "phones"))
    path = tmp_path / "ann" / "u.TextGrid"
    path.parent.mkdir()
    path.write_text(short)
    found = open_alignment(tmp_path).phones["u"]
    assert [i.name for i in found] == ["SIL", "x", "spn"]  # spoken noise is no silence
    assert read_textgrid(path)["words"] == [Interval(0.3, 0.9, "x"), Interval(0.9, 1, "spn")]
    path.write_text(short.replace("phones", "tones").replace("words", "notes"))
    with pytest.raises(DataError, match="'ann - notes', 'ann - tones'"):
        read_textgrid(path)
    path.write_text(short[: len(short) // 2])
    with pytest.raises(DataError, match="not a TextGrid"):
        read_textgrid(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("u 1 0.1 0.2", "4 columns"),
        ("u 1 0.1 x a", "not a time"),
        ("u 1 -0.1 0.2 a", "not times"),
        ("u 1 nan 0.2 a", "not times"),
        ("u 1 0.1 -0.05 a", "ends before"),
    ],
)
def test_ctm_errors_name_the_line(tmp_path, line, message):
    path = tmp_path / "a.ctm"
    path.write_text(f";; head\nv 1 0 1 a 0.9\nu 1 0 0.1 a\n{line}\n")
    assert Ctm(path)["v"] == [Interval(0, 1, "a", 0.9)]
    with pytest.raises(DataError, match=rf"{message}[\s\S]*a\.ctm:4"):
        Ctm(path)["u"]


def test_ctm_of_scattered_lines(tmp_path):
    path = tmp_path / "a.ctm"
    path.write_text("u 1 0.5 0.1 b\nv 1 0 1 a\n\nu 1 0 0.5 a\n")
    assert [i.name for i in Ctm(path)["u"]] == ["a", "b"]
    path.write_text("u 1 0 1 a\nu 2 0 1 a\n")
    with pytest.raises(DataError, match="2 channels"):
        Ctm(path)["u"]
