# SPDX-License-Identifier: Apache-2.0
"""The data preparation of MuST-C, on a small tree in the layout of the corpus."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from must_c_tree import ROWS, make_must_c
from recipe_tree import load_local

from espnet_ext.data.tables import read_table

must_c = load_local("must_c")
TRAIN = {
    "ted_00001_0000500_0002000": ("0.500 2.000", "Danke.", "Thank you."),
    "ted_00001_0002250_0002300": ("2.250 2.450", "Ja!", "Yes!"),
    "ted_00001_0003900_0004000": ("3.800 4.000", "Also", "So"),
    "ted_00023_0001000_0002250": ("1.000 2.250", "Es ist spät.", "It's late."),
}


@pytest.fixture
def prepare(run_local, tmp_path):
    return lambda root, *argv, code=0: run_local(
        must_c, tmp_path / "data", *argv, code=code, MUSTC=root
    )


@pytest.mark.parametrize("version", [1, 2])
def test_both_versions_give_the_same_sets(version, prepare, tmp_path):
    told = prepare(make_must_c(tmp_path, version))
    train = tmp_path / "data/st_train"
    segments = {u: v.split(maxsplit=1)[1] for u, v in read_table(train / "segments").items()}
    text, plain = read_table(train / "text"), read_table(train / "plain")
    assert {u: (segments[u], text[u], plain[u]) for u in segments} == TRAIN
    assert set(read_table(train / "wav.scp")) == {"ted_00001", "ted_00023"}
    assert read_table(train / "utt2spk")["ted_00023_0001000_0002250"] == "ted_00023"
    assert "st_train: 7 segments read, 4 written" in told and "2 segments widened to 0.2 s" in told
    assert read_table(tmp_path / "data/st_test/text")["ted_00008_0000000_0001000"] == "Warum?"
    skipped = (tmp_path / "data/skipped.tsv").read_text().splitlines()[1:]
    assert [(row.split("\t")[1].rpartition(":")[2], row.split("\t")[2]) for row in skipped] == [
        ("3", "repeated segment"), ("5", "no words"), ("7", "beyond the audio"),
    ]  # fmt: skip


def test_transcript_as_text_and_further_tests(prepare, tmp_path):
    told = prepare(
        make_must_c(tmp_path, language="it"), "--pair", "en-it", "--st-text", "transcript",
        "--st-test", "tst-COMMON", "tst-HE",
    )  # fmt: skip
    for name in ("st_train", "st_dev", "st_test", "st_tst_he"):
        folder = tmp_path / "data" / name
        assert read_table(folder / "text") == read_table(folder / "plain")
    # The applause has a transcript, though no translation.
    assert "st_train: 7 segments read, 5 written" in told


def test_fields_are_read_by_name(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text(
        "- {wav: 'ted_5.wav', speaker_id: spk.5, offset: 1e-1,   duration: 2}\n"
        "- {duration: 3.499999, offset: 16.08, rW: 12, uW: 0, speaker_id: spk.1, wav: ted_1.wav}\n"
    )
    first, second = must_c.read_marks(path)
    assert first[:2] == ("ted_5.wav", 0.1) and first.end_s == pytest.approx(2.1)
    assert second[0] == "ted_1.wav" and second.end_s == pytest.approx(19.579999)


@settings(derandomize=True, deadline=None)
@given(start=st.floats(0, 5), length=st.floats(0, 1), audio=st.floats(0.3, 6))
def test_widening_keeps_the_segment_and_the_audio(start, length, audio):
    mark = must_c.Mark("ted_1.wav", start, start + length, "x:1")
    new_start, new_end = must_c.Translations._widen(mark, audio)
    if mark.end_s > audio or length >= 0.2:
        assert (new_start, new_end) == (mark.start_s, mark.end_s)
        return
    assert new_start <= mark.start_s and new_end >= mark.end_s
    assert new_end <= audio and new_end - new_start >= 0.2 - 1e-9


def edit(root, file, old, new):
    path = root / "en-de/data/train" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


MISUSE = {
    "lines": (lambda r: edit(r, "txt/train.de", "Danke.\n", ""),
              ["train.yaml has 7, train.en has 7, train.de has 6"]),
    "one mark fewer": (lambda r: edit(r, "txt/train.yaml", "- {duration: 1.250000, offset: "
                       "1.000000, speaker_id: spk.23, wav: ted_23.wav}\n", ""),
                       ["train.yaml has 6, train.en has 7"]),
    "field": (lambda r: edit(r, "txt/train.yaml", "offset", "start"), ["train.yaml:1", "offset"]),
    "number": (lambda r: edit(r, "txt/train.yaml", "1.500000", "long"), ["train.yaml:1"]),
    "audio": (lambda r: (r / "en-de/data/train/wav/ted_23.wav").unlink(),
              ["the audio file is missing", "ted_23.wav"]),
    "text": (lambda r: (r / "en-de/data/dev/txt/dev.de").unlink(),
             ["the text file is missing", "dev.de"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSE)
def test_what_is_wrong_is_named(case, prepare, tmp_path):
    damage, words = MISUSE[case]
    root = make_must_c(tmp_path)
    damage(root)
    told = prepare(root, code=3)
    assert all(word in told for word in words), told


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["--pair", "en-nl"], 3, ["language pair en-nl is not in this copy", "--pair en-de"]),
        (["--pair", "de-en"], 2, ["'de-en' is no pair of MuST-C"]),
        (["--st-test", "tst-COMON"], 2, ["did you mean 'tst-COMMON'?"]),
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(argv, code, words, prepare, tmp_path):
    told = prepare(make_must_c(tmp_path), *argv, code=code)
    assert all(word in told for word in words), told
    assert not (tmp_path / "data").exists()


def test_the_variable_is_asked_for(prepare):
    assert "MUSTC is not set" in prepare(None, code=3)


def test_a_folder_of_one_pair_is_enough(prepare, tmp_path):
    prepare(make_must_c(tmp_path) / "en-de")
    assert len(read_table(tmp_path / "data/st_test/text")) == len(ROWS["tst-COMMON"])
