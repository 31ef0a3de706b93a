# SPDX-License-Identifier: Apache-2.0
"""Data folders that exist, as the sets of a recipe."""

import numpy as np
import pytest
import soundfile

from espnet_ext.data import slu_manifest, slu_sets
from espnet_ext.data.sets_from import copy_set, parse_folders, slu_rows
from espnet_ext.data.slu_manifest import SluRow
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError


@pytest.fixture
def given(tmp_path):
    """A folder data/train as recipes make it: audio is named from the folder that holds data."""
    folder = tmp_path / "recipe/data/train"
    folder.mkdir(parents=True)
    (tmp_path / "recipe/wav").mkdir()
    soundfile.write(tmp_path / "recipe/wav/a b.wav", np.zeros(16000), 16000)
    write_table(folder / "wav.scp", {"rec": "wav/a b.wav", "tape": "sph2pipe a.sph |"})
    write_table(folder / "text", {"u1": "one", "u2": "two"})
    write_table(folder / "segments", {"u1": "rec 0.0 0.5", "u2": "rec 0.5 -1"})
    (folder / "feats.scp").write_text("u1 gone.ark:5\n")
    return folder


def test_tables_are_copied_and_files_are_named_absolutely(given, tmp_path):
    assert copy_set(given, tmp_path / "out") == 2
    made = {p.name: read_table(p) for p in (tmp_path / "out").iterdir()}
    assert made.pop("wav.scp") == {
        "rec": str(tmp_path / "recipe/wav/a b.wav"), "tape": "sph2pipe a.sph |",
    }  # fmt: skip
    assert made.pop("utt2spk") == made.pop("spk2utt") == {"u1": "u1", "u2": "u2"}
    assert made == {name: read_table(given / name) for name in ("text", "segments")}


def test_what_follows_a_path_stays(given, tmp_path):
    """The place in a shard, and the times of a video; a path of a video may have spaces."""
    for name in ("s.tar", "v.mp4", "w x.mp4"):
        (tmp_path / "recipe/wav" / name).touch()
    (given / "segments").unlink()
    tables = {
        "wav.scp": {"u1": "wav/s.tar:512:27768", "u2": "sph2pipe a.sph |"},
        "video.scp": {"u1": "wav/v.mp4 0.0 1.5", "u2": "wav/w x.mp4"},
    }
    for name, rows in tables.items():
        write_table(given / name, rows)
    copy_set(given, tmp_path / "out")
    for name, rows in tables.items():
        whole = {u: v.replace("wav/", f"{tmp_path}/recipe/wav/") for u, v in rows.items()}
        assert dict(read_table(tmp_path / "out" / name)) == whole
    (given / "wav.scp").write_text("u1 wav/none.tar:512:4\nu2 wav/a b.wav\n")
    with pytest.raises(DataError, match=r"missing: wav/none\.tar"):
        copy_set(given, tmp_path / "out2")


def test_what_is_missing_is_told_with_its_line(given, tmp_path):
    (given / "wav.scp").write_text("rec wav/none.wav\n")
    with pytest.raises(DataError, match=r"wav/none\.wav") as e:
        copy_set(given, tmp_path / "out")
    assert e.value.where == f"{given / 'wav.scp'}:1"
    (given / "text").write_text("u1 one\nu2 <city rome >\n")
    (given / "wav.scp").write_text("rec wav/a b.wav\n")
    with pytest.raises(DataError) as e:
        list(slu_rows({"train": given}))
    assert e.value.where.startswith(f"{given / 'text'}:2")
    (given / "segments").write_text("u1 rec 0.0 0.5\n")
    with pytest.raises(DataError, match="'u2' is not in segments"):
        write_table(given / "text", {"u1": "one", "u2": "two"})
        list(slu_rows({"train": given}))


@pytest.mark.parametrize("text", ["train", "=/x", "a/b=/x", "train="])
def test_arguments_of_another_form(text):
    with pytest.raises(UsageError, match="names no set"):
        parse_folders([text])


@pytest.mark.parametrize("times", [(None, None), (0.25, 0.75)])
def test_sets_of_tagged_speech_come_back_as_they_were(times, tmp_path):
    audio = tmp_path / "a.wav"
    soundfile.write(audio, np.zeros(16000), 16000)
    rows = [SluRow(f"u{i}", str(audio), *times, f"s{i}", ("fr", "it")[i], "to Rome", tagged, "dev",
                   f"m{i}")
            for i, tagged in enumerate(("to <city> Rome >", "to Rome"))]  # fmt: skip
    for out in ("first", "second"):
        slu_manifest.write(tmp_path / f"{out}.tsv", rows)
        read = list(slu_manifest.read(tmp_path / f"{out}.tsv"))
        slu_sets.write_sets(read, tmp_path / out, slu_sets.default_sets(["dev"]))
        rows = list(slu_rows({"dev": tmp_path / out / "dev"}))
    files = [sorted((tmp_path / out / "dev").iterdir()) for out in ("first", "second")]
    assert [[p.read_text() for p in f] for f in files[:1]] == [[p.read_text() for p in files[1]]]
    assert {p.name for p in files[0]} >= {"utt2lang", "plain", "meaning"}
