# SPDX-License-Identifier: Apache-2.0
"""Sets with video.scp: what the doctor says of each clip, and which ones format leaves out."""

import pytest
from clips import write_array, write_clip
from small_set import fill, noise

from espnet_ext.data.doctor import main
from espnet_ext.data.format import FormatOptions, format_dir
from espnet_ext.data.streams import USUAL
from espnet_ext.data.tables import read_table, write_spk2utt

STREAMS = {**USUAL, "video.scp": "video"}


@pytest.fixture
def clips(src, tmp_path):
    """A set whose utterance ids say what is wrong with their clips."""
    write_clip(tmp_path / "good.mp4", 74, sound_s=3.0)
    write_array(tmp_path / "array.npy", 9)
    (tmp_path / "broken.mp4").write_bytes((tmp_path / "good.mp4").read_bytes()[:900])
    (tmp_path / "empty.mp4").touch()
    write_clip(tmp_path / "long.mp4", 100)
    write_clip(tmp_path / "varying.mp4", 39, times=[*range(30), *range(30, 75, 5)])
    noise(tmp_path / "nopicture.wav", 3)
    values = {n: f"{n}.mp4" for n in ("broken", "empty", "good", "gone", "long", "varying")}
    values |= {"array": "array.npy", "nopicture": "nopicture.wav", "outside": "good.mp4 3.5 4"}
    values |= {"part": "long.mp4 0.5 3.5"}
    values = dict(sorted(values.items()))
    fill(src, {utt: noise(f"{utt}.wav", 3) for utt in values})
    (src / "video.scp").write_text("".join(f"{u} {v}\n" for u, v in values.items()))
    write_spk2utt(src, read_table(src / "utt2spk"))
    return src


FAULTS = {
    "broken": "not readable as video",
    "empty": "the video file is empty",
    "gone": "the video file is missing",
    "long": "it lasts 4.00 s, and the audio 3.00 s",
    "nopicture": "the clip has no picture",
    "outside": "[3.5, 4) s is not inside the video of 2.960 s",
}


def test_the_doctor_names_each_clip_that_cannot_be_used(clips, capsys):
    assert main(["--data", str(clips)]) == 3
    lines = capsys.readouterr().out.splitlines()
    said = {line.split(": ")[2]: line for line in lines if line.startswith("error:")}
    assert said.keys() == FAULTS.keys()
    for utt, what in FAULTS.items():
        assert what in said[utt] and "video.scp:" in said[utt]
    warned = [line for line in lines if line.startswith("warning:")]
    assert len(warned) == 1 and "varying: has frames at varying distances" in warned[0]


def test_format_leaves_them_out_with_the_reason_and_counts(clips, tmp_path):
    out = tmp_path / "out"
    report = format_dir(clips, out, FormatOptions(), streams=STREAMS)
    assert report.read == report.written + len(report.dropped)
    dropped = {utt: f"{reason}: {detail}" for utt, reason, detail in report.dropped}
    assert dropped.keys() == FAULTS.keys()
    for utt, what in FAULTS.items():
        assert what in dropped[utt] and "video.scp" in dropped[utt]
    kept = read_table(out / "video.scp")
    assert kept.keys() == {"array", "good", "part", "varying"}
    assert kept.keys() == read_table(out / "text").keys()
    assert kept["part"] == f"{tmp_path / 'long.mp4'} 0.5 3.5"


def test_segments_count_for_the_length_of_a_clip(src, tmp_path, capsys):
    write_clip(tmp_path / "a.mp4", 75)
    segments = {"u1": "talk 0 3", "u2": "talk 3.5 5"}
    fill(src, {"talk": noise("talk.wav", 8)}, segments=segments)
    (src / "video.scp").write_text("u1 a.mp4\nu2 a.mp4\n")
    write_spk2utt(src, read_table(src / "utt2spk"))
    assert main(["--data", str(src)]) == 3
    said = capsys.readouterr().out
    assert "u2: does not fit its audio: it lasts 3.00 s, and the audio 1.50 s" in said
    assert "u1: " not in said
    report = format_dir(src, tmp_path / "out", FormatOptions(), streams=STREAMS)
    assert [row[:2] for row in report.dropped] == [("u2", "video.scp does not fit the audio")]
    left = list((tmp_path / "out/wav").rglob("*.flac"))
    assert len(left) == 1  # the audio of u2 is not kept
