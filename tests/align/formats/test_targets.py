# SPDX-License-Identifier: Apache-2.0
"""Labels of training frames from alignments of other grids, lengths and speeds."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omniio import kaldi

from espnet_ext.align.formats.directory import AlignmentDir, AlignmentWriter, Header
from espnet_ext.align.formats.targets import at_training_frames, write_targets
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.options import from_dict
from espnet_ext.align.stage import align_sets
from espnet_ext.data.tables import read_table, write_set, write_table
from espnet_ext.errors import DataError, UsageError
from espnet_ext.weak_align.header import header_path, read_header
from espnet_ext.weak_align.presets import resolve

OURS = Header("senone", 100, phones=("SIL", "A"))
KALDI = Header("pdf", 100, first_frame_centre_s=0.0125, phones=("SIL", "A"))


def test_own_grid_is_the_identity():
    labels = np.arange(37, dtype=np.int32)
    assert (at_training_frames(labels, OURS, 1.0, 37) == labels).all()


@given(st.integers(10, 400), st.sampled_from([0.9, 1.0, 1.1]), st.sampled_from([OURS, KALDI]))
def test_each_frame_gets_the_label_of_the_nearest_time(frames, factor, header):
    """The reference looks every centre up in a loop."""
    length = round(frames * factor)
    labels = np.arange(length, dtype=np.int32)
    got = at_training_frames(labels, header, factor, frames)
    have_s = [header.first_frame_centre_s + 0.01 * i for i in range(length)]
    for t in range(frames):
        want_s = (t + 0.5) * 0.01 * factor
        assert abs(have_s[got[t]] - want_s) <= min(abs(h - want_s) for h in have_s) + 1e-9


def test_coarse_labels_are_repeated():
    chain = Header("pdf", 9, frame_shift_s=0.03, first_frame_centre_s=0.015, phones=("SIL", "A"))
    got = at_training_frames(np.array([1, 2, 3], np.int32), chain, 1.0, 9)
    assert got.tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_another_length_is_refused():
    with pytest.raises(DataError, match="another segmentation"):
        at_training_frames(np.zeros(100, np.int32), OURS, 1.0, 110)


@pytest.fixture
def folder(tmp_path):
    """Set of three utterances of 1 s and a speed copy; c has no alignment, d a wrong one."""
    rows = {u: (f"{u}.flac", "x", "s") for u in ("a", "b", "c", "d", "sp0.9-a")}
    write_set(tmp_path / "train", rows)
    samples = dict.fromkeys(rows, 16000) | {"sp0.9-a": round(16000 / 0.9)}
    write_table(tmp_path / "train/utt2num_samples", samples)
    (tmp_path / "train/rate").write_text("16000")  # there is no audio to tell it
    with AlignmentWriter(tmp_path / "ali", OURS, textgrid=False) as w:
        for k, (utt, n) in enumerate({"a": 100, "b": 100, "d": 160}.items()):
            labels = np.full(n, k, np.int32)
            w.add(utt, labels, [Interval(0.0, n / 100, "A")], [Interval(0.0, n / 100, "x")])
        w.skip("c", "too short")
    return tmp_path


def original(utt):
    return (utt.removeprefix("sp0.9-"), 0.9) if utt.startswith("sp0.9-") else (utt, 1.0)


def test_every_utterance_has_a_line_and_what_is_missing_is_listed(folder):
    out = folder / "train/align"
    missing = write_targets(AlignmentDir(folder / "ali"), out, folder / "train", 16000, original)
    targets = {u: np.asarray(x) for u, x in kaldi.load_scp(str(out / "targets.scp")).items()}
    assert list(targets) == list(read_table(folder / "train/wav.scp"))
    assert missing == 2
    listed = [line.split("\t") for line in (out / "unlabelled.tsv").read_text().splitlines()]
    assert [u for u, _ in listed] == ["c", "d"] and "another segmentation" in listed[1][1]
    assert [set(targets[u].tolist()) for u in ("a", "b", "c", "d")] == [{0}, {1}, {-1}, {-1}]
    assert len(targets["sp0.9-a"]) == 111 and set(targets["sp0.9-a"].tolist()) == {0}
    assert Header.read(out) == OURS


@pytest.mark.parametrize("within", [True, False])
def test_trainings_are_told_of_the_frames_of_the_targets(folder, within):
    """Not of those of the alignment, in whose folder the targets may be."""
    chain = replace(OURS, frame_shift_s=0.03, first_frame_centre_s=0.015)
    with AlignmentWriter(folder / "chain", chain, textgrid=False) as w:
        for utt in ("a", "b", "c", "d"):
            labels = np.repeat(np.arange(3, dtype=np.int32), 11)
            w.add(utt, labels, [Interval(0.0, 0.99, "A")], [Interval(0.0, 0.99, "x")])
    out = folder / ("chain" if within else "train/align")
    write_targets(AlignmentDir(folder / "chain"), out, folder / "train", 16000, original)
    assert Header.read(out) == chain
    streams = [(str(out / "targets.scp"), "align", "kaldi_ark")]
    facts = read_header(header_path(resolve({"preset": "weak_tri"}), streams))
    assert (facts["frame_shift_s"], facts["first_frame_centre_s"]) == (0.01, 0.005)
    assert facts["num_classes"] == chain.num_classes


def test_shuffled_labels_are_those_of_another_utterance(folder):
    out = folder / "train/align"
    write_targets(AlignmentDir(folder / "ali"), out, folder / "train", 16000, original)
    own, other = read_table(out / "targets.scp"), read_table(out / "shuffled.scp")
    assert own.keys() == other.keys() and sorted(own.values()) == sorted(other.values())
    assert all(own[u] != other[u] for u in own)


@pytest.mark.parametrize("speeds", [["sp0.9-"], ["sp0.9-", "sp1.1-"]])
def test_shuffled_labels_are_not_those_of_a_copy(folder, speeds):
    """Utterances in upper case sort before all copies, half a list apart from their own."""
    utts = [prefix + name for prefix in ("", *speeds) for name in "ABCD"]
    out = folder / "train/align"
    write_table(folder / "train/utt2num_samples", dict.fromkeys(utts, 16000))
    with AlignmentWriter(folder / "four", OURS, textgrid=False) as w:
        for k, utt in enumerate("ABCD"):
            phone = [Interval(0.0, 1.0, "A")]
            w.add(utt, np.full(100, k % 2, np.int32), phone, phone)
    write_targets(
        AlignmentDir(folder / "four"), out, folder / "train", 16000,
        lambda utt: (utt[-1], 1.0),
    )  # fmt: skip
    own, other = read_table(out / "targets.scp"), read_table(out / "shuffled.scp")
    name = {place: utt[-1] for utt, place in own.items()}
    assert all(name[other[utt]] != utt[-1] for utt in utts)
    assert sorted(own.values()) == sorted(other.values())


def test_nothing_in_common_is_an_error(folder):
    write_table(folder / "train/utt2num_samples", {"z": 16000})
    with pytest.raises(DataError, match="no utterance has labels"):
        write_targets(AlignmentDir(folder / "ali"), folder / "o", folder / "train", 16000, original)


def test_a_recipe_takes_alignments_that_exist(folder):
    o = from_dict({"alignments": {"train": str(folder / "ali")}})
    lines = []
    align_sets(folder, "train", [], o, map, lines.append, original)
    assert (folder / "train/align/targets.scp").exists()
    assert any("2 utterances" in line and "no labels" in line for line in lines)
    with pytest.raises(UsageError, match="set 'dev'"):
        align_sets(folder, "train", ["dev"], o, map, lines.append, original)
