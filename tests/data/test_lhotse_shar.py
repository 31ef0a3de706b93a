# SPDX-License-Identifier: Apache-2.0
"""Shar shards as data: ``lhotse/shar`` is of lhotse itself, damaged ones are made here."""

import multiprocessing
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from shards import add, write_shards
from small_set import fill, noise

from espnet_ext.data import audio
from espnet_ext.data.format import FormatOptions, format_dir
from espnet_ext.data.lhotse.from_cuts import from_cuts
from espnet_ext.data.streams import find_stream
from espnet_ext.data.tables import read_table
from espnet_ext.data.tar_member import parse_member
from espnet_ext.errors import DataError
from espnet_ext.recipe.content import Contents

MADE = Path(__file__).parent / "lhotse/shar"
LONG = "an/id-of-more-than-a-hundred-bytes-" + "x" * 100


@pytest.fixture
def shards(src):
    """Five utterances in two shards, one of a name that needs a header of its own."""
    names = ("a", "b", LONG, "d", "e")
    fill(src, {n: noise(src / f"{i}.wav", 0.3 + i / 10) for i, n in enumerate(names)})
    return write_shards(src, Path("shards"), per_shard=3)


def test_shards_of_lhotse(src):
    done = from_cuts(MADE, Path("data"))
    # A cut of the middle of a recording: where it began there, the shard does not tell.
    assert done.utterances == 5 and done.forgotten and not Path("data/alignment").exists()
    assert not Path("data/segments").exists()
    t = np.arange(1600) / 16000
    for utt, hz, first in (("a-1", 200, 0), ("a-2", 200, 2400), ("c-1", 500, 1600)):
        speech, rate = audio.read(read_table("data/wav.scp")[utt])
        expected = 0.1 * np.sin(2 * np.pi * hz * (t + first / 16000))
        assert rate == 16000 and np.abs(speech - expected).max() < 1e-4
    assert read_table("data/text")["a-1"] == "hello there"


@pytest.mark.parametrize("kind", ["shar", "sound"])
def test_format_leaves_audio_in_shards_where_training_reads_it_there(src, shards, kind):
    from_cuts(shards, Path("data"))
    streams = {"wav.scp": kind, "text": "text"}
    report = format_dir("data", "dump", FormatOptions(), streams=streams)
    assert (report.read, report.written) == (5, 5)
    made, read = read_table("dump/wav.scp"), find_stream(kind).read
    if kind == "shar":
        assert made == read_table("data/wav.scp")
    else:
        assert all(path.endswith(".flac") for path in made.values())
    for utt, path in read_table(src / "wav.scp").items():
        assert np.array_equal(read(made[utt]), sf.read(path, dtype="float32")[0])
    assert read_table("dump/utt2num_samples")["b"] == "6400"
    assert report.reused == 0
    again = format_dir("data", "dump", FormatOptions(), streams=streams)
    assert again.reused == 5  # by size and times of the shard
    Path(parse_member(read_table("data/wav.scp")["b"]).path).touch()  # that of the first three
    assert format_dir("data", "dump", FormatOptions(), streams=streams).reused == 2


def test_what_must_change_is_written_and_stands_beside_the_rest(src):
    noise(src / "8k.wav", 0.4, rate=8000)
    fill(src, {"a": noise(src / "a.wav"), "b": src / "8k.wav"})
    from_cuts(write_shards(src, Path("shards")), Path("data"))
    format_dir("data", "dump", FormatOptions(), streams={"wav.scp": "shar", "text": "text"})
    made = read_table("dump/wav.scp")
    assert parse_member(made["a"]) and made["b"].endswith(".flac")
    assert find_stream("shar").read(made["b"]).shape == (6400,)


def _read(entry):
    return find_stream("shar").read(entry).tobytes()


def test_forked_workers_share_what_is_open(shards):
    from_cuts(shards, Path("data"))
    entries = list(read_table("data/wav.scp").values()) * 20
    expected = [_read(e) for e in entries]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_read, entries, chunksize=1) == expected


def cut_off(path, at):
    path.write_bytes(path.read_bytes()[:at])


def without(path, name):
    """Write a tar again without one member."""
    with tarfile.open(path) as tar:
        kept = [(m.name, tar.extractfile(m).read()) for m in tar if m.name != name]
    with tarfile.open(path, "w") as tar:
        for member in kept:
            add(tar, *member)


def spoil_lines(path, change):
    path.write_text("".join(change(path.read_text().splitlines(keepends=True))))


SECOND = 512 + 9728 + 1024  # where the header of the second audio begins, behind a.wav and a.json
DAMAGE = {
    "within audio": (lambda s: cut_off(s / "recording.000000.tar", 4000),
                     "the shard is cut off within 'a.wav'", "recording.000000.tar"),
    "between members": (lambda s: cut_off(s / "recording.000000.tar", SECOND),
                        "ends before the audio of cut 'b'", "recording.000000.tar"),
    "no tar": (lambda s: (s / "recording.000001.tar").write_bytes(b"x" * 2048),
               "the shard is damaged", "recording.000001.tar"),
    "missing tar": (lambda s: (s / "recording.000001.tar").unlink(),
                    "cuts.000001.jsonl has no audio: recording.000001.tar is missing", "shards"),
    "packed tar": (lambda s: (s / "recording.000001.tar").rename(s / "recording.000001.tar.gz"),
                   "a compressed shard", "recording.000001.tar.gz"),
    "a member lacks": (lambda s: without(s / "recording.000000.tar", "b.wav"),
                       f"audio of '{LONG}' is where that of cut 'b' should be", "000000.tar"),
    "a cut lacks": (lambda s: spoil_lines(s / "cuts.000001.jsonl", lambda x: x[:1]),
                    "the cuts end after 'd', and the shard goes on with 'e'", "cuts.000001"),
    "a field lacks": (lambda s: spoil_lines(s / "cuts.000001.jsonl",
                      lambda x: [x[0].replace('"duration"', '"length"'), x[1]]),
                      "the cut 'd' lacks the field 'duration'", "cuts.000001.jsonl:1"),
    "an id twice": (lambda s: [shutil.copy(s / f"{x}.000000.{e}", s / f"{x}.000002.{e}")
                               for x, e in (("cuts", "jsonl"), ("recording", "tar"))],
                    "'a' stands twice", "cuts.000000.jsonl:1 and shards/cuts.000002.jsonl:1"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_shards_are_named_with_the_id_and_the_index_before_stays(shards, damage):
    from_cuts(shards, Path("data"))
    before = Path("data/wav.scp").read_bytes()
    spoil, says, where = DAMAGE[damage]
    spoil(shards)
    with pytest.raises(DataError) as e:
        from_cuts(shards, Path("data"))
    assert says in e.value.what and where in str(e.value.where)
    assert Path("data/wav.scp").read_bytes() == before
    assert sorted(p.name for p in Path().iterdir()) == ["data", "shards", "src"]


def test_shards_that_changed_after_they_were_indexed(src, shards):
    from_cuts(shards, Path("data"))
    values = read_table("data/wav.scp")
    print_before = Contents().fingerprint(Path("data/wav.scp"))
    entry = values["b"]
    path, offset, size = parse_member(entry)
    for wrong, says in (
        (f"{path}:{offset + 512}:{size}", "no member here"),
        (f"{path}:{offset}:{size - 1}", f"a member of {size} bytes here"),
        (f"{path}:{offset}:{size + 10**6}", "cut off before this member ends"),
        (f"{path}x.tar:{offset}:{size}", "the shard is missing"),
    ):
        with pytest.raises(DataError, match=says) as e:
            find_stream("shar").read(wrong)
        assert str(e.value.where) == wrong
    # One that breaks off is told by format for each utterance in it; the others stay.
    cut_off(shards / "recording.000000.tar", offset + 2000)
    report = format_dir("data", "dump", FormatOptions(), streams={"wav.scp": "shar"})
    assert {utt for utt, *_ in report.dropped} == {"b", LONG}
    assert all("cut off" in why and "000000.tar:" in why for *_, why in report.dropped)
    assert Contents().fingerprint(Path("data/wav.scp")) != print_before
