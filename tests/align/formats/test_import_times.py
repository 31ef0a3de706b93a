# SPDX-License-Identifier: Apache-2.0
"""Import of times of phones: classes by context, grids, lengths, silence."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from espnet_ext.align.formats.ctm import Ctm, write_ctm
from espnet_ext.align.formats.directory import AlignmentDir
from espnet_ext.align.formats.import_command import main_import_ctm, main_import_textgrid
from espnet_ext.align.formats.import_times import import_times
from espnet_ext.align.formats.textgrid import read_textgrid, write_textgrid
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.align.tree.context_classes import ContextClasses, contexts
from espnet_ext.errors import DataError, UsageError


def spans(*rows: tuple[float, str], start: float = 0.0) -> list[Interval]:
    """Make intervals from (end, name)."""
    out = []
    for end, name in rows:
        out.append(Interval(start, end, name))
        start = end
    return out


PHONES = {
    "u1": spans((0.20, "sil"), (0.30, "AH"), (0.42, "N"), (0.50, "SIL")),
    "u2": spans((0.10, "sp"), (0.15, "N"), (0.40, "AH"), (0.45, "N"), (0.60, "sil")),
    "u3": spans((0.30, "AH"), (0.33, "K"), (0.40, "sil")),
}
WORDS = {"u1": spans((0.42, "an"), start=0.2), "u2": spans((0.45, "nan"), start=0.1)}


@pytest.fixture
def ctm(tmp_path):
    write_ctm(tmp_path / "phones.ctm", PHONES.items())
    write_ctm(tmp_path / "words.ctm", WORDS.items())
    return tmp_path / "phones.ctm"


def test_classes_back_off_by_frames(tmp_path, ctm):
    summary = import_times(
        ctm, tmp_path / "out", words=tmp_path / "words.ctm", min_count=15, textgrid=True
    )
    # AH after SIL: 10 frames before N and 30 before K; the 10 are too few for SIL AH *.
    # N: 12 (AH N SIL), 5 (SIL N AH), 5 (AH N SIL).
    names = ["* SIL *", "* AH *", "* K *", "* N *", "AH N SIL", "N AH N", "SIL AH K"]
    assert (tmp_path / "out" / "classes.txt").read_text().splitlines() == names
    assert summary.num_classes == 7 and summary.unit == "triphone"
    got = AlignmentDir(tmp_path / "out")
    assert got.header.phones == ("SIL", "AH", "K", "N") and got.header.silence_ids == (0,)
    assert got.labels("u1").tolist() == [0] * 20 + [1] * 10 + [4] * 12 + [0] * 8
    assert got.labels("u2").tolist() == [0] * 10 + [3] * 5 + [5] * 25 + [4] * 5 + [0] * 15
    assert got.labels("u3").tolist() == [6] * 30 + [2] * 3 + [0] * 7
    assert got.frame_phones("u2").tolist() == [0] * 10 + [3] * 5 + [1] * 25 + [3] * 5 + [0] * 15
    assert got.frame_words("u1").tolist() == [-1] * 20 + [0] * 22 + [-1] * 8
    assert set(got.frame_words("u3")) == {-1}
    pooled = import_times(ctm, tmp_path / "pooled", min_count=10)
    assert "SIL AH *" not in (tmp_path / "pooled" / "classes.txt").read_text()
    assert pooled.num_classes == 8  # SIL AH N has enough by itself


@given(
    st.lists(st.tuples(*[st.sampled_from(["SIL", "A", "B", "C"])] * 3, st.integers(1, 40))),
    st.integers(1, 60),
)
def test_every_context_class_has_enough_frames(rows, least):
    counts = Counter()
    for *context, n in rows:
        counts[tuple(context)] += n
    classes = ContextClasses.from_counts(counts, "triphone", least)
    frames = Counter()
    for context, n in counts.items():
        k = classes.of(context)
        frames[k] += n
        left, phone, right = classes.names[k]
        assert phone == context[1] and left in ("*", context[0]) and right in ("*", context[2])
    for k, (left, phone, right) in enumerate(classes.names):
        assert (left, right) == ("*", "*") or (frames[k] >= least and phone != "SIL")


def test_textgrids_give_the_same_as_ctm(tmp_path, ctm):
    for utt, phones in PHONES.items():
        folder = tmp_path / "mfa" / "speaker"
        folder.mkdir(parents=True, exist_ok=True)
        end = phones[-1].end_s
        write_textgrid(folder / f"{utt}.TextGrid", WORDS.get(utt, []), phones, end)
    argv = ["--words", str(tmp_path / "words.ctm"), "--min-count", "15"]
    assert main_import_ctm([str(ctm), str(tmp_path / "a"), *argv]) == 0
    assert main_import_textgrid([str(tmp_path / "mfa"), str(tmp_path / "b"), *argv[2:]]) == 0
    a, b = AlignmentDir(tmp_path / "a"), AlignmentDir(tmp_path / "b")
    assert a.utts == b.utts == sorted(PHONES)
    for utt in PHONES:
        for read in (AlignmentDir.labels, AlignmentDir.frame_phones, AlignmentDir.frame_words):
            np.testing.assert_array_equal(read(a, utt), read(b, utt))


def test_lengths_must_be_those_of_the_data(tmp_path, ctm, capsys):
    data = tmp_path / "data"
    data.mkdir()
    # u1 2 frames longer than its phones, u2 and u3 cut differently, u4 not aligned, u5 unknown.
    (data / "utt2num_samples").write_text("u1 8320\nu2 8000\nu3 16000\nu4 16000\n")
    with open(ctm, "a") as f:
        f.write("u5 1 0.0 0.5 AH\n")
    (data / "rate").write_text("16000\n")
    assert main_import_ctm([str(ctm), str(tmp_path / "out"), "--data", str(data)]) == 0
    got = AlignmentDir(tmp_path / "out")
    assert got.utts == ["u1"] and got.labels("u1").size == 52
    assert got.labels("u1")[-2:].tolist() == [0, 0]
    assert got.skipped == {
        "u2": ("another segmentation", "60 frames, 50 in the data"),
        "u3": ("another segmentation", "40 frames, 100 in the data"),
        "u5": (
            "not in the data folder",
            "it has no such utterance; if this is a recording, give its segments",
        ),
        "u4": ("no alignment", "not in the source"),
    }
    assert "skipped: 2 (another segmentation)" in capsys.readouterr().out


def rounded_apart(path, digits):
    """Write 40 utterances whose starts and durations are rounded each by itself."""
    rng, lines = np.random.default_rng(digits), []
    for u in range(40):
        edges = np.cumsum(rng.uniform(3, 30, 8)) * 10.0**-digits * (3 if digits < 3 else 10)
        for name, a, b in zip("SABCABS", edges, edges[1:], strict=False):
            lines.append(f"u{u:02d} 1 {a:.{digits}f} {b - a:.{digits}f} {name}\n")
    path.write_text("".join(lines))


@pytest.mark.parametrize("digits", [1, 2, 3, 4])
def test_times_rounded_apart_do_not_overlap(tmp_path, digits):
    rounded_apart(tmp_path / "phones.ctm", digits)
    summary = import_times(tmp_path / "phones.ctm", tmp_path / "out", min_count=1)
    assert summary.utterances == 40 and not summary.skipped
    rows = Ctm(tmp_path / "phones.ctm")["u00"]
    assert all(a.end_s <= b.start_s for a, b in pairwise(rows))
    unit = max(10.0**-digits, 0.002)
    with open(tmp_path / "phones.ctm", "a") as f:
        f.write(f"v 1 0 {3 * unit:.{digits}f} A\nv 1 {unit:.{digits}f} 0.9 B\n")
    import_times(tmp_path / "phones.ctm", tmp_path / "out", min_count=1)
    assert AlignmentDir(tmp_path / "out").skipped["v"][0] == "phones overlap"


def test_ctm_with_confidence_type_and_speaker(tmp_path):
    path = tmp_path / "phones.ctm"
    path.write_text(
        "u 1 0.00 0.20 SIL NA lex NA\nu 1 0.20 0.20 HH 0.9 lex spk1\nu 1 0.4 0.2 AY NA lex\n"
    )
    assert import_times(path, tmp_path / "out", unit="phone").utterances == 1
    assert AlignmentDir(tmp_path / "out").labels("u").tolist() == [0] * 20 + [2] * 20 + [1] * 20
    path.write_text("u 1 0.00 0.20 HH NA lex NA more\n")
    with pytest.raises(DataError, match="9 columns"):
        Ctm(path)["u"]


@pytest.mark.parametrize("by_data", [True, False])
def test_times_of_recordings_are_cut_by_segments(tmp_path, by_data):
    recordings = {
        "call1": [Interval(0.5, 0.8, "A"), Interval(0.8, 1.2, "B"), Interval(3.0, 3.31, "A")],
        "call2": [Interval(0.0, 0.5, "B"), Interval(0.5, 0.7, "SIL")],
    }
    write_ctm(tmp_path / "phones.ctm", recordings.items())
    write_ctm(tmp_path / "words.ctm", [("call1", [Interval(0.5, 1.2, "ab")])])
    (tmp_path / "segments").write_text("a1 call1 0.5 1.5\na2 call1 3.0 3.3\nb1 call2 0 -1\n")
    given = {"data": tmp_path} if by_data else {"segments": tmp_path / "segments"}
    import_times(tmp_path / "phones.ctm", tmp_path / "out", words=tmp_path / "words.ctm",
                 unit="phone", **given)  # fmt: skip
    got = AlignmentDir(tmp_path / "out")
    assert got.utts == ["a1", "a2", "b1"] and not got.skipped
    assert got.labels("a1").tolist() == [1] * 30 + [2] * 40 + [0] * 30
    assert got.labels("a2").tolist() == [1] * 30  # what reaches beyond the end is cut
    assert got.labels("b1").tolist() == [2] * 50 + [0] * 20
    assert got.words["a1"] == [Interval(0.0, 0.7, "ab")] and got.words["a2"] == []
    (tmp_path / "segments").write_text("a1 call1 1.5 0.5\n")
    with pytest.raises(DataError, match="utterance recording start end"):
        import_times(tmp_path / "phones.ctm", tmp_path / "x", segments=tmp_path / "segments")


def praat(tier: str, rows: list[tuple[str, str, str]]) -> str:
    text = f'class = "IntervalTier"\nname = "{tier}"\nxmin = 0\nxmax = 1\n'
    text += f"intervals: size = {len(rows)}\n"
    for i, (a, b, label) in enumerate(rows, 1):
        text += f'intervals [{i}]:\nxmin = {a}\nxmax = {b}\ntext = "{label}"\n'
    return text


def textgrid(path, *tiers: tuple[str, list]):
    head = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 1\n'
    text = head + f"tiers? <exists>\nsize = {len(tiers)}\nitem []:\n"
    for i, (name, rows) in enumerate(tiers, 1):
        text += f"item [{i}]:\n{praat(name, rows)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_textgrid_with_noise_of_floats_in_its_times(tmp_path):
    rows = [("0", "0.4000000000000001", "D"), ("0.4", "0.6", "OW1"), ("0.6", "1", "")]
    textgrid(tmp_path / "grids/u.TextGrid", ("phones", rows))
    import_times(tmp_path / "grids", tmp_path / "out", min_count=1, unit="phone")
    assert AlignmentDir(tmp_path / "out").labels("u").tolist() == [1] * 40 + [2] * 20 + [0] * 40
    textgrid(tmp_path / "bad/v.TextGrid", ("phones", [("0", "0.5", "D"), ("0.4", "1", "OW1")]))
    with pytest.raises(DataError, match=r"'D' and 'OW1' in the tier phones overlap at 0\.4 s"):
        read_textgrid(tmp_path / "bad/v.TextGrid")
    with pytest.raises(DataError, match=r"unusable \(1\); the first: v: 'D' and 'OW1'"):
        import_times(tmp_path / "bad", tmp_path / "x")


def test_spoken_noise_belongs_to_its_word(tmp_path):
    phones, words = [("0", "0.6", "spn"), ("0.6", "1", "sil")], [("0", "0.6", "<unk>")]
    textgrid(tmp_path / "grids/u.TextGrid", ("words", words), ("phones", phones))
    summary = import_times(tmp_path / "grids", tmp_path / "out", min_count=1, unit="phone")
    got = AlignmentDir(tmp_path / "out")
    assert got.header.phones == ("SIL", "spn") and summary.silence_frames == 40
    assert got.labels("u").tolist() == [1] * 60 + [0] * 40
    assert got.frame_words("u").tolist() == [0] * 60 + [-1] * 40
    assert got.words["u"] == [Interval(0.0, 0.6, "<unk>")]


def test_names_of_250_bytes(tmp_path):
    utts = ["ü" * 125, "a" * 250, "a" * 249 + "b", "x/" + "%" * 120, "short/%41"]
    write_ctm(tmp_path / "phones.ctm", [(u, spans((0.2, "A"), (0.5, "B"))) for u in utts])
    import_times(tmp_path / "phones.ctm", tmp_path / "out", min_count=1, textgrid=True)
    again = import_times(tmp_path / "out/textgrid", tmp_path / "again", min_count=1)
    assert AlignmentDir(tmp_path / "again").utts == sorted(utts, key=str.encode)
    assert again.utterances == 5 and not again.skipped


def test_silence_that_is_not_written_is_filled_in(tmp_path):
    rows = [Interval(0.1, 0.2, "A"), Interval(0.2004, 0.3, "B"), Interval(0.5, 0.6, "A")]
    write_ctm(tmp_path / "phones.ctm", [("u", rows)])
    (tmp_path / "utt2dur").write_text("u 1.0\n")
    import_times(tmp_path / "phones.ctm", tmp_path / "out", data=tmp_path, unit="phone")
    got = AlignmentDir(tmp_path / "out")
    assert (
        got.labels("u").tolist() == [0] * 10 + [1] * 10 + [2] * 10 + [0] * 20 + [1] * 10 + [0] * 40
    )
    assert [(p.name, p.end_s) for p in got.phones["u"]] == [
        ("SIL", 0.1), ("A", 0.2004), ("B", 0.3), ("SIL", 0.5), ("A", 0.6), ("SIL", 1.0),
    ]  # fmt: skip
    write_ctm(tmp_path / "phones.ctm", [("v", spans((0.1, "sp"), (1.0, "sil")))])
    import_times(tmp_path / "phones.ctm", tmp_path / "out")
    assert AlignmentDir(tmp_path / "out").phones["v"] == [Interval(0.0, 1.0, "SIL")]


def test_classes_of_the_training_set_serve_a_test_set(tmp_path, ctm):
    train = import_times(ctm, tmp_path / "train", min_count=15)
    other = {"t": spans((0.1, "K"), (0.2, "N"), (0.3, "SIL")), "odd": spans((0.2, "ZH"))}
    write_ctm(tmp_path / "test.ctm", other.items())
    test = import_times(tmp_path / "test.ctm", tmp_path / "test", classes=tmp_path / "train")
    assert test.num_classes == train.num_classes
    got = AlignmentDir(tmp_path / "test")
    assert got.labels("t").tolist() == [2] * 10 + [3] * 10 + [0] * 10
    assert got.skipped == {"odd": ("phone without class", "'ZH'")}


def test_unusable_utterances_are_named(tmp_path, ctm):
    with open(ctm, "a") as f:
        f.write("v1 1 0.0 0.5 AH\nv1 1 0.3 0.5 N\nv2 1 0.0 x AH\nv3 1 0.0 0.001 AH\n")
    import_times(ctm, tmp_path / "out")
    skipped = AlignmentDir(tmp_path / "out").skipped
    assert {u: r for u, (r, _) in skipped.items()} == {
        "v1": "phones overlap", "v2": "unusable", "v3": "too short",
    }  # fmt: skip
    assert "phones.ctm:" in skipped["v2"][1]
    with pytest.raises(UsageError, match="no unit 'senone'"):
        import_times(ctm, tmp_path / "x", unit="senone")
    with pytest.raises(DataError, match=r"classes\.txt is missing"):
        import_times(ctm, tmp_path / "x", classes=tmp_path)
    assert not (tmp_path / "x").exists()


def test_rare_contexts_share_the_left_phone_if_they_are_enough():
    assert list(contexts(["A", "B"])) == [("SIL", "A", "B"), ("A", "B", "SIL")]
    counts = Counter({("A", "B", "C"): 6, ("A", "B", "D"): 6, ("E", "B", "C"): 9})
    classes = ContextClasses.from_counts(counts, "triphone", 10)
    assert classes.names[2:] == (("A", "B", "*"),)
    assert [classes.of(c) for c in counts] == [2, 2, 1]


def test_nothing_of_the_users_is_replaced(tmp_path, ctm):
    (tmp_path / "notes.txt").write_text("mine")
    (grids := tmp_path / "grids").mkdir()
    for utt, phones in PHONES.items():
        write_textgrid(grids / f"{utt}.TextGrid", [], phones, phones[-1].end_s)
    before = sorted(tmp_path.rglob("*"))
    for source, out in (
        (ctm, tmp_path), (grids, grids), (ctm, ctm), (ctm, grids), (ctm, Path("")),
    ):  # fmt: skip
        with pytest.raises(UsageError, match="name another folder"):
            import_times(source, out)
    assert sorted(tmp_path.rglob("*")) == before
    made = tmp_path / "new" / "alignment"
    assert import_times(ctm, made).utterances == import_times(ctm, made).utterances == 3
    with pytest.raises(UsageError, match="would delete"):
        import_times(ctm, made, classes=made)
