# SPDX-License-Identifier: Apache-2.0
"""Clips: real video files of every odd kind, written here, whose frames tell their number."""

import multiprocessing
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from clips import numbers, write_array, write_clip
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data import video, video_file
from espnet_ext.data.streams import find_stream
from espnet_ext.data.video_plan import nearest_frames, parse_value, plan_frames
from espnet_ext.errors import DataError, UsageError

FOURTH = list(range(0, 64, 4))


def frames_of(*args, **options):
    return video.read_clip(*args, **options).frames


@given(
    count=st.integers(1, 90), frames=st.integers(1, 20), stride=st.integers(1, 6),
    start=st.sampled_from([0, "random"]), seed=st.integers(0, 99),
)  # fmt: skip
def test_a_stride_keeps_its_distance_until_the_video_ends(count, frames, stride, start, seed):
    index, repeated = plan_frames(
        count, frames, stride, "stride", start, np.random.default_rng(seed)
    )
    naive = [index[0] + k * stride for k in range(frames)]
    assert list(index) == [min(i, count - 1) for i in naive]
    assert repeated == sum(i > count - 1 for i in naive)
    assert start == "random" or index[0] == 0
    if count > (frames - 1) * stride:
        assert repeated == 0  # a random start leaves room for all


@given(count=st.integers(1, 90), frames=st.integers(1, 20), seed=st.integers(0, 99))
def test_uniform_takes_one_frame_of_each_equal_part(count, frames, seed):
    index, repeated = plan_frames(
        count, frames, 4, "uniform", "random", np.random.default_rng(seed)
    )
    for k, i in enumerate(index):
        assert k * count / frames - 1 < i < (k + 1) * count / frames
    assert repeated == frames - len(set(index.tolist()))
    assert list(plan_frames(12, 4, 1, "uniform")[0]) == [1, 4, 7, 10]


def test_random_starts_reach_both_ends_and_need_a_generator():
    rng = np.random.default_rng(0)
    firsts = {int(plan_frames(66, 16, 4, start="random", rng=rng)[0][0]) for _ in range(200)}
    assert firsts == set(range(6))
    assert plan_frames(66, 16, 4, start="random")[0][0] == 0
    with pytest.raises(UsageError, match="unifrom"):
        plan_frames(66, 16, 4, "unifrom")


def test_nearest_frames_equals_a_search_through_all():
    rng = np.random.default_rng(1)
    for n in (1, 2, 7, 30):
        times, wanted = np.sort(rng.random(n)), rng.random(40) * 1.4 - 0.2
        naive = [int(np.abs(times - w).argmin()) for w in wanted]
        assert list(nearest_frames(times, wanted)) == naive


def test_values_have_paths_with_spaces_and_times():
    assert parse_value("a b.mp4") == ("a b.mp4", None, None)
    assert parse_value("a b.mp4 1 2.5") == ("a b.mp4", 1.0, 2.5)
    for wrong in ("a.mp4 2 1", "a.mp4 -1 1", "a.mp4 nan 1", "a.mp4 0 inf"):
        with pytest.raises(DataError, match="no interval"):
            parse_value(wrong)


KINDS = {
    "h264.mp4": {},
    "rotated.mp4": {"rotation": 90},
    "odd.mp4": {"size": (31, 23), "pix_fmt": "yuv444p"},
    "grey.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "untimed.h264": {},
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_the_right_ones_in_every_kind_of_file(tmp_path, name):
    path = str(write_clip(tmp_path / name, **KINDS[name]))
    facts = video.probe(path)
    assert (facts.frames, facts.fps, facts.has_audio, facts.lost) == (75, 25.0, False, 0)
    assert facts.duration_s == pytest.approx(3.0) and not facts.variable
    clip = video.read_clip(path, 16, 4)
    assert numbers(clip.frames) == FOURTH and clip.repeated == 0
    assert clip.frames.shape == (16, facts.height, facts.width, 3)
    # The times of the value; a seek, where the container has an index.
    assert numbers(frames_of(f"{path} 2.6 2.8", 5, 1)) == [65, 66, 67, 68, 69]
    short = video.read_clip(f"{path} 2.6 2.8", 4, 2)
    assert numbers(short.frames) == [65, 67, 69, 69] and short.repeated == 1
    rng = np.random.default_rng(3)
    drawn = numbers(frames_of(path, 16, 4, "stride", "random", rng))
    assert drawn == [drawn[0] + k for k in FOURTH] and drawn[0] > 0
    small = frames_of(path, 2, 40, short_side=12)
    assert min(small.shape[1:3]) == 12
    assert np.abs(np.subtract(numbers(small), [0, 40])).max() <= 1


def test_a_turned_picture_is_upright(tmp_path):
    """The dark third is left; counter-clockwise by 90 degrees, left becomes the bottom."""
    for degrees, dark in ((90, np.s_[-4:, :]), (-90, np.s_[:4, :]), (180, np.s_[:, -4:])):
        path = str(write_clip(tmp_path / f"{degrees}.mp4", 3, rotation=degrees))
        frame = frames_of(path, 1, 1)[0].astype(int)
        assert frame[dark].mean() < 0.7 * np.median(frame)
        assert video.probe(path).rotation == degrees % 360


def test_a_varying_frame_rate_is_read_by_time(tmp_path):
    times = [*range(30), *range(30, 75, 5)]  # 25 frames a second, then 5
    path = str(write_clip(tmp_path / "v.mp4", len(times), times=times))
    facts = video.probe(path)
    assert facts.variable and facts.duration_s == pytest.approx(2.9, abs=0.1)
    read = frames_of(path, 8, 4)
    wanted = [k * 4 / facts.fps * 25 for k in range(8)]  # in units of 1/25 s
    assert numbers(read) == [int(np.abs(np.array(times) - w).argmin()) for w in wanted]


def test_sound_begins_with_the_picture(tmp_path):
    path = str(write_clip(tmp_path / "s.mp4", 74, sound_s=3.0))
    facts = video.probe(path)
    assert facts.has_audio and facts.audio_s == pytest.approx(3.0, abs=0.07)
    assert facts.duration_s == pytest.approx(2.96)
    speech, rate = video.audio_of(path)
    assert rate == 16000 and speech.dtype == np.float32 and abs(len(speech) - 48000) <= 1024
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / rate)
    assert np.corrcoef(speech[4000:12000], tone)[0, 1] == pytest.approx(1, abs=0.02)
    with pytest.raises(DataError, match="no sound"):
        video.audio_of(str(write_clip(tmp_path / "silent.mp4", 3)))


def test_files_that_are_no_clips_say_why(tmp_path):
    whole = write_clip(tmp_path / "w.mp4", options={"movflags": "faststart"}).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(DataError, match=r"truncated: only \d+ of 75 frames"):
        video.probe(str(tmp_path / "cut.mp4"))
    unindexed = write_clip(tmp_path / "u.mp4").read_bytes()
    (tmp_path / "head.mp4").write_bytes(unindexed[:-200])
    (tmp_path / "none.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("no video\n" * 50)
    cases = {"head.mp4": "not readable", "none.mp4": "is empty", "text.mp4": "not readable",
             "gone.mp4": "is missing"}  # fmt: skip
    for name, said in cases.items():
        with pytest.raises(DataError, match=said) as e:
            frames_of(str(tmp_path / name), 4, 1)
        assert name in str(e.value)
    with pytest.raises(DataError, match="not inside the video"):
        frames_of(f"{tmp_path / 'w.mp4'} 3.1 3.2", 4, 1)


def test_a_frame_rate_that_nothing_tells_is_an_error(monkeypatch):
    stream = SimpleNamespace(time_base=None, average_rate=None, guessed_rate=None, frames=0)
    packet = SimpleNamespace(size=1, is_corrupt=False, is_discard=False, pts=None)
    container = SimpleNamespace(demux=lambda stream: [packet, packet])
    monkeypatch.setattr(video_file, "opened", lambda path: nullcontext(container))
    monkeypatch.setattr(video_file, "picture", lambda container, path: stream)
    with pytest.raises(DataError, match="the frame rate is unknown") as e:
        video.probe("untold.h264")
    assert "untold.h264" in str(e.value) and "fix:" in str(e.value)


def test_a_broken_frame_is_replaced_by_its_neighbour(tmp_path):
    path = write_clip(tmp_path / "b.avi", 20, codec="mjpeg", pix_fmt="yuvj420p")
    data = bytearray(path.read_bytes())
    at = data.index(b"00dc", len(data) // 2)
    data[at + 8 : at + 408] = bytes(400)
    path.write_bytes(data)
    frames = frames_of(str(path), 20, 1)
    got = np.array(numbers(frames))
    assert len(got) == 20 and (np.abs(got - np.arange(20)) <= 1).all()


def test_a_process_that_is_forked_later_can_read(tmp_path):
    """Workers of a loader are forked from a process that has read videos itself."""
    path = str(write_clip(tmp_path / "a.mp4", size=(360, 288)))
    frames = frames_of(path, 16, 4)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        again = pool.apply_async(frames_of, (path, 16, 4)).get(timeout=60)
    assert np.array_equal(frames, again)


def test_arrays_need_no_library_and_read_only_what_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    path = str(write_array(tmp_path / "a.npy"))
    assert numbers(frames_of(path, 16, 4)) == FOURTH
    assert video.probe(path) == video.VideoFacts(75, 0.0, 32, 24, 0.0, False)
    with pytest.raises(DataError, match="frame rate is unknown"):
        frames_of(f"{path} 0 1", 4, 1)
    for wrong in (np.zeros((3, 4, 4, 3)), np.zeros((3, 4, 4), np.uint8)):
        np.save(tmp_path / "w.npy", wrong)
        with pytest.raises(DataError, match="save frames as an array"):
            frames_of(str(tmp_path / "w.npy"), 4, 1)
    with pytest.raises(Exception, match="video files need PyAV"):
        frames_of(str(tmp_path / "x.mp4"), 4, 1)


def test_the_stream_checks_clips_and_writes_absolute_paths(tmp_path, monkeypatch):
    kind = find_stream("video")
    path = write_clip(tmp_path / "a b.mp4", sound_s=2.0)
    monkeypatch.chdir(tmp_path)
    value = "a b.mp4 1.0 2"
    assert (kind.length(value), kind.duration_s(value)) == (25, 1.0)
    assert numbers(kind.read(value))[::8] == [25, 33, 41, 49]
    assert kind.format(value, "u", tmp_path) == f"{path} 1.0 2"
    assert [(level, "differ in length" in what) for level, what, _ in kind.check(value)] == [
        ("warning", True)
    ]
    write_clip(tmp_path / "ok.mp4", sound_s=3.0)
    assert not list(kind.check("ok.mp4"))
    write_array(tmp_path / "a.npy")
    assert kind.duration_s("a.npy") is None and not list(kind.check("a.npy"))
    for wrong in ("a b.mp4 1 9", "gone.mp4", "a.npy 0 1"):
        with pytest.raises(DataError) as e:
            kind.format(wrong, "u", tmp_path)
        assert e.value.where == "u"
