# SPDX-License-Identifier: Apache-2.0
"""The recipe on own data: every kind of folder comes to the same, and what is wrong is told."""

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import soundfile as sf
from recipe_tree import load_local

from espnet_ext.data.check import check_dir
from espnet_ext.data.tables import read_table

manifest = load_local("manifest")
SECONDS = 0.25


def noise(path, seed=0, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = np.random.default_rng(seed).integers(-99, 99, round(SECONDS * 8000))
    sf.write(path, wave.astype(np.int16), 8000, **kwargs)
    return path


@pytest.fixture
def given(tmp_path):
    """Twenty labelled utterances of two speakers as Kaldi files; six unlabelled audio files."""
    labelled, unlabelled = tmp_path / "labelled", tmp_path / "more audio"
    utts = [f"{'ab'[i % 2]}-{i:02d}" for i in range(20)]
    paths = {utt: noise(labelled / f"{utt}.wav", i) for i, utt in enumerate(utts)}
    (labelled / "wav.scp").write_text("".join(f"{u} {p.name}\n" for u, p in paths.items()))
    (labelled / "text").write_text("".join(f"{u} AB\n" for u in utts))
    (labelled / "utt2spk").write_text("".join(f"{u} {u[0]}\n" for u in utts))
    noise(unlabelled / "x/1/u1.flac", 100)
    noise(unlabelled / "x/1/u2.WAV", 101, format="WAV")
    noise(unlabelled / "x/2/u 3.sph", 102, format="NIST")
    noise(unlabelled / "y/u4.ogg", 103)
    noise(unlabelled / "u5.wav", 104)
    noise(unlabelled / "._hidden.wav", 105)
    (unlabelled / "notes.txt").write_text("no audio\n")
    return labelled, unlabelled


@pytest.fixture
def prepare(run_local):
    """Return ``prepare(labelled, unlabelled, *argv, code=0, **variables) -> what it printed``."""

    def call(labelled, unlabelled, *argv, code=0, **variables):
        folders = {"LABELLED": labelled, "UNLABELLED": unlabelled, "VALID": "", "TEST": ""}
        return run_local(manifest, "data", *argv, code=code, **folders | variables)

    return call


def ids(tmp_path, name):
    return list(read_table(tmp_path / "data" / name / "utt2spk"))


def test_kaldi_files_and_a_folder_of_audio(given, prepare, tmp_path):
    out = prepare(*given)
    assert "VALID is not set, so 2 labelled" in out and "TEST is not set, so 2 labelled" in out
    assert "0 of 5 unlabelled utterances are labelled ones too" in out
    parts = [ids(tmp_path, n) for n in ("labelled", "dev", "test")]
    assert sorted(map(len, parts)) == [2, 2, 16] and len(set().union(*parts)) == 20
    assert Counter(u[0] for u in parts[0]) == {"a": 8, "b": 8}
    assert read_table(tmp_path / "data/unlabelled/utt2spk") == {
        "u5": "u5", "x-1-u1": "x-1", "x-1-u2": "x-1", "x-2-u_3": "x-2", "y-u4": "y"
    }  # fmt: skip
    assert not (tmp_path / "data/unlabelled/text").exists()
    for name in ("labelled", "dev", "test", "unlabelled"):
        need_text = name != "unlabelled"
        findings = check_dir(tmp_path / "data" / name, need_text=need_text)
        assert [f for f in findings if f.level == "error"] == []


def test_manifests_come_to_the_same_as_kaldi_files(given, prepare, tmp_path):
    labelled, unlabelled = given
    prepare(labelled, unlabelled)
    tables = ("wav.scp", "text", "utt2spk", "spk2utt")
    before = {
        n: [read_table(tmp_path / "data" / n / t) for t in tables] for n in ("labelled", "dev")
    }
    text, utt2spk = read_table(labelled / "text"), read_table(labelled / "utt2spk")
    rows = [{"id": u, "audio": p, "text": text[u], "speaker": utt2spk[u], "more": "x"}
            for u, p in read_table(labelled / "wav.scp").items()]  # fmt: skip
    tsv = ["\t".join(rows[0]), *(" \t".join(row.values()) for row in rows)]  # blanks around cells
    jsonl = [json.dumps(row) for row in rows]
    for name, lines in (("manifest.tsv", tsv), ("manifest.jsonl", jsonl)):
        for old in ("wav.scp", "text", "utt2spk", "manifest.tsv"):
            (labelled / old).unlink(missing_ok=True)
        (labelled / name).write_text("\n".join(lines) + "\n")
        prepare(labelled, unlabelled)
        for n, expected in before.items():
            assert [read_table(tmp_path / "data" / n / t) for t in tables] == expected


def test_sets_that_are_given_are_taken_whole(given, prepare, tmp_path):
    labelled, unlabelled = given
    test = tmp_path / "test"
    (test / "manifest.tsv").parent.mkdir()
    (test / "manifest.tsv").write_text(f"id\taudio\ttext\nt1\t{labelled}/a-00.wav\tONE\n")
    out = prepare(labelled, unlabelled, VALID=test, TEST=test)
    assert len(ids(tmp_path, "labelled")) == 20
    assert ids(tmp_path, "test") == ids(tmp_path, "dev") == ["t1"]
    assert "1 of 1 test utterances are labelled ones too" in out


def test_audio_in_both_is_told_and_held_out_audio_is_in_neither(given, prepare, tmp_path):
    labelled, _ = given
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    scp = (labelled / "wav.scp").read_text().replace(" ", f" {labelled}/")
    (hidden / "wav.scp").write_text(scp)
    out = prepare(labelled, hidden)
    assert "16 of 16 unlabelled utterances are labelled ones too: an easier setting" in out
    assert ids(tmp_path, "unlabelled") == ids(tmp_path, "labelled")
    (hidden / "wav.scp").write_text(scp.replace("a-02.wav", "a-04.wav"))
    out = prepare(labelled, hidden, code=3)
    assert "'a-02' is the id of different audio" in out


def spoil_text_file(labelled, unlabelled):
    (unlabelled / "text").write_text("x-1-u1 HELLO\n")
    return "holds text", f"{unlabelled}/text"


def spoil_text_column(labelled, unlabelled):
    (unlabelled / "manifest.tsv").write_text("id\taudio\ttext\nu\ty/u4.ogg\tHELLO\n")
    return "holds text", "manifest.tsv:1 (column text)"


def spoil_text_key(labelled, unlabelled):
    rows = [{"id": "u", "audio": "y/u4.ogg"}, {"id": "v", "audio": "u5.wav", "text": "HELLO"}]
    (unlabelled / "manifest.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    return "holds text", "manifest.jsonl:2"


def spoil_key_twice(labelled, unlabelled):
    (unlabelled / "manifest.jsonl").write_text('{"id": "u", "audio": "y/u4.ogg", "id": "v"}\n')
    return "the key 'id' stands twice", "manifest.jsonl:1"


def spoil_missing_audio(labelled, unlabelled):
    (labelled / "b-03.wav").unlink()
    return "the audio file is missing: b-03.wav", "wav.scp:4"


def spoil_missing_in_manifest(labelled, unlabelled):
    (unlabelled / "manifest.tsv").write_text("id\taudio\nu\ty/u4.ogg\nv\tgone.wav\n")
    return "the audio file is missing: gone.wav", "manifest.tsv:3"


def spoil_empty_labelled(labelled, unlabelled):
    for name in ("wav.scp", "text", "utt2spk"):
        (labelled / name).write_text("")
    return "the set is empty", str(labelled)


def spoil_no_text(labelled, unlabelled):
    (labelled / "text").unlink()
    return "text is missing", str(labelled)


def spoil_twice(labelled, unlabelled):
    (unlabelled / "manifest.tsv").write_text("id\taudio\nu\ty/u4.ogg\nu\tu5.wav\n")
    return "'u' stands twice", "manifest.tsv:3"


def spoil_twice_in_wav_scp(labelled, unlabelled):
    with open(labelled / "wav.scp", "a") as f:
        f.write("a-00 a-00.wav\n")
    return "'a-00' stands twice", "wav.scp:21"


def spoil_equal_names(labelled, unlabelled):
    noise(unlabelled / "x/1-u1.wav")
    return "two files would have the id 'x-1-u1'", "x/1/u1.flac"


def spoil_no_audio(labelled, unlabelled):
    for path in [p for p in unlabelled.rglob("*") if p.is_file()]:
        path.unlink()
    return "no wav.scp, no manifest and no audio", str(unlabelled)


def spoil_columns(labelled, unlabelled):
    (labelled / "wav.scp").unlink()
    (labelled / "manifest.tsv").write_text("id\taudio\ttext\na-00\ta-00.wav\n")
    return "the line has 2 columns", "manifest.tsv:2"


def spoil_columns_twice(labelled, unlabelled):
    (labelled / "wav.scp").unlink()
    (labelled / "manifest.tsv").write_text("id\taudio\ttext\ttext\na-00\ta-00.wav\tA\tB\n")
    return "the column text stands twice", "manifest.tsv:1"


def spoil_blank_beside_the_id(labelled, unlabelled):
    (unlabelled / "manifest.jsonl").write_text('{"id": "u ", "audio": "y/u4.ogg"}\n')
    return "an id or speaker holds blanks", "manifest.jsonl:1"


def spoil_too_few(labelled, unlabelled):
    (labelled / "wav.scp").write_text("a-00 a-00.wav\nb-01 b-01.wav\n")
    return "too few to hold out", "LABELLED"


SPOILERS = [f for name, f in sorted(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILERS, ids=lambda f: f.__name__.removeprefix("spoil_"))
def test_what_is_wrong_is_told_with_its_place(given, prepare, spoil, tmp_path):
    what, where = spoil(*given)
    out = prepare(*given, code=3)
    assert what in out and where in out
    assert not (tmp_path / "data").exists()


def test_a_folder_that_is_not_given_is_named(given, prepare):
    assert "UNLABELLED=/path" in prepare(given[0], None, code=3)
    assert "does not exist" in prepare(given[0], given[0] / "none", code=3)
    assert "--held-out" in prepare(*given, "--held-out", "0.7", code=2)


def test_the_recipe_from_folders_named_from_where_it_is_called(recipe_copy, given, tmp_path):
    recipe = recipe_copy("manifest/bl_just1", tmp_path / "tree")
    labelled, unlabelled = given
    env = {**os.environ, "ESPNET_EXT_PYTHON": sys.executable, "LABELLED": labelled.name,
           "UNLABELLED": unlabelled.name}  # fmt: skip
    command = ["bash", str(recipe.path / "run.sh"), "--stop-stage", "4", "--format.fs=8000",
               "--format.min_s=0.1", "--tokens.type=char"]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    # x-1 has two files of less than 3 s, the other speakers one each.
    assert "unlabelled: 5 read, 4 written, 1 joined to others" in done.stdout
    scp = read_table(recipe.path / "dump/unlabelled/wav.scp")
    assert sf.info(recipe.path / scp["x-1-u1-joined2"]).frames == 2 * SECONDS * 8000
    assert "labelled: 16 read, 16 written" in done.stdout
    env["UNLABELLED"] = str(labelled)
    done = subprocess.run([*command, "--force"], cwd=tmp_path, env=env, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 3 and "the unlabelled data holds text" in done.stderr
