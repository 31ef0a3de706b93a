# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_ext.data import audio
from espnet_ext.data.check import check_dir, report
from espnet_ext.data.findings import Finding
from espnet_ext.errors import DataError, UsageError

NAMES = ["wav.scp", "text", "utt2spk", "spk2utt", "segments", "intent"]


def tone(path, seconds=0.5, rate=8000, channels=1, **kwargs):
    wave = 0.3 * np.sin(np.arange(int(seconds * rate)) / 5)
    sf.write(path, np.stack([wave] * channels, axis=1), rate, **kwargs)
    return path


@pytest.fixture
def good(tmp_path):
    d = tmp_path / "train"
    d.mkdir()
    for utt in ("s1-a", "s1-b", "s2-a"):
        tone(tmp_path / f"{utt}.wav")
    (d / "wav.scp").write_text("".join(f"{u} {tmp_path}/{u}.wav\n" for u in ids()))
    (d / "text").write_text("s1-a one\ns1-b two\ns2-a three four\n")
    (d / "utt2spk").write_text("s1-a s1\ns1-b s1\ns2-a s2\n")
    (d / "spk2utt").write_text("s1 s1-a s1-b\ns2 s2-a\n")
    return d


def ids():
    return ["s1-a", "s1-b", "s2-a"]


def only(findings) -> Finding:
    assert len(findings) == 1, report(findings)
    return findings[0]


def test_a_good_folder_has_no_findings(good):
    assert check_dir(good) == []
    assert report([]) == "no findings"


@pytest.mark.parametrize(
    ("name", "data", "line", "utt", "what", "fixable"),
    [
        ("text", b"s1-a one\r\ns1-b two\r\ns2-a x\r\n", 1, None, "CR LF", True),
        ("text", b"\xef\xbb\xbfs1-a one\ns1-b two\ns2-a x\n", 1, None, "byte order mark", True),
        ("text", b"s1-a one\ns1-b t\0wo\ns2-a x\n", 2, None, "NUL", True),
        ("text", b"s1-a one\ns1-b tw\xff\ns2-a x\n", 2, "s1-b", "UTF-8", False),
        ("text", b"s1-b two\ns1-a one\ns2-a x\n", 2, "s1-a", "byte order", True),
        ("text", b"s1-a one\ns1-a one\ns1-b two\ns2-a x\n", 2, "s1-a", "same value", True),
        ("text", b"s1-a one\ns1-a uno\ns1-b two\ns2-a x\n", 2, "s1-a", "another value", False),
        ("text", b"s1-a one\ns1-b\ns2-a x\n", 2, "s1-b", "no value", True),
        ("text", b"s1-a one\ns1-b\ttwo\ns2-a x\n", 2, None, "separate", True),
        ("text", b"s1-a one\ns1-b two  2\ns2-a x \n", 2, None, "doubled space", True),
        ("text", b"s1-a one\n\ns1-b two\ns2-a x\n", 2, None, "blank", True),
        ("text", b"s1-a one\ns1-b two\ns2-a x", 3, None, "newline", True),
        ("text", b"s1-a one\ns2-a x\n", 2, "s1-b", "is not in text", True),
        ("text", b"s1-a a\ns1-b b\ns2-a x\ns3 y\n", 4, "s3", "is not in wav.scp", True),
        ("utt2spk", b"s1-a s1 x\ns1-b s1\ns2-a s2\n", 1, "s1-a", "2 speakers", False),
        ("spk2utt", b"s1 s1-a\ns2 s2-a\n", 1, "s1", "disagrees", True),
        ("segments", b"s1-a s1-a 0.2 0.1\ns1-b s1-b 0 1\n", 1, "s1-a", "no interval", False),
        ("segments", b"s1-a s1-a -1 0.1\n", 1, "s1-a", "no interval", False),
        ("segments", b"s1-a s1-a 0 zero\n", 1, "s1-a", "recording start end", False),
        ("segments", b"s1-a s1-a 0 nan\n", 1, "s1-a", "recording start end", False),
        ("segments", b"s1-a s1-a 0 0.9\n", 1, "s1-a", "beyond the audio of 0.500", True),
        ("segments", b"s1-a s1-a 0 9\n", 1, "s1-a", "beyond the audio of 0.500", False),
        ("segments", b"s1-a s9 0 9\ns1-b s1-b 0 0.5\n", 1, "s1-a", "'s9' is not in wav", True),
        ("segments", b"s1-a\ts9\t0\t9\ns1-b s1-b 0 0.5\n", 1, "s1-a", "'s9' is not in wav", True),
        ("segments", b"s1-a s1-a 0.1 0.101\n", 1, "s1-a", "lasts 1.0 ms", False),
    ],
)
def test_each_fault_is_found_where_it_is(good, name, data, line, utt, what, fixable):
    (good / name).write_bytes(data)
    hits = [f for f in check_dir(good) if what in f.what and f.file == str(good / name)]
    if what.startswith("is not in text"):
        hits = [f for f in check_dir(good) if what in f.what]
    assert hits, report(check_dir(good))
    assert (hits[0].line, hits[0].utt, hits[0].fixable) == (line, utt, fixable)
    assert hits[0].how


def test_an_end_within_the_tolerance_is_no_finding(good):
    (good / "segments").write_text("".join(f"{u} {u} 0 0.515\n" for u in ids()))
    assert check_dir(good) == []


def test_missing_and_empty_files(good, tmp_path):
    for name in ("text", "spk2utt", "wav.scp", "utt2spk"):
        (good / name).unlink()
        assert any(f.file.endswith(name) and "missing" in f.what for f in check_dir(good)) or (
            name == "utt2spk" and "holds no data" in only(check_dir(good)).what
        )
    (good / "text").write_bytes(b"")
    assert any("no lines" in f.what for f in check_dir(good))
    assert "does not exist" in only(check_dir(tmp_path / "none")).what
    with pytest.raises(UsageError):
        check_dir(good, audio="all")


def test_text_may_be_absent_when_not_needed(good):
    (good / "text").unlink()
    assert check_dir(good, need_text=False) == []


def test_broken_audio_is_named(good, tmp_path):
    first = (tmp_path / "s1-a.wav").read_bytes()
    for damage, what in [
        (b"", "empty"),
        (first[: len(first) // 2], "truncated"),
        (b"hello" * 99, "not readable as audio"),
    ]:
        (tmp_path / "s1-a.wav").write_bytes(damage)
        found = only(check_dir(good))
        assert what in found.what and found.line == 1 and found.utt == "s1-a"
        assert not found.fixable
    (tmp_path / "s1-a.wav").unlink()
    assert "missing" in only(check_dir(good)).what
    (tmp_path / "s1-a.wav").mkdir()
    assert "not a file" in only(check_dir(good)).what
    assert check_dir(good, audio="none") == []


def test_mixed_rates_short_audio_and_speaker_order(good, tmp_path):
    tone(tmp_path / "s1-a.wav", rate=16000)
    assert "8000 Hz: 2, 16000 Hz: 1" in only(check_dir(good)).what
    tone(tmp_path / "s1-a.wav", seconds=0.005)
    assert "5.0 ms" in only(check_dir(good)).what
    tone(tmp_path / "s1-a.wav")
    (good / "utt2spk").write_text("s1-a z\ns1-b s1\ns2-a s2\n")
    (good / "spk2utt").write_text("s1 s1-b\ns2 s2-a\nz s1-a\n")
    found = only(check_dir(good))
    assert (found.level, found.line) == ("warning", 2)
    # Ids that do not begin with the speaker are fine as long as both orders agree.
    (good / "utt2spk").write_text("s1-a x\ns1-b y\ns2-a z\n")
    (good / "spk2utt").write_text("x s1-a\ny s1-b\nz s2-a\n")
    assert check_dir(good) == []


def test_commands_are_refused_unless_allowed(good, tmp_path):
    wav = tmp_path / "s1-a.wav"
    lines = (good / "wav.scp").read_text().splitlines()
    (good / "wav.scp").write_text("\n".join([f"s1-a cat {wav} |", *lines[1:]]) + "\n")
    assert "command" in only(check_dir(good)).what
    assert check_dir(good, allow_pipes=True) == []
    (good / "wav.scp").write_text("\n".join(["s1-a no-such-program x |", *lines[1:]]) + "\n")
    assert "not installed" in only(check_dir(good, allow_pipes=True)).what


def test_the_report_puts_errors_first_and_is_capped(good):
    (good / "text").write_bytes(b"s1-a one \ns1-b\ns2-a\n")
    findings = check_dir(good)
    text = report(findings, limit=2).splitlines()
    assert text[0].startswith(f"error: {good}/text:2: s1-b: has no value")
    assert text[2] == "+1 more"
    limited = check_dir(good, max_findings=1)
    assert "+1 more errors" in limited[1].what and limited[1].fixable
    bad = Finding("error", "f", 1, "a\udcff\n", "w", "h")
    report([bad]).encode()
    assert len(report([bad]).splitlines()) == 2


def test_pipes_run_without_a_shell(tmp_path):
    wav = tone(tmp_path / "a b.wav")
    wave, rate = audio.read(f"cat '{wav}' | cat |", allow_pipes=True)
    assert rate == 8000 and np.array_equal(wave, audio.read(wav)[0])
    with pytest.raises(DataError, match="refused"):
        audio.read(f"cat '{wav}' |")
    for bad in (f"cat '{wav}' > {tmp_path}/x |", "cat 'a |", "|", "cat a || b |", "false |"):
        with pytest.raises(DataError):
            audio.read(bad, allow_pipes=True)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "NIST", "MP3"])
def test_truncated_audio_is_refused_by_read_and_info(tmp_path, kind):
    path = tone(tmp_path / f"x.{kind}", seconds=1, format=kind)
    assert audio.info(path).frames == 8000
    assert len(audio.read(path, 0.25, 0.5)[0]) == 2000
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=r"x\."):
        audio.info(path)
    with pytest.raises(DataError, match=r"x\."):
        audio.read(path)


def test_a_shortened_sphere_file_is_explained(tmp_path):
    path = tmp_path / "a.sph"
    head = b"NIST_1A\n   1024\nsample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    path.write_bytes(head.ljust(1024, b"\n") + b"ajkg\2" + b"\1" * 500)
    with pytest.raises(DataError, match="shorten") as e:
        audio.read(path)
    assert str(path) in str(e.value) and "sph2pipe" in str(e.value)


def test_a_streamed_wav_with_an_open_length_is_read(tmp_path):
    path = tone(tmp_path / "a.wav")
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    assert audio.info(path).frames == 4000


def test_times_are_half_open_and_inside(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.arange(100, dtype=np.int16), 100)
    first, second = audio.read(path, 0, 0.5)[0], audio.read(path, 0.5, 1.01)[0]
    assert np.array_equal(np.concatenate([first, second]) * 32768, np.arange(100))
    for times in [(0, 1.1), (-0.1, 1), (0.5, 0.5), (1, 1.01)]:
        with pytest.raises(DataError, match="not inside"):
            audio.read(path, *times)


def test_channels_are_averaged(tmp_path):
    path = tmp_path / "a.wav"
    sf.write(path, np.array([[0.5, 0.0]] * 10), 8000)
    assert np.allclose(audio.read(path)[0], 0.25)


words = st.sampled_from(
    [b"a", b"b", b"a-1", b" ", b"\t", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3",
     b"\xa9", b"\xe3\x80\x80", b"\xc2\x85", b"0", b"0.5", b"0.9", b"nan", b"1e400", b"|", b"cat",
     b"good.wav", b"good.wav\n", b"a good.wav\n", b"a x\n", b"b y\n", b"a a 0 0.7\n", b"\r", b"."]
)  # fmt: skip
raw_files = st.fixed_dictionaries(
    {}, optional={n: st.lists(words, max_size=14).map(b"".join) | st.binary() for n in NAMES}
)


@pytest.fixture
def fuzz_dir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tone(tmp_path / "good.wav")
    return tmp_path / "data"


def write_raw(folder, files):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(files=raw_files, pipes=st.booleans())
def test_any_bytes_give_findings_and_no_exception(fuzz_dir, files, pipes):
    write_raw(fuzz_dir, files)
    findings = check_dir(fuzz_dir, allow_pipes=pipes)
    assert all(f.level in ("error", "warning") and f.what and f.how for f in findings)
    assert all(f.line is None or f.line >= 1 for f in findings)
    report(findings).encode()
