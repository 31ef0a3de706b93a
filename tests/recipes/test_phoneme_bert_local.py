# SPDX-License-Identifier: Apache-2.0
"""ATIS and TREC6 of Phoneme-BERT: small trees in both layouts, bad input, the real counts."""

import os
import re
from pathlib import Path

import pytest
from recipe_tree import ROOT, load_local

from espnet_ext.data.tables import read_table

script = load_local("phoneme_bert")
REAL = Path(os.environ.get("PHONEME_BERT") or ROOT.parent / "shared/data/phoneme_bert")
FILES = ("text_original.txt", "en.classification.txt", "labels.classification.txt")
ROWS = [
    ("Show me flights to Boston .", "show me lights to boston", "atis_flight"),
    ("what is the fare", "what is fare", "atis_airfare"),
    ("which flights leave today", "", "atis_flight"),
]
TEXTS = ["show", "me", "the", "first", "flight", "from", "boston", "to", "denver", "please"]


def write_corpus(folder, rows=None):
    for split in ("train", "valid", "test"):
        (folder / split).mkdir(parents=True)
        for name, column in zip(FILES, zip(*(rows or ROWS), strict=True), strict=True):
            (folder / split / name).write_text("".join(f"{x}\n" for x in column))
        (folder / split / "ph.classification.txt").write_text("SH.OW.\n")  # not read
    return folder


@pytest.fixture
def prepare(run_local, tmp_path):
    """Return ``prepare(root, *argv, code=0) -> what it printed``; sets go to tmp_path/data."""

    def call(root, *argv, code=0):
        argv = argv or ("--wer",)
        return run_local(script, "data", "--corpus", "atis", *argv, code=code, PHONEME_BERT=root)

    return call


@pytest.mark.parametrize("below", ["atis", "phomeme-bert-data/downstream-datasets/atis"])
def test_three_tables_of_every_set_from_both_layouts(tmp_path, prepare, below):
    write_corpus(tmp_path / "root" / below)
    out = prepare(tmp_path / "root")
    for split in ("train", "valid", "test"):
        ids = [f"atis-{split}-{i:06d}" for i in (1, 2, 3)]
        for file, column in zip(("text_manual", "text_asr", "label"), range(3), strict=True):
            expected = {utt: row[column] for utt, row in zip(ids, ROWS, strict=True)}
            assert read_table(tmp_path / "data" / split / file) == expected
    # 14 words; as they stand 9 are wrong, in lower case 7 and without the full stop 6 of 13.
    line = re.search(r"^test .*$", out, re.M)[0].split()
    assert line[:3] == ["test", "3", "2"] and line[3:9:2] == ["64.3", "50.0", "46.2"]
    assert line[-4:-3] == ["1"] and line[-3:] == ["atis_flight", "66.7", "%"]
    assert "3 texts of test occur in train too (3 of 3 utterances)" in out
    assert "note: train has 3 lines, the whole corpus 3867" in out


def test_degraded_test_sets_have_their_rate_and_the_same_labels(tmp_path, prepare):
    texts = [" ".join(TEXTS[i % 3 : 5 + i % 6]) for i in range(120)]
    rows = [(t, " ".join(t.split()[: i % 4 or None]), f"l{i % 3}") for i, t in enumerate(texts)]
    write_corpus(tmp_path / "root/atis", rows)
    out = prepare(tmp_path / "root", "--wer", "15", "30")
    rates = re.findall(r"^test_wer(\d+): 120 utterances, .* WER ([\d.]+) %$", out, re.M)
    assert [a for a, _ in rates] == ["15", "30"]
    assert all(abs(float(a) - float(b)) <= 0.5 for a, b in rates)
    for file in ("text_manual", "label"):
        expected = read_table(tmp_path / "data/test" / file)
        assert read_table(tmp_path / "data/test_wer30" / file) == expected
    first = read_table(tmp_path / "data/test_wer30/text_asr")
    assert list(first) == list(expected) and first != read_table(tmp_path / "data/test/text_asr")
    prepare(tmp_path / "root", "--wer", "15", "30")
    assert read_table(tmp_path / "data/test_wer30/text_asr") == first


def lose_a_line(folder):
    path = folder / "valid/en.classification.txt"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    return "text_original.txt has 3, en.classification.txt has 2", "text_original.txt:3 has no"


def lose_a_file(folder):
    (folder / "test/labels.classification.txt").unlink()
    return "labels.classification.txt is missing", "test/labels.classification.txt"


def empty_a_label(folder):
    (folder / "train/labels.classification.txt").write_text("atis_flight\n\natis_flight\n")
    return "the label is empty", "train/labels.classification.txt:2"


def two_labels(folder):
    (folder / "train/labels.classification.txt").write_text("atis_flight\nflight air\nx\n")
    return "'flight air' is not one word", "train/labels.classification.txt:2"


def not_utf8(folder):
    (folder / "test/text_original.txt").write_bytes(b"one\ntwo\nm\xfcnchen\n")
    return "not UTF-8", "test/text_original.txt:3"


@pytest.mark.parametrize("spoil", [lose_a_line, lose_a_file, empty_a_label, two_labels, not_utf8])
def test_bad_input_is_named_by_file_and_line(tmp_path, prepare, spoil):
    what, where = spoil(write_corpus(tmp_path / "root/atis"))
    out = prepare(tmp_path / "root", code=3)
    assert what in out and where in out and not (tmp_path / "data").exists()


def test_lines_that_end_otherwise_are_the_same_lines(tmp_path, prepare):
    folder = write_corpus(tmp_path / "root/atis")
    path = folder / "test/en.classification.txt"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    (folder / "test" / FILES[2]).write_text("atis_flight\natis_airfare\natis_flight")  # no end
    prepare(tmp_path / "root")
    assert list(read_table(tmp_path / "data/test/text_asr").values()) == [r[1] for r in ROWS]


def test_without_the_corpus_it_says_where_to_get_it(tmp_path, prepare):
    assert "PHONEME_BERT is not set" in (out := prepare(None, code=3)) and "git clone" in out
    assert "no atis/ with train/" in prepare(tmp_path, code=3)
    archive = tmp_path / "phomeme-bert-data/downstream-datasets/atis.zip"
    archive.parent.mkdir(parents=True)
    archive.write_bytes(b"")
    assert f"unzip {archive}" in prepare(tmp_path, code=3)
    assert "cannot be 120" in prepare(tmp_path, "--wer", "120", code=2)


@pytest.mark.skipif(not REAL.is_dir(), reason="set PHONEME_BERT=/path to test on the real files")
@pytest.mark.parametrize(
    "corpus, classes, rates, exact, empty",
    [
        ("atis", 8, "27.7 28.5 30.7", "15.5 16.2 11.0", "10 5 1"),
        ("trec6", 6, "56.7 55.3 57.7", "0.0 0.0 0.0", "0 0 0"),
    ],
)
def test_counts_of_the_real_files(run_local, corpus, classes, rates, exact, empty):
    out = run_local(script, "data", "--corpus", corpus, "--wer", PHONEME_BERT=REAL.resolve())
    rows = [re.search(rf"^{s} .*$", out, re.M)[0].split() for s in ("train", "valid", "test")]
    assert [r[1] for r in rows] == [str(n) for n in script.EXPECTED[corpus].values()]
    assert {r[2] for r in rows} == {str(classes)}
    assert " ".join(r[3] for r in rows) == rates and " ".join(r[9] for r in rows) == exact
    assert " ".join(r[12] for r in rows) == empty
    if corpus == "atis":
        assert rows[2][-3:] == ["atis_flight", "79.0", "%"]
        assert "96 texts of valid occur in train too" in out
