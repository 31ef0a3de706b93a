# SPDX-License-Identifier: Apache-2.0
"""Streams beside audio and text: what reads them is there; who has no use for them keeps them."""

import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from espnet_ext.data.tables import read_table, write_set, write_table
from espnet_ext.installation import install
from espnet_ext.recipe import environment, runner

SPEECH = {"name": "speech", "file": "wav.scp", "type": "sound"}
VIDEO = {"name": "video", "file": "video.scp", "type": "video"}
FORMAT = ("--ngpu", "0", "--nj", "1", "--stage", "format", "--stop-stage", "format")
NO_VIDEO = ("--pretrain", "none")


@pytest.fixture
def corpus(folder):
    """Sets with a second of sound, and of pictures in those of the first phase."""
    for name in ("av_train", "av_dev", "train", "dev"):
        rows, clips = {}, {}
        for utt in (f"{name}-1", f"{name}-2"):
            wav, clip = Path(f"raw/{utt}.wav").absolute(), Path(f"raw/{utt}.npy").absolute()
            wav.parent.mkdir(exist_ok=True)
            sf.write(wav, np.random.default_rng(0).uniform(-0.5, 0.5, 16000), 16000)
            np.save(clip, np.zeros((25, 4, 4, 3), np.uint8))
            rows[utt], clips[utt] = (str(wav), "word", name), str(clip)
        write_set(Path("data") / name, rows)
        if name.startswith("av"):
            write_table(Path("data") / name / "video.scp", clips)
    folder.write("conf/train.yaml", "{}\n")
    phase = {"config": "conf/train.yaml"}
    folder.recipe(
        data={"train": "train", "valid": "dev", "test": [], "also": ["av_train", "av_dev"]},
        format={"fs": 16000},
        pretrain={**phase, "train": "av_train", "valid": "av_dev", "streams": [SPEECH, VIDEO]},
        finetune=phase,
    )
    return folder


def run(capfd, *argv):
    code = runner.main([*FORMAT, *argv])
    out, err = capfd.readouterr()
    assert code == 0, err
    return out


def test_what_other_experiments_read_is_formatted_once(corpus, capfd):
    assert "running" in run(capfd)
    for argv in (("--name", "scratch", *NO_VIDEO), ("--name", "full")):
        assert "format: up to date" in run(capfd, *argv)
    assert read_table("dump/av_train/video.scp").keys() == {"av_train-1", "av_train-2"}
    # A change of the data reaches it also where the phase that reads it is off.
    table = Path("data/av_train/video.scp")
    lines = table.read_text().splitlines(keepends=True)
    table.write_text(lines[0])
    assert "1 not in video.scp" in run(capfd, *NO_VIDEO)
    assert read_table("dump/av_train/wav.scp").keys() == {"av_train-1"}


def test_without_the_phase_its_streams_are_not_asked_for(corpus, capfd):
    Path("data/av_train/video.scp").unlink()
    run(capfd, *NO_VIDEO)
    assert not Path("dump/av_dev/video.scp").exists()
    assert runner.main([*FORMAT]) == 3
    assert "video.scp" in capfd.readouterr().err


@pytest.mark.parametrize("stage", ["format", "pretrain"])
def test_missing_pyav_is_told_before_any_stage_runs(corpus, capfd, monkeypatch, stage):
    for root in ("data", "dump"):
        corpus.write(f"{root}/av_train/video.scp", "av_train-1 clip.mp4\n")
    monkeypatch.setitem(sys.modules, "av", None)  # importing it fails
    assert runner.main(["--ngpu", "0", "--stage", stage, "--stop-stage", stage]) == 3
    out, err = capfd.readouterr()
    assert install(extra="video") in err and "clip.mp4" in err
    assert "running" not in out


def test_an_extra_that_the_preparation_needs(corpus, capfd, monkeypatch):
    corpus.write("local/data.sh", "touch started; exit 1\n")
    corpus.recipe(prepare={"extras": ["video"]})
    known = environment.installed
    monkeypatch.setattr(
        environment, "installed", lambda name: None if name == "av" else known(name)
    )
    assert runner.main(["--ngpu", "0", "--stop-stage", "prepare"]) == 3
    assert install(extra="video") in capfd.readouterr().err
    assert runner.main(["--ngpu", "0", "--doctor"]) == 3
    assert "FAIL  extra video" in capfd.readouterr().out
    monkeypatch.setattr(environment, "installed", known)
    if known("av"):
        assert runner.main(["--ngpu", "0", "--stop-stage", "prepare"]) == 1
        assert Path("started").exists()
