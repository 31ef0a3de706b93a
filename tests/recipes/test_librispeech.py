# SPDX-License-Identifier: Apache-2.0
"""The data preparation of LibriSpeech, on a small tree in the layout of the corpus."""

import pytest
import soundfile
from librispeech_tree import PARTS, make_archives, make_librispeech
from recipe_tree import load_local

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, SetupError
from espnet_ext.files import sha256_file

librispeech = load_local("librispeech")
DISK = "--prepare.disk_mb=10"
SETS = ("labelled", "unlabelled", "dev", "test_clean", "test_other")


@pytest.fixture
def corpus(tmp_path):
    return make_librispeech(tmp_path / "corpus")


@pytest.fixture
def prepare(run_local):
    return lambda path, out, *argv, code=0: run_local(
        librispeech, out, *argv, code=code, LIBRISPEECH=path
    )


def test_from_the_corpus_to_formatted_audio(recipe_copy, tmp_path, corpus):
    recipe = recipe_copy("librispeech/bl_just1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", env={"LIBRISPEECH": str(corpus.parent)})
    data = recipe.path / "data"
    assert (data / "labelled/text").read_text() == (
        "103-1240-0000 CHAPTER ONE\n103-1240-0001 IT'S A WELL KNOWN FACT\n26-495-0000 YES\n"
    )
    assert (data / "labelled/spk2utt").read_text() == (
        "103-1240 103-1240-0000 103-1240-0001\n26-495 26-495-0000\n"
    )
    counts = {s: len(read_table(data / s / "wav.scp")) for s in SETS}
    assert counts == {"labelled": 3, "unlabelled": 2, "dev": 2, "test_clean": 2, "test_other": 1}
    # The hidden words are nowhere: not in data, not in dump, not in what later stages read.
    assert not (data / "unlabelled/text").exists()
    for path in (*data.rglob("*"), *(recipe.path / "dump").rglob("*")):
        assert not path.is_file() or b"HIDDEN" not in path.read_bytes()
    wav = read_table(recipe.path / "dump/unlabelled/wav.scp")["100-121669-0001"]
    assert soundfile.info(wav).frames == 8000 and str(corpus) in wav  # read where it lies
    assert "labelled: 3 utterances of train-clean-100 (note: the whole corpus has 28539)" in out


def test_parts_are_options_and_overlap_is_told(tmp_path, corpus, prepare):
    out = prepare(corpus, tmp_path / "data", "--dev", "dev-clean", "--unlabelled",
                  "train-clean-100", "train-other-500")  # fmt: skip
    assert list(read_table(tmp_path / "data/unlabelled/utt2spk")) == [
        "103-1240-0000", "103-1240-0001", "20-205-0000", "26-495-0000",
    ]  # fmt: skip
    assert list(read_table(tmp_path / "data/dev/text")) == ["84-121123-0000"]
    assert "train-clean-100 is in both sets" in out


def utt(root, part, name):
    return root / part / name.rpartition("-")[0].replace("-", "/") / f"{name}.flac"


def transcript(root, old, new):
    path = root / "train-clean-100/103/1240/103-1240.trans.txt"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


MISUSE = {
    "flac": (lambda r: utt(r, "train-clean-100", "103-1240-0001").unlink(),
             ["audio of '103-1240-0001' is missing", "103-1240.trans.txt:2"]),
    "line": (lambda r: transcript(r, "103-1240-0000 CHAPTER ONE\n", ""),
             ["1 of 3 audio files have no transcript", "103-1240-0000.flac"]),
    "trans": (lambda r: (r / "train-clean-100/26/495/26-495.trans.txt").unlink(),
              ["1 of 3 audio files have no transcript", "26-495.trans.txt"]),
    "empty": (lambda r: transcript(r, " CHAPTER ONE", ""),
              ["not '103-1240-NUMBER TEXT'", "103-1240.trans.txt:1"]),
    "chapter": (lambda r: transcript(r, "103-1240-0001", "103-1241-0001"),
                ["not '103-1240-NUMBER TEXT'", "103-1240.trans.txt:2"]),
    "twice": (lambda r: transcript(r, "103-1240-0001", "103-1240-0000"),
              ["stands twice", "103-1240.trans.txt:2"]),
    "moved": (lambda r: utt(r, "train-clean-360", "100-121669-0000").rename(
                  r / "train-clean-360/100/121669/7-8-0000.flac"),
              ["another reader's or chapter's folder", "7-8-0000.flac"]),
    "part": (lambda r: (r / "train-clean-360").rename(r / "x"),
             ["there is no train-clean-360", "other parts are chosen by prepare.args"]),
    "no audio": (lambda r: [p.unlink() for p in (r / "train-clean-360").rglob("*.flac")],
                 ["there is no READER/CHAPTER/*.flac", "train-clean-360"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSE)
def test_what_is_wrong_is_named(case, tmp_path, corpus, prepare):
    damage, words = MISUSE[case]
    damage(corpus)
    out = prepare(corpus, tmp_path / "data", code=3)
    assert all(word in out for word in words), out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labelled", "train-clean-10"], ["no part 'train-clean-10'", "train-clean-100"]),
        (["--unlabelled", "dev-other"], ["dev-other would be trained on and scored"]),
    ],
)
def test_wrong_parts_are_refused(options, words, tmp_path, corpus, prepare):
    out = prepare(corpus, tmp_path / "data", *options, code=2)
    assert all(word in out for word in words) and not (tmp_path / "data").exists()


@pytest.fixture
def server(monkeypatch, tmp_path, corpus):
    """Archives under file: addresses in place of OpenSLR's, with their own checksums."""
    archives = make_archives(corpus, tmp_path / "server")
    monkeypatch.delenv("LIBRISPEECH", raising=False)
    monkeypatch.setattr(librispeech, "URL", f"file://{tmp_path}/server/{{}}.tar.gz")
    monkeypatch.setattr(librispeech, "SHA256", {p: sha256_file(a) for p, a in archives.items()})
    monkeypatch.setattr(librispeech, "ARCHIVE_GB", dict.fromkeys(PARTS, 1e-6))
    return archives


def test_missing_parts_are_downloaded_once(server, tmp_path):
    downloads = tmp_path / "downloads"
    found = librispeech.find_corpus(["train-clean-100", "dev-clean"], downloads)
    assert set(librispeech.read_labelled(found["train-clean-100"])) == {
        "103-1240-0000", "103-1240-0001", "26-495-0000",
    }  # fmt: skip
    for archive in (*server.values(), *downloads.glob("*.tar.gz")):
        archive.unlink()
    assert librispeech.find_corpus(["train-clean-100"], downloads) == {
        "train-clean-100": found["train-clean-100"]
    }
    with pytest.raises(DataError, match="cannot be copied"):
        librispeech.find_corpus(["dev-other"], downloads)


def test_a_wrong_archive_is_not_unpacked(server, tmp_path, monkeypatch):
    monkeypatch.setitem(librispeech.SHA256, "dev-clean", "0" * 64)
    with pytest.raises(DataError, match="SHA-256"):
        librispeech.find_corpus(["dev-clean"], tmp_path / "downloads")
    assert not (tmp_path / "downloads/dev-clean").exists()


def test_space_is_asked_for_before_the_download(server, tmp_path, monkeypatch):
    monkeypatch.setitem(librispeech.ARCHIVE_GB, "train-other-500", 1e9)
    with pytest.raises(SetupError, match="GB are free"):
        librispeech.find_corpus(["dev-clean", "train-other-500"], tmp_path / "downloads")
    assert not list((tmp_path / "downloads").iterdir())


def test_every_part_has_size_checksum_and_count():
    assert set(librispeech.SHA256) == set(librispeech.ARCHIVE_GB) == set(librispeech.EXPECTED)
    assert {len(s) for s in librispeech.SHA256.values()} == {64}
