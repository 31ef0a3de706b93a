# SPDX-License-Identifier: Apache-2.0
"""lhotse's cuts to and from data folders; ``lhotse/cuts.jsonl.gz`` is of lhotse itself."""

import gzip
import json
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_ext import cli
from espnet_ext.align.formats.ctm import ctm_lines
from espnet_ext.align.formats.import_times import import_times
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.data import lookup, sorter
from espnet_ext.data.lhotse.from_cuts import from_cuts
from espnet_ext.data.lhotse.to_cuts import to_cuts
from espnet_ext.data.lookup import TableLookup
from espnet_ext.data.sorter import Sorter
from espnet_ext.data.tables import read_table, write_table
from espnet_ext.errors import DataError, UsageError

MADE = Path(__file__).parent / "lhotse/cuts.jsonl.gz"
CUTS = {cut["id"]: cut for cut in map(json.loads, gzip.decompress(MADE.read_bytes()).splitlines())}
RATE, SAMPLES = 16000, 4800


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with the audio that lhotse was given."""
    monkeypatch.chdir(tmp_path)
    t = np.arange(SAMPLES) / RATE
    tone = {hz: 0.1 * np.sin(2 * np.pi * hz * t) for hz in (200, 300, 400, 500)}
    waves = {"a": tone[200], "b": tone[300], "c": np.stack([tone[400], tone[500]], axis=1)}
    (tmp_path / "audio").mkdir()
    for name, wave in waves.items():
        sf.write(tmp_path / f"audio/{name}.wav", wave, RATE, subtype="PCM_16")
    return tmp_path


def write(path, *cuts):
    path.write_text("".join(json.dumps(cut) + "\n" for cut in cuts))
    return path


def convert(here, *names):
    done = from_cuts(write(here / "x.jsonl", *(CUTS[name] for name in names)), Path("out"))
    return done, {p.name: p.read_text() for p in Path("out").iterdir() if p.is_file()}


def test_supervisions_become_utterances_with_their_channel_and_alignment(here):
    done, made = convert(here, "mono", "multi")
    assert (done.utterances, done.aligned, done.refused) == (4, 2, 0)
    assert made["segments"] == "a-1 a 0 0.1\na-2 a 0.15 0.25\nc-0 c-0 0.1 0.2\nc-1 c-1 0.1 0.2\n"
    assert made["text"] == "a-1 hello there\na-2 you\nc-0 left\nc-1 right\n"
    assert made["spk2utt"] == "s1 a-1 a-2\ns3 c-0\ns4 c-1\n"
    assert made["utt2lang"] == "a-1 en\n"
    # The second channel of a file is a file of its own.
    right, _ = sf.read(read_table("out/wav.scp")["c-1"])
    assert np.abs(right - sf.read("audio/c.wav")[0][:, 1]).max() < 1e-4
    words = Path("out/alignment/words.ctm").read_text()
    assert words == "a-1 1 0.050 0.050 hello 0.9\na-2 1 0.010 0.040 you\n"
    phones = Path("out/alignment/phones.ctm").read_text()
    assert phones == "a-1 1 0.050 0.020 HH\n"
    summary = import_times("out/alignment", "ali", data="out", min_count=1)
    assert summary.utterances == 1


def test_cuts_that_lhotse_would_compute_are_refused_by_id(here):
    done, made = convert(here, "padded", "faster", "mixed", "padding", "window")
    assert made["wav.scp"] == f"b {here}/audio/b.wav\n" and "segments" not in made
    rows = [line.split("\t") for line in made["refused.tsv"].splitlines()]
    assert [(row[0], row[2].rpartition(":")[2]) for row in rows] == [
        ("b_sp1.1", "2"), ("mixed", "3"), ("padding", "4"), ("a-1", "5"), ("a-2", "5"),
    ]  # fmt: skip
    says = ("transformed (Speed)", "sound at once", "no audio", *["trim_to_supervisions()"] * 2)
    assert all(x in reason for (_, reason, _), x in zip(rows, says, strict=True))
    told = "\n".join(done.lines(Path("out")))
    assert "5 refused: b_sp1.1 (its audio is transformed (Speed)" in told


def test_parts_that_follow_one_another_and_another_rate_are_plain_cuts(here):
    _, made = convert(here, "appended")
    assert made["segments"] == "a-1 a 0 0.1\na-2 a 0.15 0.25\nb b 0 0.3\n"
    _, made = convert(here, "resampled")
    assert made["wav.scp"] == f"b {here}/audio/b.wav\n" and "segments" not in made


def test_alignments_of_a_cut_within_a_recording(here):
    """Times count from the recording; a cut made before lhotse 1.17 has them from the cut."""
    word = [["you", 0.16, 0.04]]
    s = {**CUTS["mono"]["supervisions"][1], "start": 0.0}
    for start, first in ((0.16, "0.010"), (0.01, "0.010"), (0.9, None)):
        s["alignment"] = {"word": [[word[0][0], start, 0.04]]}
        cut = {**CUTS["mono"], "start": 0.15, "duration": 0.1, "supervisions": [s]}
        done = from_cuts(write(here / "x.jsonl", cut), Path("out"))
        if first is None:
            assert done.misplaced == 1 and not Path("out/alignment/words.ctm").exists()
        else:
            assert Path("out/alignment/words.ctm").read_text() == f"a-2 1 {first} 0.040 you\n"


def test_alignments_of_other_units_are_no_alignment(here):
    s = {**CUTS["mono"]["supervisions"][0], "alignment": {"subword": [["_he", 0.05, 0.02]]}}
    done = from_cuts(write(here / "x.jsonl", {**CUTS["mono"], "supervisions": [s]}), Path("out"))
    assert (done.utterances, done.aligned) == (1, 0) and not Path("out/alignment").exists()


def test_cuts_without_supervisions_are_unlabelled_speech(here):
    bare = {**CUTS["mono"], "supervisions": []}
    write(here / "x.jsonl", bare)
    from_cuts(here / "x.jsonl", Path("out"))
    assert Path("out/utt2spk").read_text() == "mono mono\n" and not Path("out/text").exists()
    done = from_cuts(write(here / "x.jsonl", bare, CUTS["resampled"]), Path("out"))
    assert done.utterances == 1 and "no text" in Path("out/refused.tsv").read_text()


def changed(name, **fields):
    return {k: v for k, v in {**CUTS[name], **fields}.items() if v != "left out"}


@pytest.mark.parametrize(
    ("cuts", "says", "where"),
    [
        ([changed("mono"), changed("appended")], "'a-1' stands twice", "x.jsonl:1 and "),
        ([changed("mono"), changed("multi", id="")], "no 'id'", "x.jsonl:2"),
        ([changed("mono", duration="left out")], "'mono' lacks the field 'duration'", ":1"),
        ([changed("mono", start="one")], "'mono' is not as lhotse writes it", ":1"),
        ([changed("mono", supervisions=[{"id": "a"}])], "'mono' lacks the field 'start'", ":1"),
        ([changed("padding")], r"no utterance in it: padding \(a PaddingCut", "x.jsonl"),
        ([], "the manifest is empty", "x.jsonl"),
    ],
)
def test_a_damaged_manifest_names_line_and_cut_and_leaves_nothing(here, cuts, says, where):
    path = write(here / "x.jsonl", *cuts)
    with pytest.raises(DataError, match=says) as e:
        from_cuts(path, Path("out"))
    assert where in str(e.value.where) and not Path("out").exists()


def test_files_that_are_no_manifest(here):
    whole = MADE.read_bytes()
    (here / "x.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="damaged or cut off after line"):
        from_cuts(here / "x.jsonl.gz", Path("out"))
    (here / "y.jsonl").write_text("[1]\n")
    with pytest.raises(DataError, match="no JSON object"):
        from_cuts(here / "y.jsonl", Path("out"))
    with pytest.raises(UsageError, match=r"\.jsonl or \.jsonl\.gz"):
        from_cuts(here / "cuts.yaml", Path("out"))
    with pytest.raises(DataError, match="no such manifest"):
        from_cuts(here / "none.jsonl", Path("out"))
    with pytest.raises(DataError, match="no Shar shards"):
        from_cuts(here / "audio", Path("out"))


def test_only_a_folder_of_our_own_is_replaced(here):
    path = write(here / "x.jsonl", CUTS["multi"])
    from_cuts(path, Path("out"))
    from_cuts(path, Path("out"))
    before = Path("out/wav.scp").read_bytes()
    to_cuts(Path("out"), here / "back.jsonl")
    with pytest.raises(DataError, match="in the folder that is to be replaced"):
        from_cuts(here / "back.jsonl", Path("out"))
    assert Path("out/wav.scp").read_bytes() == before
    with pytest.raises(UsageError, match="something else"):
        from_cuts(path, Path("audio"))


NAMES = st.text("ab/-é", min_size=1, max_size=4)
SETS = st.dictionaries(  # utterance: recording, start, length, word, speaker, aligned
    NAMES,
    st.tuples(st.sampled_from("abc"), st.integers(0, 199), st.integers(1, 100),
              NAMES, st.sampled_from(["s1", "s2", "z"]), st.booleans()),
    min_size=1, max_size=8,
)  # fmt: skip


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sounds")
    for name, channels in (("a", 1), ("b", 1), ("c", 2)):
        sf.write(folder / f"{name}.wav", np.zeros((SAMPLES, channels)), RATE)
    return folder


@settings(max_examples=20)
@given(rows=SETS, segments=st.booleans())
def test_from_cuts_of_to_cuts_is_the_same_folder(sounds, rows, segments):
    work = sounds / "work"
    shutil.rmtree(work, ignore_errors=True)
    data, back, cuts = work / "data", work / "back", work / "cuts.jsonl.gz"
    ctm = {}
    for utt, (_, _, length, word, _, aligned) in rows.items():
        if aligned:
            ctm[utt] = ctm_lines(utt, [Interval(0.001, 0.001 + length / 2000, word)])
    tables = {
        "text": {utt: f"{row[3]} {row[3]}" for utt, row in rows.items()},
        "utt2spk": {utt: row[4] for utt, row in rows.items()},
    }
    if segments:
        tables["wav.scp"] = {row[0]: f"{sounds}/{row[0]}.wav" for row in rows.values()}
        tables["segments"] = {
            utt: f"{r} {start / 1000:g} {(start + length) / 1000:g}"
            for utt, (r, start, length, *_) in rows.items()
        }
    else:
        tables["wav.scp"] = {utt: f"{sounds}/{row[0]}.wav" for utt, row in rows.items()}
    for name, table in tables.items():
        write_table(data / name, table)
    (data / "alignment").mkdir()
    order = sorted(ctm, key=str.encode)
    (data / "alignment/words.ctm").write_text("".join(ctm[u] for u in order))
    done = to_cuts(data, cuts, data / "alignment" if ctm else None)
    assert done == (len(rows), len(ctm))
    assert from_cuts(cuts, back).utterances == len(rows)
    for name in tables:
        assert (back / name).read_text() == (data / name).read_text()
    if ctm:
        words = "alignment/words.ctm"
        assert (back / words).read_text() == (data / words).read_text()
    first = cuts.read_bytes()
    to_cuts(back, cuts, back / "alignment" if ctm else None)
    assert cuts.read_bytes() == first


def test_the_command(here, capsys):
    write(here / "x.jsonl", CUTS["mono"])
    assert cli.main(["data", "--from-cuts", "x.jsonl", "out"]) == 0
    assert "espnet-ext align import out/alignment OUT --data out" in capsys.readouterr().out
    argv = ["data", "--to-cuts", "out", "back.jsonl.gz", "--alignment", "out/alignment"]
    assert cli.main(argv) == 0
    assert "2 cuts written, 2 with an alignment" in capsys.readouterr().out
    for argv, says in (
        (["data"], "give one of --from-cuts and --to-cuts"),
        (["data", "--from-cuts", "x.jsonl", "o", "--allow-pipes"], "go with --to-cuts"),
        (["data", "--to-cut", "x", "o"], "did you mean '--to-cuts'"),
    ):
        assert cli.main(argv) == 2
        assert says in capsys.readouterr().err


def peak(work):
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_manifest(here, monkeypatch):
    monkeypatch.setattr(sorter, "_ROWS", 20)
    monkeypatch.setattr(sorter, "_RUNS", 3)
    monkeypatch.setattr(lookup, "_PLACES", 10)
    s = CUTS["mono"]["supervisions"][0]
    peaks = []
    for count in (150, 450):
        path, ids = here / f"{count}.jsonl", [f"u{i * 7919 % 100003:06d}" for i in range(count)]
        write(path, *({**CUTS["mono"], "id": u, "supervisions": [{**s, "id": u}]} for u in ids))
        out = Path(f"out{count}")
        there = peak(lambda path=path, out=out: from_cuts(path, out))
        alignment = out / "alignment"
        back = peak(lambda out=out, a=alignment: to_cuts(out, here / "back.jsonl", a))
        peaks.append((there, back))
    # A row that is held takes 1 kB at least; files that are written fill their buffers at first.
    grown = [(b - a) / 300 for a, b in zip(*peaks, strict=True)]
    assert grown[0] < 600 and grown[1] < 150, grown


def test_what_cannot_become_a_cut_names_the_utterance(here):
    data = here / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"a {here}/audio/a.wav\n")
    for segment, says in (
        ("u b 0 1", "'u' is of 'b', which is not in wav.scp"),
        ("u a 0", "the segment of 'u' is not"),
        ("u a 0.1 0.9", "'u' lasts from 0.1 to 0.9 s of 0.3 s"),
    ):
        (data / "segments").write_text(segment + "\n")
        with pytest.raises(DataError, match=says):
            to_cuts(data, here / "x.jsonl")
    (data / "segments").write_text("u a 0.1 -1\n")
    to_cuts(data, here / "x.jsonl")
    assert json.loads((here / "x.jsonl").read_text())["duration"] == 0.2


@settings(max_examples=25)
@given(
    table=st.dictionaries(st.text("abé", min_size=1, max_size=3), NAMES, max_size=20),
    ordered=st.booleans(),
)
def test_a_table_is_found_on_disk_as_in_memory(tmp_path_factory, table, ordered):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lookup, "_PLACES", 3)  # so that there are lines between the known places
        check_lookup(tmp_path_factory, table, ordered)


def check_lookup(tmp_path_factory, table, ordered):
    path = tmp_path_factory.mktemp("t") / "t"
    items = sorted(table.items(), key=lambda kv: kv[0].encode(), reverse=not ordered)
    path.write_text("".join(f"{k} {v}\n" for k, v in items))
    found = TableLookup(path)
    assert len(found) == len(table) and dict(found) == table
    assert [found.get(k) for k in ("", "a", "ab", "b", "zz")] == [
        table.get(k) for k in ("", "a", "ab", "b", "zz")
    ]


@settings(max_examples=25)
@given(rows=st.lists(st.tuples(st.text("abé", min_size=1, max_size=2), st.integers(0, 9))))
def test_rows_are_sorted_on_disk_and_equal_keys_keep_their_order(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("s")
    found = Sorter(folder, "x", rows=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorter, "_RUNS", 2)  # so that runs are merged, too
        for key, value in rows:
            found.add(key, value)
        assert list(found) == sorted(rows, key=lambda row: row[0].encode())
