# SPDX-License-Identifier: Apache-2.0
import json
import os
import pickle
import shutil
import tracemalloc

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small_set import fill, noise

from espnet_ext.data import format as format_module
from espnet_ext.data.check import check_dir, report
from espnet_ext.data.format import FormatOptions, format_dir
from espnet_ext.data.format_job import ctc_units, safe_name
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.frames import usual_encoder


def test_audio_that_fits_is_not_written_again(src, tmp_path):
    fill(src, {"a": noise("a.wav"), "b": noise("b.flac")})
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    assert (done.read, done.written, done.dropped) == (2, 2, [])
    scp = read_table(tmp_path / "dst/wav.scp")
    assert scp == {"a": str(tmp_path / "a.wav"), "b": str(tmp_path / "b.flac")}
    assert not list((tmp_path / "dst/wav").rglob("*.flac"))
    assert read_table(tmp_path / "dst/utt2num_samples") == {"a": "8000", "b": "8000"}
    assert check_dir(tmp_path / "dst") == []


def test_audio_is_written_when_it_must_be(src, tmp_path):
    wavs = {
        "rate": noise("rate.wav", rate=8000),
        "sph": noise("x.sph", format="NIST"),
        "stereo": noise("stereo.wav", channels=2),
        "fits": noise("fits.wav"),
    }
    wavs["pipe"] = f"cat {wavs['fits']} |"
    fill(src, wavs)
    done = format_dir(src, tmp_path / "dst", FormatOptions(audio_format="wav"), allow_pipes=True)
    assert done.written == 5
    for utt, path in read_table(tmp_path / "dst/wav.scp").items():
        got = sf.info(path)
        assert (got.samplerate, got.channels, got.subtype) == (16000, 1, "PCM_16")
        assert abs(got.frames - 8000) <= 1
        assert (str(tmp_path / "dst/wav") in path) == (utt != "fits")
    same, _ = sf.read(read_table(tmp_path / "dst/wav.scp")["sph"], dtype="int16")
    assert np.array_equal(same, sf.read("x.sph", dtype="int16")[0])
    assert check_dir(tmp_path / "dst") == []
    refused = format_dir(src, tmp_path / "dst2", FormatOptions())
    assert [(d[0], d[1]) for d in refused.dropped] == [("pipe", "unreadable audio")]


def test_segments_are_cut_to_the_sample(src, tmp_path):
    whole, _ = sf.read(noise("rec.wav"), dtype="int16")
    fill(src, {"r": "rec.wav"}, segments={"a": "r 0 0.2", "b": "r 0.2 0.5", "c": "r 0.4 9"})
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    scp = read_table(tmp_path / "dst/wav.scp")
    parts = [sf.read(scp[u], dtype="int16")[0] for u in ("a", "b")]
    assert np.array_equal(np.concatenate(parts), whole)
    assert [(d[0], d[1]) for d in done.dropped] == [("c", "times outside the audio")]
    assert not (tmp_path / "dst/segments").exists()


def test_speed_copies(src, tmp_path):
    sf.write("a.wav", 0.5 * np.sin(np.arange(16000) * 2 * np.pi * 400 / 16000), 16000)
    fill(src, {"a": "a.wav"})
    (src / "intent").write_text("a on\n")
    done = format_dir(src, tmp_path / "dst", FormatOptions(speeds=(0.8, 1, 1.25)))
    assert done.written == 3
    dst = tmp_path / "dst"
    assert (dst / "utt2spk").read_text() == "a s\nsp0.8-a sp0.8-s\nsp1.25-a sp1.25-s\n"
    assert (dst / "intent").read_text() == "a on\nsp0.8-a on\nsp1.25-a on\n"
    for utt, hz, samples in [("sp0.8-a", 320, 20000), ("sp1.25-a", 500, 12800)]:
        wave, _ = sf.read(read_table(dst / "wav.scp")[utt])
        assert abs(len(wave) - samples) <= 1
        peak = np.argmax(np.abs(np.fft.rfft(wave))) * 16000 / len(wave)
        assert abs(peak - hz) < 2
    assert check_dir(dst) == []


def test_each_drop_has_its_reason_and_numbers(src, tmp_path):
    fill(
        src,
        {"bad": "bad.wav", "ctc": noise("ctc.wav", 0.3), "gone": "gone.wav", "long":
         noise("long.wav", 2), "mute": noise("m.wav"), "ok": noise("ok.wav"),
         "short": noise("s.wav", 0.05)},
        text={"bad": "x", "ctc": "aab", "gone": "x", "long": "x", "mute": "", "ok": "x",
              "short": "x"},
    )  # fmt: skip
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    options = FormatOptions(max_s=1, ctc_units="char", ctc_stride=8)
    done = format_dir(src, tmp_path / "dst", options)
    assert [d[:2] for d in done.dropped] == [
        ("bad", "unreadable audio"),
        ("ctc", "too short for CTC"),
        ("gone", "unreadable audio"),
        ("long", "too long"),
        ("mute", "empty text"),
        ("short", "too short"),
    ]
    tsv = (tmp_path / "dst/dropped.tsv").read_text()
    assert "3 units + 1 repeats > 3 encoder frames (0.300 s)" in tsv
    assert "2.000 s > max_s 1" in tsv and "0.050 s < min_s 0.1" in tsv
    assert "gone.wav" in tsv
    assert json.loads((tmp_path / "dst/format.json").read_text())["read"] == 7


def test_when_nothing_is_left_it_says_why(src, tmp_path):
    fill(src, {"a": noise("a.wav", 0.05)})
    with pytest.raises(DataError, match="1 x too short"):
        format_dir(src, tmp_path / "dst", FormatOptions())
    assert "0.050 s" in (tmp_path / "dst/dropped.tsv").read_text()
    assert not (tmp_path / "dst/format.json").exists()


def test_resampling_that_overshoots_is_scaled_not_clipped(src, tmp_path):
    wave = np.repeat(np.tile([1, -1], 400), 9) * np.random.default_rng(0).integers(
        30000, 32767, 7200
    )
    sf.write("a.wav", wave.astype(np.int16), 8000)
    fill(src, {"a": "a.wav"})
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    assert [note[:2] for note in done.notes] == [("a", "scaled against clipping")]
    wave, _ = sf.read(read_table(tmp_path / "dst/wav.scp")["a"], dtype="int16")
    assert np.sum(np.abs(wave.astype(int)) >= 32767) <= 2


def test_an_interrupted_run_is_continued(src, tmp_path, monkeypatch):
    wavs = {u: noise(f"{u}.wav", rate=8000) for u in "abcd"}
    fill(src, wavs)
    dst, calls = tmp_path / "dst", []

    def broken(fn, items):
        for n, item in enumerate(items):
            if n == 2:
                raise KeyboardInterrupt
            yield fn(item)

    def counting(fn, items):
        for item in items:
            calls.append(item["utts"][0][0])
            yield fn(item)

    with pytest.raises(KeyboardInterrupt):
        format_dir(src, dst, FormatOptions(), n_jobs_map=broken)
    assert not (dst / "format.json").exists()
    with open(dst / "wav" / format_module.JOURNAL, "a") as f:
        f.write('{"signature": "torn')
    done = format_dir(src, dst, FormatOptions(), n_jobs_map=counting)
    assert calls == ["c", "d"] and done.reused == 2 and done.written == 4
    first = {p: p.read_bytes() for p in dst.rglob("*") if p.is_file()}
    # A changed source and a damaged result are made again, the rest is not.
    noise("a.wav", seconds=0.7, rate=8000)
    victim = read_table(dst / "wav.scp")["b"]
    with open(victim, "ab") as f:
        f.write(b"x")
    calls.clear()
    format_dir(src, dst, FormatOptions(), n_jobs_map=counting)
    assert calls == ["a", "b"]
    noise("a.wav", rate=8000)
    format_dir(src, dst, FormatOptions())
    again = {p: p.read_bytes() for p in dst.rglob("*") if p.is_file()}
    assert {p for p in first if first[p] != again[p]} <= {dst / "wav" / format_module.JOURNAL}
    # Other options leave no file of the old ones.
    format_dir(src, dst, FormatOptions(audio_format="wav"))
    assert {p.suffix for p in (dst / "wav").rglob("*.*") if p.is_file()} == {".wav", ".jsonl"}


def test_work_can_go_through_processes(src, tmp_path):
    fill(src, {"a": noise("a.wav", rate=8000), "b": "gone.wav"})

    def elsewhere(fn, items):
        for item in items:
            fn, item = pickle.loads(pickle.dumps((fn, json.loads(json.dumps(item)))))
            yield json.loads(json.dumps(fn(item)))

    done = format_dir(src, tmp_path / "dst", FormatOptions(), n_jobs_map=elsewhere)
    assert (done.written, len(done.dropped)) == (1, 1)


def test_a_missing_program_stops_the_run_instead_of_dropping_everything(src, tmp_path):
    fill(src, {"a": "no-such-program x |"})
    with pytest.raises(SetupError, match="no-such-program"):
        format_dir(src, tmp_path / "dst", FormatOptions(), allow_pipes=True)


def test_progress_counts_utterances(src, tmp_path):
    fill(src, {"r": noise("r.wav")}, segments={"a": "r 0 0.2", "b": "r 0.2 0.5"})
    seen = []
    format_dir(src, tmp_path / "dst", FormatOptions(), progress=lambda *n: seen.append(n))
    assert seen == [(2, 2)]


def test_folders_and_ids_that_would_be_overwritten_are_refused(src, tmp_path):
    fill(src, {"a": noise("a.wav"), "sp0.9-a": noise("b.wav")})
    with pytest.raises(DataError, match="same folder"):
        format_dir(src, src, FormatOptions())
    with pytest.raises(DataError, match="two utterances"):
        format_dir(src, tmp_path / "dst", FormatOptions(speeds=(0.9, 1)))
    (tmp_path / "mine/wav").mkdir(parents=True)
    noise("mine/wav/a.wav")
    with pytest.raises(DataError, match="not ours"):
        format_dir(src, tmp_path / "mine", FormatOptions())
    assert (tmp_path / "mine/wav/a.wav").exists()


@pytest.mark.parametrize(
    "bad",
    [{"fs": 0}, {"min_s": 2, "max_s": 1}, {"speeds": ()}, {"speeds": (1, 1.0)}, {"speeds": (-1,)},
     {"audio_format": "mp3"}, {"ctc_units": "bpe"}, {"ctc_stride": 0}, {"channel": -1},
     {"faults": ("silent",)}],
)  # fmt: skip
def test_options_are_checked(bad):
    with pytest.raises(UsageError, match=next(iter(bad))):
        FormatOptions(**bad)


@given(st.lists(st.text(min_size=1, max_size=100), max_size=20, unique=True))
@example(["a/b", "a_b", "../x", ".", "..", "é", "a" * 300, "a" * 301, safe_name("a/b")[3:]])
def test_names_of_files_are_plain_and_never_shared(utts):
    utts = [u.encode("utf-8", "ignore").decode() or "x" for u in utts]
    names = {safe_name(u)[3:] for u in utts}
    assert len(names) == len(set(utts))
    for name in names:
        assert "/" not in name and not name.startswith(".") and len(name) < 120 and name.isascii()


def test_ctc_units():
    assert ctc_units("aab b", "char") == (5, 1)
    assert ctc_units("no no no", "word") == (3, 0)
    assert ctc_units("x", None) is None


@given(st.integers(0, 10**6), st.sampled_from([1, 2, 3, 4, 6, 8]))
def test_encoder_frames_grow_with_the_audio_and_stay_under_the_stride(samples, stride):
    encoder = usual_encoder(16000, stride)
    frames = encoder.frames(samples)
    assert 0 <= frames <= (1 + samples // 160) / stride
    assert encoder.frames(samples + 160 * stride) in (frames, frames + 1)


utterances = st.lists(
    st.tuples(
        st.sampled_from(["a.wav", "b.wav", "bad.wav", "gone.wav", ""]),
        st.sampled_from(["x", "", "a a", "long text that will not fit into it"]),
        st.sampled_from([None, (0, 0.2), (0.1, 0.12), (0.3, 9), (0.4, 0.1)]),
        st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(utterances, st.booleans(), st.sampled_from([(1.0,), (0.9, 1.0), (1.1,)]))
def test_every_utterance_is_written_or_dropped(src, utts, segmented, speeds):
    noise("a.wav"), noise("b.wav", 0.4, 8000)
    with open("bad.wav", "wb") as f:
        f.write(b"no audio")
    shutil.rmtree("src")
    shutil.rmtree("dst", ignore_errors=True)
    src.mkdir()
    names = [f"u{n}" for n in range(len(utts))]
    rows = list(zip(names, utts, strict=True))
    (src / "wav.scp").write_text("".join(f"{n} {u[0]}\n" for n, u in rows))
    (src / "text").write_text("".join(f"{n} {u[1]}\n" for n, u in rows))
    (src / "utt2spk").write_text("".join(f"{n} s\n" for n, u in rows if u[3]))
    if segmented:
        times = [u[2] or (0, 0.3) for u in utts]
        text = "".join(f"{n} {n} {s} {e}\n" for n, (s, e) in zip(names, times, strict=True))
        (src / "segments").write_text(text)
    try:
        done = format_dir(src, "dst", FormatOptions(speeds=speeds, ctc_units="char"))
    except DataError as e:
        assert "no utterance is left" in str(e)
        with open("dst/dropped.tsv") as f:
            assert len(f.readlines()) == 1 + len(names) * len(speeds)
        return
    assert done.read * len(speeds) == done.written + len(done.dropped)
    kept = read_table("dst/wav.scp")
    assert len(kept) == done.written and not kept.keys() & {d[0] for d in done.dropped}
    # The ids made here do not begin with the speaker, which is worth a warning only.
    assert not [f for f in check_dir("dst") if f.level == "error"], report(check_dir("dst"))


def test_a_rerun_needs_no_more_memory_than_the_first_run(src, tmp_path):
    wav = noise("a.wav", 0.1)
    fill(src, {f"speaker-utterance{i:06d}": wav for i in range(500)})
    peaks = []
    for _ in range(2):
        tracemalloc.start()
        done = format_dir(src, tmp_path / "dst", FormatOptions(min_s=0))
        peaks.append(tracemalloc.get_traced_memory()[1] / 500)
        tracemalloc.stop()
    assert done.reused == 500
    assert peaks[1] < 1.1 * peaks[0] < 2500  # bytes an utterance


def test_a_file_replaced_with_its_size_and_time_is_read_again(src, tmp_path):
    fill(src, {"a": noise("a.wav"), "b": noise("b.wav")})
    format_dir(src, tmp_path / "dst", FormatOptions())
    before = os.stat("a.wav")
    sf.write("a.wav", np.zeros(before.st_size // 2 - 22), 16000)
    os.utime("a.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert os.stat("a.wav").st_size == before.st_size
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    assert done.reused == 1 and [d[:2] for d in done.dropped] == [("a", "silent")]
