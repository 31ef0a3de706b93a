# SPDX-License-Identifier: Apache-2.0
"""Audio-visual corpora into folders: small trees in each set's layout, with real video files."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from av_trees import WORDS, make_grid, make_kinetics600, make_lrs3, make_voxceleb2
from hypothesis import given, settings
from hypothesis import strategies as st
from recipe_tree import ROOT, load_local

from espnet_ext.data import origin
from espnet_ext.data.check import check_dir
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError

pytest.importorskip("av")
av_clips, lrs3, grid = load_local("av_clips"), load_local("lrs3"), load_local("grid")
voxceleb2, kinetics600 = load_local("voxceleb2"), load_local("kinetics600")
CORPORA = {
    "LRS3": (lrs3, make_lrs3),
    "VOXCELEB2": (voxceleb2, make_voxceleb2),
    "KINETICS600": (kinetics600, make_kinetics600),
    "GRID": (grid, make_grid),
}
REAL = Path(os.environ.get("GRID") or ROOT.parent / "shared/data/grid")


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    made = tmp_path_factory.mktemp("corpora")
    return {name: make(made / name) for name, (_, make) in CORPORA.items()}


@pytest.fixture
def prepare(run_local, tmp_path):
    def run(name, root, *argv, code=0):
        script = CORPORA[name][0]
        return run_local(script, tmp_path / "data", "--jobs", "1", *argv, code=code, **{name: root})

    return run


def column(folder, file="wav.scp"):
    return read_table(folder / file)


def skips(data):
    rows = [line.split("\t") for line in (data / "skipped.tsv").read_text().splitlines()[1:]]
    return sorted((name, Path(where).name, reason) for name, where, reason, _ in rows)


def test_lrs3(trees, prepare, tmp_path):
    told = prepare("LRS3", trees["LRS3"], "--dev-share", "0.25")
    data = tmp_path / "data"
    train, dev = (column(data / s, "utt2spk") for s in ("av_train", "av_dev"))
    assert {**train, **dev} == {
        "0aBcDeFgHiJ_pretrain_00001": "0aBcDeFgHiJ",
        "0aBcDeFgHiJ_trainval_50001": "0aBcDeFgHiJ",
        "-k_LmNoPqRs_pretrain_00001": "-k_LmNoPqRs",
        "TuVwXyZ0123_trainval_50001": "TuVwXyZ0123",
        "456789abcde_trainval_50001": "456789abcde",
    }
    assert len(set(dev.values())) == 1 and not set(dev.values()) & set(train.values())
    assert sorted(row[1:] for row in skips(data)) == [
        ("00002.mp4", "not readable as video"), ("50002.mp4", "no sound"),
        ("50003.mp4", "sound and picture differ in length"), ("50009.txt", "text without a clip"),
    ]  # fmt: skip
    read = sum(int(line.split()[1]) for line in told.splitlines() if " clips read" in line)
    assert read == 9 == len(train) + len(dev) + len(skips(data))
    assert not (data / "av_train/text").exists()  # the words are not asked for
    for folder in ("av_train", "av_dev"):
        found = check_dir(data / folder, need_text=False)
        assert not [f for f in found if f.level == "error"]


def test_words_of_lrs3(trees, prepare, tmp_path):
    prepare("LRS3", trees["LRS3"], "--parts", "trainval", "--words")
    texts = column(tmp_path / "data/av_train", "text") | column(tmp_path / "data/av_dev", "text")
    assert texts["TuVwXyZ0123_trainval_50001"] == "WE'RE T DÉJÀ"


def test_voxceleb2(trees, prepare, tmp_path):
    prepare("VOXCELEB2", trees["VOXCELEB2"], "--dev-share", "0.01")
    data = tmp_path / "data"
    wavs = column(data / "av_train") | column(data / "av_dev")
    assert set(wavs) == {
        "id00012--2s0bLNkE4A-00001", "id00012--2s0bLNkE4A-00002", "id00015-0fijmz4vTVU-00001",
        "id00015-0fijmz4vTVU-00002", "id00016-1abcdefghij-00001",
    }  # fmt: skip
    # The clip without sound has that of the audio archive.
    assert soundfile.info(wavs["id00015-0fijmz4vTVU-00002"]).duration == pytest.approx(1.2, abs=0.1)
    assert {row[1:] for row in skips(data)} == {
        ("00003.mp4", "no sound"), ("00009.mp4", "the folder is not idNNNNN"),
    }  # fmt: skip
    speakers = [set(column(data / s, "utt2spk").values()) for s in ("av_train", "av_dev")]
    assert [len(s) for s in speakers] == [2, 1] and not speakers[0] & speakers[1]


def test_kinetics600(trees, prepare, tmp_path):
    prepare("KINETICS600", trees["KINETICS600"])
    data = tmp_path / "data"
    assert list(column(data / "av_train")) == [
        "-0AbCdEfGhI_000010_000020", "zzzzzzzzzz1_000000_000010",
    ]  # fmt: skip
    assert list(column(data / "av_dev")) == ["valvideo001_000001_000011"]
    assert {row[1:] for row in skips(data)} == {
        ("zzzzzzzzzz1_000000_000010.mp4", "repeated clip"),
        ("zzzzzzzzzz2_000000_000010.mp4", "no sound"),
        ("valvideo001_000050_000060.mp4", "of a video of av_dev"),
        ("trailer.mp4", "not named VIDEO_START_END"),
        ("train.csv:3", "listed, and not there"),
    }
    video = column(data / "av_train", "video.scp")["zzzzzzzzzz1_000000_000010"]
    assert "playing piano" in video and Path(video).is_file()  # a class with a space


def test_grid(trees, prepare, tmp_path):
    told = prepare("GRID", trees["GRID"])
    assert "2 speakers: train, dev and test have clips of the same ones" in told
    data = tmp_path / "data"
    texts = {s: column(data / s, "text") for s in ("train", "dev", "test")}
    assert {s: len(t) for s, t in texts.items()} == {"train": 7, "dev": 1, "test": 2}
    everything = {u: t for part in texts.values() for u, t in part.items()}
    assert everything == {f"{s}_{n}": words for s in ("s1", "s20") for n, words in WORDS.items()}
    videos = {u: p for s in texts for u, p in column(data / s, "video.scp").items()}
    assert all("mpg_6000" in path for u, path in videos.items() if u.startswith("s1_"))
    assert {row[2] for row in skips(data)} == {"repeated clip"} and len(skips(data)) == 5


def test_grid_by_speaker_and_wrong_words(trees, prepare, tmp_path):
    root = shutil.copytree(trees["GRID"], tmp_path / "copy")
    for name in WORDS:
        shutil.copy(root / f"s20/{name}.mp4", root / "s1")
        shutil.copytree(root / "s20", root / "s3", dirs_exist_ok=True)
    path = root / "s1/align/bbaf2n.align"
    path.write_text(path.read_text().replace("blue", "red"))
    shutil.copy(root / "s3/bbaf2n.mp4", root / "s3/hello.mp4")
    told = prepare("GRID", root)
    assert "of the same ones" not in told
    data = tmp_path / "data"
    speakers = [set(column(data / s, "utt2spk").values()) for s in ("train", "dev", "test")]
    assert sorted(map(len, speakers)) == [1, 1, 1] and set.union(*speakers) == {"s1", "s20", "s3"}
    reasons = [row[1:] for row in skips(data) if row[2] != "repeated clip"]
    assert ("bbaf2n.mp4", "alignment and name differ") in reasons
    assert ("hello.mp4", "the name is none of GRID's") in reasons


def test_a_cut_off_clip_of_grid_is_named_also_without_an_alignment(trees, prepare, tmp_path):
    from clips import write_clip

    root = shutil.copytree(trees["GRID"] / "s20", tmp_path / "copy/s20").parent
    write_clip(root / "s20/lwiz9s.mp4", frames=35, sound_s=1.4)
    told = prepare("GRID", root)
    assert "1 cut off (lwiz9s.mp4)" in told and "skipped.tsv" in told
    assert [row[1:] for row in skips(tmp_path / "data")] == [("lwiz9s.mp4", "cut off")]


@pytest.mark.parametrize(
    ("argv", "clips", "words"),
    [
        (["--by", "speaker"], 5, ["1 speaker cannot be split", "s1", "[--by, clip]"]),
        ([], 2, ["2 clips cannot be split into three sets", "more clips"]),
    ],
)
def test_grid_too_small_for_three_sets(argv, clips, words, trees, prepare, tmp_path):
    (tmp_path / "few/s1").mkdir(parents=True)
    for path in sorted((trees["GRID"] / "s20").iterdir())[:clips]:
        shutil.copy(path, tmp_path / "few/s1")
    told = prepare("GRID", tmp_path / "few", *argv, code=3)
    assert all(word in told for word in words), told


def test_a_second_preparation_takes_no_sound_again(trees, prepare, tmp_path, monkeypatch):
    root = shutil.copytree(trees["KINETICS600"], tmp_path / "copy")
    prepare("KINETICS600", root)
    made = column(tmp_path / "data/av_train")
    asked = []
    real = av_clips.audio_of
    module = kinetics600.av_clips
    monkeypatch.setattr(module, "audio_of", lambda path: asked.append(path) or real(path))
    changed = next((root / "train").rglob("-0AbC*.mp4"))
    changed.touch()  # a clip that is newer than its sound
    prepare("KINETICS600", root)
    assert asked == [str(changed)] and column(tmp_path / "data/av_train") == made


def test_sound_is_mono_at_the_models_rate(tmp_path):
    from clips import write_clip

    path = write_clip(tmp_path / "a.mp4", frames=50, sound_s=2.0, rate=44100)
    taken = av_clips.take_audio(av_clips.Clip("a", path, "a"), tmp_path / "audio")
    speech, rate = soundfile.read(taken.audio)
    assert (rate, speech.ndim) == (16000, 1) and abs(len(speech) - 32000) < 800
    spectrum = np.abs(np.fft.rfft(speech[8000:24000]))
    assert spectrum.argmax() == 440  # Hz: one bin a Hz


def test_another_clip_of_the_same_id_has_its_own_sound_although_it_is_older(tmp_path):
    """A corrected manifest, or another one, whose files are older than what was taken before."""
    from clips import write_clip

    wrong, right = (write_clip(tmp_path / x, frames=50, sound_s=2.0) for x in ("w.mp4", "r.mp4"))
    os.utime(right, (1, 1))
    folder = tmp_path / "audio"
    origins = []
    for path in (wrong, right, right):
        taken = av_clips.take_audio(av_clips.Clip("a", path, "a"), folder)
        origins.append((taken.audio, Path(taken.audio).stat().st_ino))
        assert origin.is_of(Path(taken.audio), origin.origin_of(path))
    assert len({name for name, _ in origins}) == 1 and origins[1] == origins[2] != origins[0]


MISUSE = [
    ("LRS3", None, [], 3, ["LRS3 is not set", "LRS3=/path"]),
    ("LRS3", "empty", [], 3, ["there is no pretrain/TALK/NUMBER.mp4"]),
    ("LRS3", "tree", ["--parts", "trainvall"], 2, ["no part 'trainvall'", "did you mean"]),
    ("VOXCELEB2", "empty", [], 3, ["there is no dev/mp4/SPEAKER/VIDEO/NUMBER.mp4"]),
    (
        "KINETICS600",
        "tree",
        ["--dev-folder", "validate"],
        3,
        ["no validate/VIDEO_START_END"],
    ),
    ("GRID", None, [], 3, ["GRID is not set", "GRID=/path"]),
    ("GRID", "file", [], 3, ["not a folder", "GRID=/path"]),
    ("GRID", "empty", [], 3, ["there is no clip such as bbaf2n.mpg"]),
]


@pytest.mark.parametrize(("name", "where", "argv", "code", "words"), MISUSE)
def test_what_is_wrong_is_told(name, where, argv, code, words, trees, prepare, tmp_path):
    (tmp_path / "empty").mkdir()
    root = {"tree": trees[name], "empty": tmp_path / "empty", "file": Path(__file__)}.get(where)
    told = prepare(name, root, *argv, code=code)
    assert all(word in told for word in words), told
    assert not (tmp_path / "data").exists()


def test_a_corpus_without_a_usable_clip(trees, prepare, tmp_path):
    root = shutil.copytree(trees["KINETICS600"], tmp_path / "copy")
    shutil.copy(next(root.rglob("zzzzzzzzzz2*.mp4")), next((root / "val").iterdir()))
    assert "no clip of av_dev can be used; the first: no sound" in prepare(
        "KINETICS600", root, code=3
    )


@settings(derandomize=True, deadline=None)
@given(
    names=st.sets(st.text("abc", min_size=1), min_size=2, max_size=30),
    share=st.floats(0, 1),
    seed=st.integers(0, 5),
)
def test_held_out_groups(names, share, seed):
    held = av_clips.hold_out(names, share, seed)
    assert held == av_clips.hold_out(sorted(names, reverse=True), share, seed)  # any order
    assert 0 < len(held) < len(names) and held < names
    more = av_clips.hold_out(names, min(1.0, share + 0.2), seed)
    assert held <= more


def test_one_group_cannot_be_split():
    with pytest.raises(DataError, match="cannot be split"):
        av_clips.hold_out({"a"}, 0.5)


def test_words_of_names():
    assert grid.words_of_name("swiu4n") == "set white in u four now"
    assert [grid.words_of_name(n) for n in ("hello", "bbaw2n", "bbaf2x", "bbaf22n")] == [""] * 4


@pytest.mark.skipif(not (REAL / "video").is_dir(), reason="no real clips of GRID here")
def test_real_clips_of_grid(prepare, tmp_path):
    prepare("GRID", REAL)
    data = tmp_path / "data"
    texts = {u: t for s in ("train", "dev", "test") for u, t in column(data / s, "text").items()}
    assert len(texts) + len(skips(data)) == 15 and len(texts) == 15
    assert all(text == grid.words_of_name(utt.rpartition("_")[2]) for utt, text in texts.items())
    wav = soundfile.info(next(iter(column(data / "train").values())))
    assert (wav.samplerate, wav.channels) == (16000, 1) and 2.9 < wav.duration < 3.05
