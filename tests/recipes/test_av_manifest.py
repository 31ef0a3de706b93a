# SPDX-License-Identifier: Apache-2.0
"""The manifest of clips, translations and transcripts: what it makes, and what it refuses."""

import json

import numpy as np
import pytest
import soundfile as sf
from av_trees import Maker
from recipe_tree import load_local

from espnet_ext.data.tables import read_table


@pytest.fixture(scope="module")
def script():
    return load_local("av_manifest")


def tone(path, seconds=1.0):
    sf.write(path, 0.3 * np.sin(np.arange(round(16000 * seconds)) / 20), 16000)
    return path.name


def write(folder, rows):
    path = folder / "manifest.jsonl"
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def speech(utt, part, **more):
    more = {"translation": "è tardi"} | more if "st_" in str(part) else more
    return {"set": part, "id": utt, "audio": "a.wav", "text": "it is late", **more}


def skipped(out):
    return [line.split("\t") for line in (out / "skipped.tsv").read_text().splitlines()[1:]]


def test_parts_of_one_file_and_lines_for_several_sets(script, run_local, tmp_path):
    tone(tmp_path / "a.wav", 3.0)
    path = write(
        tmp_path,
        [
            speech("u1", ["st_train", "train"], start_s=0, end_s=1.5, speaker="eva", pair="en-it"),
            speech("u2", "st_train", start_s=1.5, pair="en-it"),
            speech("u3", "st_train", start_s=5, end_s=6, pair="en-it"),
            speech("u4", "st_train", translation="es ist spät", pair="en-de"),
            speech("u5", "test_far"),
        ],
    )
    run_local(script, "out", "--pair", "en-it", MANIFEST=path)
    out = tmp_path / "out"
    assert read_table(out / "st_train/text") == {"u1": "è tardi", "u2": "è tardi"}
    assert read_table(out / "st_train/plain")["u2"] == "it is late"
    assert read_table(out / "st_train/segments")["u2"] == "u1 1.500 3.000"
    assert read_table(out / "train/text") == {"u1": "it is late"}
    assert read_table(out / "train/utt2spk") == {"u1": "eva"}
    assert [row[:3] for row in skipped(out)] == [
        ["st_train", f"{path}:4", "another pair of languages"],
        ["st_train", f"{path}:3", "beyond the audio"],
    ]
    run_local(script, "out", "--pair", "en-it", "--st-text", "transcript", MANIFEST=path)
    assert read_table(out / "st_train/text")["u1"] == "it is late"
    told = run_local(script, "out", code=3, MANIFEST=path)
    assert "several pairs of languages: " in told and f"{path}:4" in told and "--pair" in told


def test_faults_of_clips_leave_them_out_with_their_lines(script, run_local, tmp_path):
    pytest.importorskip("av")
    clip = Maker(tmp_path)
    clip("good.mp4"), clip("mute.mp4", sound_s=None), clip("short.mp4", frames=5)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:300])
    names = ("good", "mute", "short", "cut")
    rows = [{"set": "av_train", "id": n, "video": f"{n}.mp4"} for n in names]
    tone(tmp_path / "a.wav")  # a clip whose sound is a file of its own; sound without a picture
    rows.append({"set": "av_train", "id": "beside", "video": "mute.mp4", "audio": "a.wav"})
    rows.append({"set": "av_train", "id": "dark", "video": "a.wav"})
    rows.append({"set": ["av_dev", "train"], "id": "both", "video": "good.mp4", "text": "late"})
    rows.append({"set": "train", "id": "silent", "video": "mute.mp4", "text": "late"})
    path = write(tmp_path, rows)
    run_local(script, "out", "--jobs", "1", MANIFEST=path)
    out = tmp_path / "out"
    assert list(read_table(out / "av_train/video.scp")) == ["beside", "good"]
    faults = {int(row[1].removeprefix(f"{path}:")): row[0] + ": " + row[2] for row in skipped(out)}
    assert sorted(faults) == [2, 3, 4, 6, 8], faults
    assert faults[2] == "av_train: no sound" and faults[8] == "train: no sound"
    assert faults[3] == "av_train: sound and picture differ in length"
    assert read_table(out / "train/text") == {"both": "late"}  # the sound of the clip
    assert sf.info(read_table(out / "train/wav.scp")["both"]).samplerate == 16000


GOOD = speech("u1", "train")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{set: train}", "not JSON"),
        ("[1]", "no JSON object"),
        ('{"set": "train", "id": "u1", "text": "a", "text": "b"}', "'text' stands twice"),
        (GOOD | {"id": 7}, "id is no text: 7"),
        (GOOD | {"set": "st_trian"}, 'unknown set "st_trian"'),
        (GOOD | {"set": None}, "the line has no set"),
        (GOOD | {"id": "u0"}, "'u0' stands twice"),
        (GOOD | {"id": "a b"}, "not one word"),
        (GOOD | {"id": "a/b"}, "slash"),
        (GOOD | {"audio": "b.wav"}, "audio is missing: b.wav"),
        (GOOD | {"audio": ""}, "audio is missing or empty"),
        (GOOD | {"text": " "}, "text is missing or empty"),
        (GOOD | {"set": "st_dev"}, "translation is missing or empty"),
        (GOOD | {"set": "av_dev"}, "video is missing or empty"),
        (GOOD | {"video": "a.wav", "set": "av_dev", "end_s": 1}, "a clip is a whole file"),
        (GOOD | {"start_s": 2, "end_s": 1}, "starts at 2 s and ends at 1 s"),
        (GOOD | {"start_s": "1"}, "not a time in seconds"),
        (GOOD | {"transcript": "late"}, "unknown key 'transcript'"),
        (GOOD | {"text": "a\x00b"}, "control character"),
        (GOOD | {"text": ["late"]}, "text is no text"),
        (GOOD | {"audio": "broken.wav"}, "broken.wav"),
    ],
)
def test_what_is_wrong_with_a_line_is_told_with_the_line(script, run_local, tmp_path, line, told):
    tone(tmp_path / "a.wav")
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    path = write(tmp_path, [speech("u0", "train"), line])
    found = run_local(script, "out", code=3, MANIFEST=path)
    assert told in found and f"{path}:2" in found and "fix:" in found, found
    assert ("did you mean 'st_train'?" in found) == ("st_trian" in told)
    assert not list((tmp_path / "out").glob("*/text"))


def test_what_is_wrong_with_the_manifest(script, run_local, tmp_path):
    assert "MANIFEST is not set" in run_local(script, "out", code=3, MANIFEST=None)
    assert "no *.jsonl" in run_local(script, "out", code=3, MANIFEST=tmp_path)
    path = write(tmp_path, [""])
    assert "lists nothing" in run_local(script, "out", code=3, MANIFEST=path)
    tone(tmp_path / "a.wav")
    write(tmp_path, [speech("u0", "st_dev", pair="en-it")])
    told = run_local(script, "out", "--pair", "en-ti", code=2, MANIFEST=path)
    assert "did you mean 'en-it'?" in told


ST, AV = ["st_train", "st_dev", "st_test"], ["av_train", "av_dev"]


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ([], "not read by this experiment: test_far; --data.test '[test, test_far]'"),
        (["st_dev"], "no line of set st_dev"),
        (ST, "--preset without_translations does without translations"),
        (AV, "--preset without_clips does without clips"),
        (ST + AV, "--preset transcripts_only does without clips and translations"),
        (["dev", *ST], "no line of set dev, st_dev, st_test, st_train"),
    ],
)
def test_a_set_that_the_recipe_reads_is_missed_before_audio_is_read(
    script, run_local, tmp_path, monkeypatch, lacking, told
):
    tone(tmp_path / "a.wav")
    rows = [speech(n, n) for n in ("train", "dev", "test", "test_far", *ST) if n not in lacking]
    rows += [speech(name, name, video="a.wav") for name in AV if name not in lacking]
    path = write(tmp_path, rows)
    read = []
    monkeypatch.setattr(script, "make", lambda out, rows, args: read.append(rows) or [])
    needed = " ".join(["train", "dev", "test", *ST, *AV])
    code = 3 if lacking else 0
    found = run_local(script, "out", code=code, MANIFEST=path, ESPNET_EXT_SETS=needed)
    assert told in found and bool(read) == (not lacking), found
    assert ("add some" in found) == (told.startswith("no line"))
