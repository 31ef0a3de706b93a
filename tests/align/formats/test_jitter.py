# SPDX-License-Identifier: Apache-2.0
"""Labels with moved boundaries."""

from itertools import pairwise
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.jitter import Jittered, folder_name, moved_frames
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.options import from_dict
from espnet_ext.align.stage import align_sets
from espnet_ext.data.tables import read_table, write_set, write_table
from espnet_ext.weak_align.header import source_streams


@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.floats(0, 40), st.integers(0, 99))
def test_every_phone_stays_and_in_its_order(lengths, sd, seed):
    starts, frames = np.cumsum([0, *lengths[:-1]]), sum(lengths)
    taken = moved_frames(starts, frames, sd, np.random.default_rng(seed))
    assert len(taken) == frames and (np.diff(taken) >= 0).all()
    phone = np.repeat(np.arange(len(lengths)), lengths)
    assert (np.unique(phone[taken]) == np.arange(len(lengths))).all()
    if sd == 0:
        assert (taken == np.arange(frames)).all()


PHONES, FRAMES = 200, 10  # phones of an utterance, frames of a phone


def alignment(tmp_path):
    """Two utterances of long phones, three states each, and a data folder of them."""
    header = Header("senone", 6, phones=("SIL", "A", "B"))
    at = [i * FRAMES / 100 for i in range(PHONES + 1)]
    phones = [Interval(a, b, "AB"[i % 2]) for i, (a, b) in enumerate(pairwise(at))]
    words = [Interval(p.start_s, p.end_s, f"w{i}") for i, p in enumerate(phones)]
    states = np.repeat([0, 1, 2], [3, 4, 3])
    labels = np.concatenate([states + 3 * (i % 2) for i in range(PHONES)]).astype(np.int32)
    with AlignmentWriter(tmp_path / "ali", header, textgrid=False) as w:
        for utt in ("a", "b"):
            w.add(utt, labels, phones, words)
    write_set(tmp_path / "train", {u: (f"{u}.flac", "x", "s") for u in ("a", "b")})
    write_table(tmp_path / "train/utt2num_samples", dict.fromkeys("ab", len(labels) * 160))
    (tmp_path / "train/rate").write_text("16000")  # there is no audio to tell it
    return tmp_path / "ali"


def boundaries(words):
    return np.flatnonzero(words[1:] != words[:-1]) + 1


def test_boundaries_move_by_as_much_as_is_asked(tmp_path):
    given, worse = alignment(tmp_path), None
    own = AlignmentDir(given)
    for ms in (20, 40):
        worse = Jittered(given, ms)
        moved = 10 * (boundaries(worse.frame_words("a")) - boundaries(own.frame_words("a")))
        assert abs(moved.std() - ms) < 0.2 * ms and abs(moved.mean()) < 0.3 * ms
    labels, phones = worse.labels("a"), worse.frame_phones("a")
    assert (labels // 3 == phones - 1).all()  # states stay within their phone
    assert (labels != worse.labels("b")).any()
    fresh = Jittered(given, 40)
    assert (fresh.labels("b") == worse.labels("b")).all()  # whatever was read before
    assert (Jittered(given, 40, seed=2).labels("a") != labels).any()


def test_a_recipe_writes_them_beside_the_labels(tmp_path):
    given = alignment(tmp_path)
    o = from_dict({"alignments": {"train": str(given)}, "jitter_ms": [20, 50]})
    align_sets(tmp_path, "train", [], o, map, str)
    streams = [(str(tmp_path / "train/align/targets.scp"), "align", "kaldi_ark")]
    used = [
        source_streams(streams, source, train=True)[0][0]
        for source in ("aligned", folder_name(20), folder_name(50))
    ]
    tables = [read_table(path) for path in map(Path, used)]
    assert len({t["a"] for t in tables}) == 3 and all(t.keys() == {"a", "b"} for t in tables)
