# SPDX-License-Identifier: Apache-2.0
"""Formatting reads all audio: what cannot be used is left out by name, what is odd is noted."""

import numpy as np
import pytest
import soundfile as sf
from small_set import fill, noise

from espnet_ext.data import content
from espnet_ext.data.format import FormatOptions, format_dir
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError


def faulty(src):
    """A set with each fault of content; b, the good one, and c, clipped, can be used."""
    wave = np.random.default_rng(0).uniform(-0.3, 0.3, 8000).astype(np.float32)
    waves = {
        "b": wave,
        "c": np.clip(2 * wave * np.linspace(0, 1, 8000, dtype=np.float32), -0.4, 0.4),
        "f": np.clip(1000 * wave, -1, 1),
        "i": np.where(np.arange(8000) == 77, np.inf, wave),
        "n": np.where((np.arange(8000) // 10) == 3, np.nan, wave),
        "o": np.stack([wave, -wave], 1),
        "s": 0 * wave,
        "u": np.stack([wave, 0.1 * wave], 1),
    }
    for name, data in waves.items():
        sf.write(f"{name}.wav", data, 16000, subtype="FLOAT")
    fill(src, {name: f"{name}.wav" for name in waves})


def test_what_audio_contains_is_checked_whether_it_is_written_or_not(src, tmp_path):
    faulty(src)
    for fs in (16000, 8000):  # as it is, and resampled
        done = format_dir(src, tmp_path / f"dst{fs}", FormatOptions(fs=fs))
        assert [d[:2] for d in done.dropped] == [
            ("f", "clipped flat"), ("i", "not finite"), ("n", "not finite"),
            ("o", "channels cancel"), ("s", "silent"),
        ]  # fmt: skip
        assert done.read == done.written + len(done.dropped)
        listed = (tmp_path / f"dst{fs}/dropped.tsv").read_text()
        assert "10 of 8000 samples are NaN or infinite, the first is 30: n.wav" in listed
        notes = (tmp_path / f"dst{fs}/notes.tsv").read_text().splitlines()[1:]
        assert [n.split("\t")[:2] for n in notes] == [
            ["c", "clipped"], ["u", "unequal channels are averaged"],
        ]  # fmt: skip
        assert done.summary == ["1 x clipped (c)", "1 x unequal channels are averaged (u)"]


def test_a_test_set_keeps_what_can_be_recognised(src, tmp_path):
    faulty(src)
    done = format_dir(src, tmp_path / "dst", FormatOptions(faults=content.BROKEN))
    assert [d[0] for d in done.dropped] == ["i", "n", "o"]
    assert [n[:2] for n in done.notes] == [
        ("c", "clipped"), ("f", "clipped flat"), ("s", "silent"),
        ("u", "unequal channels are averaged"),
    ]  # fmt: skip


def test_a_channel_is_chosen_where_the_average_would_be_silence(src, tmp_path):
    faulty(src)
    done = format_dir(src, tmp_path / "dst", FormatOptions(channel=0))
    left = sf.read("o.wav", dtype="float32")[0][:, 0]
    made = sf.read(read_table(tmp_path / "dst/wav.scp")["o"], dtype="float32")[0]
    assert np.abs(made - left).max() < 1e-4
    assert not [n for n in done.notes if "channels" in n[1]]
    fill(src, {"o": "o.wav"})
    with pytest.raises(DataError, match=r"1 x channels cancel") as e:
        format_dir(src, tmp_path / "dst2", FormatOptions())
    assert "format.channel" in e.value.how
    with pytest.raises(DataError, match="no utterance is left"):
        format_dir(src, tmp_path / "dst3", FormatOptions(channel=2))
    assert "there is no channel 2: the audio has 2" in (tmp_path / "dst3/dropped.tsv").read_text()


def test_audio_damaged_in_the_middle_is_found_although_it_would_not_be_written(src, tmp_path):
    fill(src, {"a": noise("a.flac", 4), "b": noise("b.flac")})
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    (tmp_path / "a.flac").write_bytes(data)
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    assert [d[:2] for d in done.dropped] == [("a", "unreadable audio")]
    assert "a.flac" in done.dropped[0][2] and done.written == 1


def test_text_is_written_in_one_form_and_what_changed_is_noted(src, tmp_path):
    texts = {"a": "e\u0301te\u0301 a\u00a0b", "b": "plain", "c": "\u200b", "d": "so <unk> it"}
    fill(src, {utt: noise("a.wav") for utt in texts}, text=texts)
    done = format_dir(src, tmp_path / "dst", FormatOptions())
    assert read_table(tmp_path / "dst/text") == {"a": "été a b", "b": "plain", "d": "so <unk> it"}
    assert [d[:2] for d in done.dropped] == [("c", "empty text")]
    assert done.summary == ["1 x text contains '<unk>' (d)", "2 x text rewritten (a, c)"]
    assert "a\ttext rewritten\tin Unicode NFC" in (tmp_path / "dst/notes.tsv").read_text()
