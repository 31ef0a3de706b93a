# SPDX-License-Identifier: Apache-2.0
"""Joining short utterances: nothing lost, nothing twice, in order, and the same on a rerun."""

import json
import pickle

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data.check import check_dir
from espnet_ext.data.format import SHORT, FormatOptions, format_dir
from espnet_ext.data.join import group_short
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError

RATE = 8000
lengths = st.lists(st.integers(1, 50).map(lambda n: n / 10), min_size=1, max_size=30)


@given(lengths)
def test_groups_keep_all_audio_in_order_and_reach_the_length(seconds):
    rows = [(f"u{i:02d}", s) for i, s in enumerate(seconds)]
    groups = group_short(rows, join_s=2.0, max_s=6.5)
    in_groups = [u for g in groups for u in g]
    assert len(set(in_groups)) == len(in_groups)  # no utterance twice
    length = dict(rows)
    totals = [sum(length[u] for u in g) for g in groups]
    assert all(g == sorted(g) and len(g) > 1 for g in groups)
    alone = [s for u, s in rows if u not in in_groups]
    assert abs(sum(totals) + sum(alone) - sum(seconds)) < 1e-9
    assert all(t < 6.5 + 1e-9 for t in totals)
    # Who stays short: at most one utterance, and then nobody of that speaker could have taken it.
    short = [s for s in alone + totals if s < 2.0 - 1e-9]
    assert len(short) <= 1
    if short and len(alone) + len(totals) > 1:
        assert [s for s in seconds if s >= 2.0][-1] + short[0] > 6.5


def wave(folder, name, seconds, seed, rate=RATE):
    path = folder / f"{name}.wav"
    noise = np.random.default_rng(seed).integers(-9000, 9000, round(seconds * rate))
    sf.write(path, noise.astype(np.int16), rate)
    return path


@pytest.fixture
def src(tmp_path):
    """Speaker a has enough for two; b has too little; c has one short and one long utterance."""
    d = tmp_path / "src"
    d.mkdir()
    seconds = {"a-1": 0.4, "a-2": 0.7, "a-3": 1.2, "a-4": 0.5, "a-5": 0.5, "a-6": 0.3,
               "b-1": 0.2, "b-2": 0.3, "c-1": 1.5, "c-2": 0.2}  # fmt: skip
    paths = {u: wave(d, u, s, i) for i, (u, s) in enumerate(seconds.items())}
    (d / "wav.scp").write_text("".join(f"{u} {p}\n" for u, p in paths.items()))
    (d / "utt2spk").write_text("".join(f"{u} {u[0]}\n" for u in paths))
    return d


def samples(dst):
    return {u: sf.read(p, dtype="int16")[0] for u, p in read_table(dst / "wav.scp").items()}


def options(**changes):
    return FormatOptions(**{"fs": RATE, "max_s": 10, **changes})


def test_joined_audio_is_that_of_its_parts(src, tmp_path):
    dst = tmp_path / "dst"
    done = format_dir(src, dst, options(), join_s=1.0)
    assert (done.read, done.written, done.joined, done.dropped) == (10, 5, 5, [])
    got = samples(dst)
    assert list(got) == ["a-1-joined2", "a-3", "a-4-joined3", "b-1-joined2", "c-1-joined2"]
    one = {u: sf.read(p, dtype="int16")[0] for u, p in read_table(src / "wav.scp").items()}
    parts = {"a-1-joined2": ["a-1", "a-2"], "a-3": ["a-3"], "a-4-joined3": ["a-4", "a-5", "a-6"],
             "b-1-joined2": ["b-1", "b-2"], "c-1-joined2": ["c-1", "c-2"]}  # fmt: skip
    for name, wanted in parts.items():
        assert np.array_equal(got[name], np.concatenate([one[u] for u in wanted]))
    header, *lines = (dst / "joined.tsv").read_text().splitlines()
    for line in lines:
        name, utt, first, end = line.split("\t")
        assert np.array_equal(got[name][int(first) : int(end)], one[utt])
    assert header == "joined\tutt\tfirst_sample\tend_sample" and len(lines) == 9
    assert read_table(dst / "utt2spk") == {name: name[0] for name in parts}
    assert json.loads((dst / "format.json").read_text())["joined"] == 5
    assert check_dir(dst, need_text=False) == []
    # What a loss that needs join_s cannot use is told here, not when it is trained.
    assert done.notes == [("b-1-joined2", SHORT, "0.50 of 1 s")]


def test_a_rerun_changes_nothing_and_other_options_leave_nothing_behind(src, tmp_path):
    dst = tmp_path / "dst"
    format_dir(src, dst, options(), join_s=1.0)
    first = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (dst / "wav").rglob("*.flac")}
    again = format_dir(src, dst, options(), join_s=1.0)
    assert again.reused == 5 and again.joined == 5
    assert first == {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (dst / "wav").rglob("*.flac")
    }
    format_dir(src, dst, options())
    assert not (dst / "joined.tsv").exists() and not list((dst / "wav").rglob("*.flac"))
    assert len(read_table(dst / "wav.scp")) == 10


def test_segments_are_joined_at_another_rate_in_other_processes(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    path = wave(src, "rec", 4, 0, rate=16000)
    (src / "wav.scp").write_text(f"r {path}\n")
    (src / "segments").write_text("a r 0 0.25\nb r 1 1.5\nc r 2 3.5\nd r 3.5 3.75\ne r 3.9 9\n")
    (src / "utt2spk").write_text("".join(f"{u} s\n" for u in "abcde"))

    def elsewhere(fn, items):
        for item in items:
            fn, item = pickle.loads(pickle.dumps((fn, json.loads(json.dumps(item)))))
            yield json.loads(json.dumps(fn(item)))

    apart = format_dir(src, tmp_path / "apart", options())
    done = format_dir(src, tmp_path / "dst", options(), n_jobs_map=elsewhere, join_s=0.7)
    assert done.read == done.written + done.joined + len(done.dropped) == 5
    assert [d[:2] for d in done.dropped] == [d[:2] for d in apart.dropped]
    total = {d: sum(map(len, samples(tmp_path / d).values())) for d in ("apart", "dst")}
    assert total["apart"] == total["dst"]
    assert list(samples(tmp_path / "dst")) == ["a-joined3", "c"]


def test_unreadable_parts_are_dropped_with_their_reason_and_the_rest_is_joined(src, tmp_path):
    (src / "a-2.wav").write_bytes(b"RIFF")
    (src / "b-1.wav").unlink()
    done = format_dir(src, tmp_path / "dst", options(min_s=0.5), join_s=1.0)
    assert done.read == done.written + done.joined + len(done.dropped)
    assert [d[:2] for d in done.dropped] == [
        ("a-2", "unreadable audio"),
        ("b-1", "unreadable audio"),
        ("b-2", "too short"),
    ]


def test_a_made_id_never_equals_a_given_one(src, tmp_path):
    path = wave(src, "z", 1.1, 9)
    with open(src / "wav.scp", "a") as f, open(src / "utt2spk", "a") as g:
        f.write(f"a-1-joined2 {path}\n")
        g.write("a-1-joined2 a\n")
    format_dir(src, tmp_path / "dst", options(), join_s=1.0)
    got = samples(tmp_path / "dst")
    assert len(got["a-1-joined2"]) == round(1.1 * RATE) and "a-1-joined2x" in got


def test_what_cannot_be_joined_is_refused_before_anything_is_written(src, tmp_path):
    dst = tmp_path / "dst"
    for bad, join_s in (({"max_s": 2}, 1.0), ({"speeds": (0.9, 1.0)}, 1.0), ({}, -1.0)):
        with pytest.raises(UsageError, match="join_s"):
            format_dir(src, dst, options(**bad), join_s=join_s)
    (src / "text").write_text("a-1 hello\n")
    with pytest.raises(UsageError, match="text"):
        format_dir(src, dst, options(), join_s=1.0)
    assert not dst.exists()


def test_without_text_an_empty_set_or_missing_table_is_a_clear_error(src, tmp_path):
    (src / "wav.scp").write_text("")
    with pytest.raises(DataError, match="no utterance is left of 0"):
        format_dir(src, tmp_path / "dst", options(), join_s=1.0)
    (src / "wav.scp").unlink()
    with pytest.raises(DataError, match=r"wav\.scp is missing"):
        format_dir(src, tmp_path / "dst", options())
