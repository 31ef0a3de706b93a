# SPDX-License-Identifier: Apache-2.0
import shutil

import numpy as np
import pytest
import soundfile as sf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_ext.data.check import check_dir, report
from espnet_ext.data.fix import fix_dir
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError

NAMES = ["wav.scp", "text", "utt2spk", "spk2utt", "segments", "intent"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sf.write("good.wav", 0.1 * np.ones(4000), 8000)
    d = tmp_path / "data"
    d.mkdir()
    return d


def snapshot(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def test_what_is_safe_is_repaired_and_each_drop_is_named(folder):
    (folder / "wav.scp").write_bytes(b"c good.wav\r\na\tgood.wav\r\nb good.wav\r\nd good.wav")
    (folder / "text").write_bytes(b"\xef\xbb\xbfa one  two \nc thr\0ee\nc three\nb\n")
    (folder / "utt2spk").write_bytes(b"a s\nb s\nc s\nd s\n")
    (folder / "intent").write_bytes(b"d off\nc on\na off\n")
    before = snapshot(folder)
    said = fix_dir(folder)
    assert (folder / "wav.scp").read_bytes() == b"a good.wav\nc good.wav\n"
    assert (folder / "text").read_bytes() == b"a one two\nc three\n"
    assert (folder / "utt2spk").read_bytes() == b"a s\nc s\n"
    assert (folder / "spk2utt").read_bytes() == b"s a c\n"
    assert (folder / "intent").read_bytes() == b"a off\nc on\n"
    assert "dropped b: empty text" in said and "dropped d: no text" in said
    assert said[-1] == "utterances: 4 in = 2 out + 2 dropped"
    backup = folder / ".backup-1"
    assert {n: (backup / n).read_bytes() for n in before} == before
    assert check_dir(folder) == []
    assert fix_dir(folder) == ["utterances: 2 in = 2 out + 0 dropped"]
    assert not (folder / ".backup-2").exists()


def test_conflicting_duplicates_stay_errors(folder):
    (folder / "wav.scp").write_text("a good.wav\n")
    (folder / "text").write_text("a one\na two\na one\n")
    fix_dir(folder)
    assert (folder / "text").read_text() == "a one\na two\n"
    assert any("another value" in f.what and not f.fixable for f in check_dir(folder))


def test_nothing_is_dropped_when_nothing_would_remain(folder):
    (folder / "wav.scp").write_text("a good.wav\n")
    (folder / "text").write_text("A one\n")
    said = fix_dir(folder)
    assert any("nothing dropped" in s for s in said)
    assert said[-1] == "utterances: 2 in = 2 out + 0 dropped"
    assert read_table(folder / "text") == {"A": "one"}


def test_segments_are_clipped_up_to_half_a_second(folder):
    (folder / "wav.scp").write_text("r good.wav\n")
    (folder / "segments").write_text("a r 0 0.51\nb r 0.1 0.9\nc r 0 1.1\n")
    (folder / "text").write_text("a x\nb y\nc z\n")
    said = fix_dir(folder)
    assert read_table(folder / "segments") == {
        "a": "r 0 0.51", "b": "r 0.1 0.50000", "c": "r 0 1.1"
    }  # fmt: skip
    assert "clipped b: end 0.9 s to 0.50000 s" in said


def test_utterances_of_an_unknown_recording_are_dropped(folder):
    (folder / "wav.scp").write_text("r good.wav\nunused good.wav\n")
    (folder / "segments").write_text("a r 0 0.5\nb q 0 0.5\n")
    said = fix_dir(folder)
    assert read_table(folder / "segments") == {"a": "r 0 0.5"}
    assert read_table(folder / "wav.scp").keys() == {"r", "unused"}
    assert "dropped b: no audio" in said


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        fix_dir(tmp_path / "none")


words = st.sampled_from(
    [b"a", b"b", b" ", b"\t", b"\n", b"\r\n", b"\0", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xa9",
     b"\xe3\x80\x80", b"\xc2\x85", b"0.5", b"0.9", b"good.wav\n", b"a good.wav\n", b"b good.wav\n",
     b"a x\n", b"b y\n", b"a a 0 0.7\n", b"b a 0 0.5\n", b"b a 0 0.8\n", b"\r", b"\xef",
     b"\xbb\xbf"]
)  # fmt: skip
raw_files = st.fixed_dictionaries(
    {}, optional={n: st.lists(words, max_size=10).map(b"".join) | st.binary() for n in NAMES}
)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(files=raw_files)
def test_a_fix_leaves_only_what_is_not_fixable_and_a_second_one_changes_nothing(folder, files):
    shutil.rmtree(folder)
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    said = fix_dir(folder)
    numbers = [int(w) for w in said[-1].split() if w.isdigit()]
    assert numbers[0] == numbers[1] + numbers[2]
    left = [f for f in check_dir(folder) if f.fixable]
    assert not left, report(left)
    once = snapshot(folder)
    assert len(fix_dir(folder)) <= 2
    assert snapshot(folder) == once
