# SPDX-License-Identifier: Apache-2.0
"""espnet-ext doctor --data: what audio contains, odd text, what sets share."""

import numpy as np
import pytest
import soundfile as sf
from small_set import fill, noise

from espnet_ext.data import check_audio
from espnet_ext.data.check import check_dir
from espnet_ext.data.doctor import main
from espnet_ext.data.overlap import overlaps
from espnet_ext.data.tables import iter_table, read_table, write_spk2utt
from espnet_ext.data.transcripts import remarks, tidy
from espnet_ext.errors import DataError, UsageError


def spoil(path):
    """Damage a file in the middle."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)


def complete(src):
    write_spk2utt(src, read_table(src / "utt2spk"))


def test_audio_that_no_model_can_use_is_named(src, tmp_path, capsys):
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 8000)
    waves = {"nan": np.where(np.arange(8000) < 10, np.nan, wave), "ok": wave,
             "opposite": np.stack([wave, -wave], 1), "silent": 0 * wave}  # fmt: skip
    for name, data in waves.items():
        sf.write(f"{name}.wav", data, 16000, subtype="FLOAT")
    fill(src, {"damaged": noise("damaged.flac", 4), **{n: f"{n}.wav" for n in waves}})
    spoil(tmp_path / "damaged.flac")
    complete(src)
    assert main(["--data", str(src)]) == 3
    said = capsys.readouterr().out
    for utt, what in (
        ("damaged", "samples 0 to"),
        ("nan", "10 of 8000 samples are NaN or infinite, the first is 0"),
        ("opposite", "channels cancel"),
        ("silent", "silent: the peak is 0"),
    ):
        assert f"{utt}: " in said and what in said
    assert "ok: " not in said and "3 errors, 1 warning;" in said
    assert main(["--data", str(src), "--channel", "1"]) == 3
    said = capsys.readouterr().out
    assert "no channel 1: the audio has 1" in said and "opposite" not in said
    assert check_dir(src) == []  # the headers alone are fine


def test_much_audio_is_sampled_and_told_and_full_reads_all(src, tmp_path, monkeypatch):
    wavs = {f"u{i}": noise(f"u{i}.flac", 4) for i in range(6)}
    wave = np.full(16000, np.nan)
    wave[1:] = np.random.default_rng(0).uniform(-0.5, 0.5, 15999)
    sf.write("z.wav", wave, 16000, subtype="DOUBLE")
    fill(src, {**wavs, "z": "z.wav"})
    complete(src)
    spoil(tmp_path / "u1.flac")
    monkeypatch.setattr(check_audio, "CONTENT_S", 10.0)
    found = check_dir(src, audio="content")
    assert [(f.level, f.utt) for f in found] == [("error", "z"), ("warning", None)]
    assert "the samples of 4 of 7 files were not read" in found[1].what
    assert [f.utt for f in check_dir(src, audio="full")] == ["u1", "z"]


def test_channels_that_differ_and_clipping_are_told_once(src):
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 8000)
    sf.write("a.wav", np.stack([wave, 0.1 * wave], 1), 16000)
    sf.write("b.wav", np.clip(4 * wave * np.linspace(0, 1, 8000), -0.9, 0.9), 16000)
    fill(src, {"a": "a.wav", "b": "b.wav", "c": "a.wav"})
    complete(src)
    found = {f.utt: f.what for f in check_dir(src, audio="full")}
    assert found == {
        "a": "has channels that differ, and they are averaged (and 1 more files)",
        "b": "is clipped (more than 1 % of the samples)",
    }


ODD = {
    "a\u00a0b": "an unusual space (U+00A0)",
    "a\u202fb": "an unusual space (U+202F)",
    "a\u3000b": "an unusual space (U+3000)",
    "a\u200bb": "an invisible character (U+200B)",
    "e\u0301te\u0301": "Unicode NFC",
    "so <unk> it": "'<unk>'",
    "[UNK]": "'[UNK]'",
    "a <blank> b": "'<blank>'",
}


@pytest.mark.parametrize("text", ODD)
def test_odd_text_is_warned_of_with_its_line(src, text, capsys):
    fill(src, {"a": noise("a.wav"), "b": "a.wav", "c": "a.wav"}, {"a": "x", "b": text, "c": text})
    complete(src)
    assert main([f"--data={src}"]) == 0
    said = capsys.readouterr().out
    assert f"{src}/text:2: b: " in said and ODD[text] in said and "(and 1 more lines)" in said
    assert "0 errors, 1 warning;" in said


def test_tidy_text_is_one_form_and_stays_it():
    assert tidy("e\u0301te\u0301 \u00a0 a\u202f?\u3000b\u200b") == "été a ? b"
    for text in [*ODD, "plain text", "クリスマス", "\u0915\u094d\u200d\u0937", "ᄒ\u1161ᆫ"]:
        assert tidy(tidy(text)) == tidy(text)
        assert not [what for what, how in remarks(tidy(text)) if "'" not in what]
    assert "\u200d" in tidy("\u0915\u094d\u200d\u0937")  # a joiner that means something


def test_what_sets_share_is_told(src, tmp_path, capsys):
    fill(src, {"s1-a": noise("a.wav"), "s1-b": noise("b.wav")}, {"s1-a": "one", "s1-b": "e\u0301"})
    complete(src)
    other = tmp_path / "test"
    other.mkdir()
    rows = {"s1-b": ("b2.wav", "é"), "s2-c": (tmp_path / "a.wav", "x"), "s2-d": ("d.wav", "one")}
    fill(other, {u: noise(p) if isinstance(p, str) else "a.wav" for u, (p, _) in rows.items()},
         {u: t for u, (_, t) in rows.items()})  # fmt: skip
    complete(other)
    assert main([f"--data={src}", f"--data={other}"]) == 0
    said = capsys.readouterr().out
    line = next(x for x in said.splitlines() if f"{src} and {other} share" in x)
    assert "share 1 utterance ids (s1-b), " in line and ", 1 speakers (s); " in line
    assert f"2 of 3 texts of {other} (66.7 %) are texts of {src}, too" in line
    assert overlaps({"a": src, "b": other}, training=["a", "b"]) == []
    assert overlaps({"a": src, "b": tmp_path / "none"}) == []


def test_a_test_set_may_be_a_part_of_another_but_not_of_the_training(src, tmp_path):
    fill(src, {u: noise(f"{u}.wav") for u in ("s1-a", "s1-b", "s2-c")})
    complete(src)
    part = tmp_path / "part"
    part.mkdir()
    fill(part, {"s1-b": "s1-b.wav"})
    complete(part)
    assert overlaps({"whole": src, "part": part}, training=["other"]) == []
    assert overlaps({"part": part, "whole": src}, training=["other"]) == []
    for name in ("whole", "part"):
        told = overlaps({"whole": src, "part": part}, training=[name])
        assert "share 1 utterance ids (s1-b)" in told[0]
        assert len(told) == 1
    assert len(overlaps({"whole": src, "part": part})) == 1  # which is the training is not known


def test_misuse():
    for argv, says in (
        (["--data", "x", "--stream", "video.scp"], "not FILE=TYPE"),
        (["--data", "x", "--channel", "left"], "'left' is not a channel"),
        (["--data", "x", "--stream", "v.scp=vidoe"], "no type of stream 'vidoe'"),
        (["--fix"], "no folder"),
    ):
        with pytest.raises(UsageError, match=says):
            main(argv)


def test_a_tab_ends_a_key_as_a_space_does(tmp_path):
    path = tmp_path / "text"
    path.write_text("a\tone two\nb \tthree\nc\t\nd e\tf\n")
    assert read_table(path) == {"a": "one two", "b": "three", "c": "", "d": "e\tf"}
    path.write_text("a\tone\na two\n")
    with pytest.raises(DataError, match="'a' stands twice"):
        read_table(path)


def test_a_key_that_stands_twice_is_found_in_any_order(tmp_path):
    path = tmp_path / "text"
    for order, line in (("abcc", 4), ("abca", 4), ("cabdb", 5), ("bab", 3)):
        path.write_text("".join(f"{k} x\n" for k in order))
        with pytest.raises(DataError, match="twice") as e:
            list(iter_table(path))
        assert e.value.where == f"{path}:{line}"
    path.write_text("b x\na x\nc x\n")
    assert list(read_table(path)) == ["b", "a", "c"]


def test_audio_of_40_ms_is_named(src):
    fill(src, {"a": noise("a.wav"), "b": noise("b.wav", 0.04)})
    complete(src)
    found = check_dir(src)
    assert [(f.level, f.utt, f.what) for f in found] == [
        ("warning", "b", "the audio lasts 40.0 ms")
    ]
