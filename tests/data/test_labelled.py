# SPDX-License-Identifier: Apache-2.0
"""Hiding texts: exact share, fair to every speaker, nested, equal everywhere, nothing leaks."""

import hashlib
import json
import math
from collections import Counter

import numpy as np
import pytest
import soundfile as sf
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.data.check import check_dir
from espnet_ext.data.labelled import (
    choose_labelled,
    describe,
    labelling_order,
    split_dir,
    split_labelled,
)
from espnet_ext.data.tables import read_table, write_set
from espnet_ext.errors import DataError, UsageError

speakers = st.lists(st.integers(1, 30), min_size=1, max_size=12).map(
    lambda sizes: {f"s{s}-{u}": f"s{s}" for s, n in enumerate(sizes) for u in range(n)}
)


@given(speakers)
def test_every_beginning_of_the_order_is_fair_to_every_speaker(utt2spk):
    order = labelling_order(utt2spk)
    assert sorted(order) == sorted(utt2spk)
    size, had = Counter(utt2spk.values()), Counter()
    for turn, utt in enumerate(order, 1):
        had[utt2spk[utt]] += 1
        for spk, n in size.items():
            share = turn * n / len(order)
            assert math.floor(share) <= had[spk] <= math.ceil(share)


@given(speakers, st.floats(0.01, 1), st.floats(0.01, 1))
def test_the_share_is_exact_and_a_smaller_one_is_a_part_of_a_larger(utt2spk, a, b):
    small, large = sorted((a, b))
    size = int(large * len(utt2spk) + 0.5)
    if not size:
        with pytest.raises(DataError, match="no utterance would be labelled"):
            choose_labelled(utt2spk, large)
        return
    chosen = choose_labelled(utt2spk, large)
    assert len(chosen) == size
    if int(small * len(utt2spk) + 0.5):
        assert choose_labelled(utt2spk, small) <= chosen


def test_the_choice_is_by_the_hash_of_the_ids_whatever_their_order():
    rows = {f"s{i % 3}-{i:02d}": (f"{i}.wav", "x", f"s{i % 3}") for i in range(24)}
    labelled, rest = split_labelled(rows, 0.25)
    backwards, _ = split_labelled(dict(reversed(rows.items())), 0.25)
    assert list(labelled) == list(backwards) == sorted(labelled)
    assert not labelled.keys() & rest.keys() and {**labelled, **rest} == rows
    # Another choice would make the scores of all earlier splits incomparable.
    two_of_each = []
    for spk in ("s0", "s1", "s2"):
        by_hash = sorted((hashlib.blake2b(u.encode(), digest_size=16).digest(), u)
                         for u in rows if u.startswith(spk))  # fmt: skip
        two_of_each += [utt for _, utt in by_hash[:2]]
    assert list(labelled) == sorted(two_of_each)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(UsageError, match="labelled fraction"):
        choose_labelled({"a": "s"}, fraction)


@pytest.fixture
def src(tmp_path):
    rng = np.random.default_rng(0)
    rows = {}
    for i in range(12):
        path = tmp_path / f"{i}.wav"
        sf.write(path, rng.integers(-99, 99, 8000 + 800 * i).astype(np.int16), 8000)
        rows[f"s{i % 3}-{i:02d}"] = (str(path), f"word{i}", f"s{i % 3}")
    write_set(tmp_path / "train", rows)
    return tmp_path / "train"


def test_no_hidden_text_reaches_the_unlabelled_folder(src, tmp_path):
    out = tmp_path / "out"
    summary = split_dir(src, out, 0.25)
    assert (summary["labelled"], summary["unlabelled"], summary["overlap"]) == (3, 9, 0)
    assert abs(summary["labelled_s"] + summary["unlabelled_s"] - 12 * 1.55) < 1e-6
    assert json.loads((out / "labelled.json").read_text()) == summary
    labelled = (out / "labelled.txt").read_text().split()
    assert list(read_table(out / "labelled/text")) == labelled
    rest = (out / "unlabelled.txt").read_text().split()
    assert sorted(labelled + rest) == sorted(read_table(src / "text"))
    files = {p.name for p in (out / "unlabelled").iterdir()}
    assert files == {"wav.scp", "utt2spk", "spk2utt"}
    assert "word" not in "".join(p.read_text() for p in (out / "unlabelled").iterdir())
    assert Counter(u[:2] for u in labelled) == {"s0": 1, "s1": 1, "s2": 1}
    assert check_dir(out / "labelled") == []
    assert check_dir(out / "unlabelled", need_text=False) == []


def test_overlap_is_told(src, tmp_path):
    summary = split_dir(src, tmp_path / "out", 0.25, "all")
    assert summary["unlabelled"] == 12 and summary["overlap"] == 3
    assert "in both: 3, an easier setting" in describe(summary)
    with pytest.raises(DataError, match="no utterance is left"):
        split_dir(src, tmp_path / "out", 1.0)
    assert split_dir(src, tmp_path / "out", 1.0, "all")["overlap"] == 12


def test_segments_go_with_their_utterances(src, tmp_path):
    wav = str(tmp_path / "0.wav")
    (src / "wav.scp").write_text(f"r1 {wav}\nr2 {wav}\n")
    (src / "segments").write_text("a r1 0 0.25\nb r1 0.25 0.5\nc r1 0.5 0.75\nd r2 0 0.5\n")
    (src / "text").write_text("a x\nb x\nc x\nd x\n")
    (src / "utt2spk").write_text("a s\nb s\nc s\nd s\n")
    summary = split_dir(src, tmp_path / "out", 0.75)
    lengths = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.5}
    for name in ("labelled", "unlabelled"):
        segments = read_table(tmp_path / "out" / name / "segments")
        assert summary[f"{name}_s"] == sum(lengths[u] for u in segments)
        used = {value.split()[0] for value in segments.values()}
        assert read_table(tmp_path / "out" / name / "wav.scp").keys() == used


def test_missing_audio_is_named(src, tmp_path):
    (tmp_path / "4.wav").unlink()
    with pytest.raises(DataError, match="missing") as e:
        split_dir(src, tmp_path / "out", 0.5)
    assert "s1-04" in str(e.value) and "4.wav" in str(e.value) and "wav.scp" in str(e.value)
