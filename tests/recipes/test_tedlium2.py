# SPDX-License-Identifier: Apache-2.0
"""The data preparation of TED-LIUM 2, on a small tree in the layout of the release."""

from itertools import pairwise

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_tree import load_local
from tedlium2_tree import make_tedlium2, shorten

from espnet_ext.data.tables import read_table
from espnet_ext.lang.lexicon import Lexicon

tedlium2 = load_local("tedlium2")
Segment, SegmentedSet = tedlium2.Segment, tedlium2.SegmentedSet
DISK = "--prepare.disk_mb=10"
LINES = "talk channel speaker start end <label> text"


@pytest.fixture
def corpus(tmp_path):
    return make_tedlium2(tmp_path / "corpus")


@pytest.fixture
def prepare(run_local):
    return lambda path, out, code=0: run_local(tedlium2, out, code=code, TEDLIUM2=path)


def test_from_the_release_to_formatted_audio(recipe_copy, tmp_path, corpus):
    recipe = recipe_copy("tedlium2/weak_align1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", env={"TEDLIUM2": str(corpus.parent)})
    data = recipe.path / "data"
    assert (data / "train/text").read_text() == (
        "AlGore_2009-0000050-0000120 well i didn't know for\n"
        "AlGore_2009-0000125-0000200 'cause bono's <unk>\n"
        "AlGore_2009P-0000000-0000081 a zebra\n"
        "AlGore_2009P-0000250-0000320 the\n"
    )
    assert list(read_table(data / "dev/text").values()) == ["i'd 've known", "the"]
    dev = read_table(data / "dev/segments")
    assert dev["Wade_2008-0000250-0000340"] == "Wade_2008 2.500 3.000"  # cut at the audio's end
    # Into the gaps by 0.15 and 0.1 s; the gap of 0.05 s is shared 2 : 3; to the audio's end.
    assert list(read_table(data / "train/segments").values()) == [
        "AlGore_2009 0.350 1.220",
        "AlGore_2009 1.220 2.100",
        "AlGore_2009P 0.000 0.907",
        "AlGore_2009P 2.350 3.000",
    ]
    assert list(read_table(data / "test/segments").values()) == [
        "Ana_2010 0.200 1.600",
        "Ana_2010 1.600 2.900",
    ]
    assert list(read_table(data / "train/spk2utt")) == ["AlGore_2009", "AlGore_2009P"]
    assert "train: 8 segments read, 4 written" in out and "whole corpus has 92973" in out
    assert "4 skipped: 1 beyond the audio, 1 no words, 1 not to be scored, 1 repeated line" in out
    skipped = (data / "skipped.tsv").read_text().splitlines()[1:]
    stm = corpus / "train/stm/AlGore_2009.stm"
    assert len(skipped) == 4 and f"train\t{stm}:1\tnot to be scored\t" in skipped
    wav = recipe.path / read_table(recipe.path / "dump/test/wav.scp")["Ana_2010-0000020-0000160"]
    assert soundfile.info(wav).frames == 1.4 * 16000


def test_lexicon_has_variants_and_words_joined_from_known_parts(tmp_path, corpus, prepare):
    out = prepare(corpus, tmp_path / "data")
    lines = (tmp_path / "data/lexicon.txt").read_text().splitlines()
    words = [line.split()[0] for line in lines]
    assert lines == sorted(lines, key=lambda x: x.split()[0].encode())
    assert {"a AH", "a EY", "for F ER", "bono's B OW N OW Z", "bono's B OW N OW S"} <= set(lines)
    assert "<unk> NSN" in lines and "didn't D IH D AH N T" in lines
    assert not {"<s>", "</s>", "[NOISE]", "nothing", "a(2)", "i'd"} & set(words)
    aligner = Lexicon.read(tmp_path / "data/lexicon.txt")
    assert len(aligner.lookup("bono's")) == 2 and len(aligner.words) == len(set(words))
    assert "1 entries" in out and "1 words composed" in out
    assert "train: 1 of 11 running words have no pronunciation: zebra" in out


def test_a_talk_without_stm_is_listed(tmp_path, corpus, prepare):
    (corpus / "train/stm/AlGore_2009P.stm").unlink()
    out = prepare(corpus, tmp_path / "data")
    assert "1 talk without stm" in out
    assert "AlGore_2009P" not in (tmp_path / "data/train/wav.scp").read_text()


def edit(path, old, new):
    text = path.read_bytes()
    assert old in text
    path.write_bytes(text.replace(old, new))


MISUSE = {
    "time": (lambda r: edit(r / "dev/stm/Wade_2008.stm", b"1.1 <", b"1,1 <"),
             [LINES, "Wade_2008.stm:1"]),
    "talk": (lambda r: edit(r / "train/stm/AlGore_2009.stm", b"AlGore_2009 1 AlG", b"Al 1 AlG"),
             [LINES, "AlGore_2009.stm:2"]),
    "order": (lambda r: edit(r / "test/stm/Ana_2010.stm", b"2.9", b"1.5"),
              ["ends at 1.5 s", "Ana_2010.stm:1"]),
    "utf8": (lambda r: edit(r / "test/stm/Ana_2010.stm", b"a well", b"\xe9 well"),
             ["not UTF-8", "Ana_2010.stm:2"]),
    "two texts": (lambda r: edit(r / "test/stm/Ana_2010.stm", b"0.2 1.6", b"1.6 2.9"),
                  ["id of two segments", "Ana_2010.stm:1", "Ana_2010.stm:2"]),
    "no sph": (lambda r: (r / "dev/sph/Wade_2008.sph").unlink(), ["missing", "Wade_2008.sph"]),
    "shorten": (lambda r: shorten(r / "dev/sph/Wade_2008.sph"),
                ["compressed with shorten", "sph2pipe", "Wade_2008.sph"]),
    "no stm": (lambda r: (r / "test/stm/Ana_2010.stm").unlink(), ["no stm file", "test/stm"]),
    "release 1": (lambda r: (r / "TEDLIUM.152k.dic").rename(r / "TEDLIUM.150K.dic"),
                  ["this is not TED-LIUM 2"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSE)
def test_what_is_wrong_is_named(case, tmp_path, corpus, prepare):
    damage, words = MISUSE[case]
    damage(corpus)
    out = prepare(corpus, tmp_path / "data", code=3)
    assert all(word in out for word in words), out


def test_another_folder_is_refused_before_any_work(recipe_copy, tmp_path):
    recipe = recipe_copy("tedlium2/weak_align1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", code=3, env={"TEDLIUM2": str(tmp_path)})
    assert "does not look like TED-LIUM 2" in out and "openslr.org/19" in out


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=2, max_size=12), st.integers(0, 60))
def test_padding_stays_in_the_gaps(steps, rest):
    edges = [sum(steps[: i + 1]) / 100 for i in range(len(steps) // 2 * 2)]
    made = SegmentedSet("train", {"t": "t.sph"}, {"t": edges[-1] + rest / 100})
    before = list(zip(edges[::2], edges[1::2], strict=True))
    for i, (start_s, end_s) in enumerate(before):
        made.segments[f"{i}"] = Segment(f"{i}", "t", "t", start_s, end_s, "x")
    tedlium2.pad(made, 0.15, 0.1)
    after = [(s.start_s, s.end_s) for s in made.segments.values()]
    for (a, b), (start_s, end_s) in zip(before, after, strict=True):
        assert 0 <= a - start_s <= 0.15 + 1e-9 and 0 <= end_s - b <= 0.1 + 1e-9
    flat = [t for pair in after for t in pair]
    assert all(b - a > -1e-9 for a, b in pairwise(flat))
    assert flat[0] >= 0 and flat[-1] <= made.length_s["t"]
