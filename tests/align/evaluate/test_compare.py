# SPDX-License-Identifier: Apache-2.0
"""Agreement of two alignments: known differences come out exactly, and the same both ways."""

import json
from dataclasses import replace

import numpy as np
import pytest

from espnet_ext.align.evaluate.compare import compare, main_compare
from espnet_ext.align.formats.ctm import write_ctm
from espnet_ext.align.formats.directory import AlignmentWriter, Header
from espnet_ext.align.formats.tiers import Interval
from espnet_ext.errors import DataError, UsageError
from espnet_ext.lang.manner import manners, plain

NAMES = ("SIL", "AA", "S", "T", "N")
# (name, start, end) in frames; utterance 2 has a pause between its words.
SPOKEN = {
    "u1": ([("S", 20, 30), ("AA", 30, 50), ("T", 50, 58)], [("sat", 20, 58)], 80),
    "u2": (
        [("T", 10, 20), ("AA", 20, 40), ("N", 60, 70), ("AA", 70, 80)],
        [("ta", 10, 40), ("na", 60, 80)],
        100,
    ),
}


def write(out, spoken=SPOKEN, shift_s=0.0, frame_s=0.01, **header):
    """Write an alignment whose phones and words come ``shift_s`` later."""
    head = Header("phone", len(NAMES), frame_s, frame_s / 2, (0,), phones=NAMES)
    with AlignmentWriter(out, replace(head, **header)) as writer:
        for utt, (phones, words, frames) in spoken.items():
            rows = [
                [Interval(s / 100 + shift_s, e / 100 + shift_s, n) for n, s, e in tier]
                for tier in (phones, words)
            ]
            count = round(frames * 0.01 / frame_s)
            labels = np.zeros(count, int)
            for t, centre in enumerate(head.centres_s(count)):
                for i in rows[0]:
                    if i.start_s <= centre < i.end_s:
                        labels[t] = NAMES.index(i.name)
            writer.add(utt, labels, *rows, frame_phones=labels)
    return out


def test_an_alignment_equals_itself(tmp_path):
    r = compare(*[write(tmp_path / "a")] * 2).as_json()
    assert {t: f["agreement"] for t, f in r["agreement"].items()} == {
        "phones": 1, "words": 1, "labels": 1,
    }  # fmt: skip
    # 80 + 100 frames, the silence after the last phone being no interval: to 58 and 80.
    assert r["agreement"]["labels"]["frames"] == 180 and r["agreement"]["phones"]["frames"] == 138
    assert r["agreement"]["labels"]["speech_frames"] == 38 + 50
    phones = r["boundaries"]["phones"]
    assert phones["matched"] == 7 and phones["mean_abs_ms"] == 0
    # Starts of 7 phones; ends before the pause and at both ends.
    assert {k: v["boundaries"] for k, v in phones["by_kind"].items()} == {
        "inside": 4, "offset": 3, "onset": 3,
    }  # fmt: skip
    assert phones["boundaries"] == 10


def test_a_shift_is_found_exactly(tmp_path):
    a, b = write(tmp_path / "a"), write(tmp_path / "b", shift_s=0.02)
    r = compare(a, b).as_json()
    for tier in ("phones", "words"):
        d = r["boundaries"][tier]
        assert d["mean_ms"] == pytest.approx(20) and d["median_abs_ms"] == pytest.approx(20)
        assert d["within"] == {"10_ms": 0, "20_ms": 1, "50_ms": 1, "100_ms": 1}
    assert d["within_20_ms_interval_95"] == (1, 1)
    # Each of 10 boundaries of different labels moves by two frames.
    assert r["agreement"]["labels"]["equal"] == 180 - 2 * 10
    assert r["agreement"]["labels"]["speech_frames"] == 38 + 50 + 2 * 3
    assert compare(b, a).as_json()["boundaries"]["phones"]["mean_ms"] == pytest.approx(-20)


def test_other_pronunciations_are_matched_around(tmp_path):
    """An inserted phone, another phone, a missing pause; counts are the same both ways."""
    changed = {
        "u1": (
            [("S", 20, 30), ("AA", 30, 45), ("N", 45, 50), ("T", 50, 58)],
            [("sat", 20, 58)],
            80,
        ),
        "u2": (
            [("S", 10, 20), ("AA", 20, 50), ("N", 50, 70), ("AA", 70, 80)],
            [("ta", 10, 50), ("na", 50, 80)],
            100,
        ),
    }
    a, b = write(tmp_path / "a"), write(tmp_path / "b", changed)
    r, back = compare(a, b).as_json(), compare(b, a).as_json()
    phones, other = r["boundaries"]["phones"], back["boundaries"]["phones"]
    assert (phones["a"], phones["b"], phones["matched"]) == (7, 8, 6)
    assert (other["a"], other["b"], other["matched"]) == (8, 7, 6)
    # u2: T against S is no match; the end of AA is before a pause in one only.
    pause = phones["by_kind"]["pause"]
    assert pause["boundaries"] == 1 and pause["mean_ms"] == pytest.approx(-100)
    assert phones["within"] == other["within"] and phones["boundaries"] == 6 + 2
    assert phones["mean_abs_ms"] == pytest.approx(100 / 8)
    assert r["agreement"]["phones"] == back["agreement"]["phones"]
    assert r["agreement"]["phones"]["speech_frames"] == 38 + 70  # a pause of one is no silence
    assert r["agreement"]["phones"]["equal"] == 138 - 5 - 10 - 20  # inserted N, T or S, the pause
    assert phones["by_class"]["nasal"]["boundaries"] == 1
    assert phones["by_class"]["fricative"]["boundaries"] == 1


def test_missing_utterances_and_other_grids(tmp_path):
    a = write(tmp_path / "a", SPOKEN | {"only": SPOKEN["u1"]})
    b = write(tmp_path / "b", SPOKEN | {"more": SPOKEN["u1"]}, frame_s=0.02)
    c = compare(a, b)
    assert (c.shared, c.only_a, c.only_b) == (2, ["only"], ["more"])
    assert (compare(b, a).only_a, compare(b, a).only_b) == (["more"], ["only"])
    # A's frames with the nearest of B: all bounds are even but none is lost at the ends.
    assert c.as_json()["agreement"]["labels"]["agreement"] == 1
    assert "only in A: only" in c.as_text()


def test_all_forms_of_an_alignment(tmp_path, capsys):
    a = write(tmp_path / "a")
    rows = [
        {"id": u, "phones": [[n, s / 100, e / 100] for n, s, e in phones],
         "words": [[n, s / 100, e / 100] for n, s, e in words]}
        for u, (phones, words, _) in SPOKEN.items()
    ]  # fmt: skip
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(r) + "\n" for r in rows))
    for other in (manifest, tmp_path, a / "textgrid", a / "phones.ctm", a / "words.ctm"):
        for r in (compare(a, other).as_json(), compare(other, a).as_json()):
            assert all(f["agreement"] == 1 for f in r["agreement"].values())
            assert all(b["mean_abs_ms"] == 0 for b in r["boundaries"].values())
    assert (
        main_compare([str(a), str(manifest), "--json", str(tmp_path / "r.json"), "--by-class"]) == 0
    )
    assert json.loads((tmp_path / "r.json").read_text())["shared"] == 2
    assert "vowel" in capsys.readouterr().out
    assert main_compare([str(a), str(tmp_path / "none")]) == 3


def test_what_cannot_be_compared(tmp_path):
    a = write(tmp_path / "a")
    assert "labels" not in compare(a, write(tmp_path / "b", num_classes=9)).agreement
    assert compare(a, tmp_path / "b").notes == ["classes are not compared: num_classes differ"]
    with pytest.raises(DataError, match="share no utterance"):
        compare(a, write(tmp_path / "c", {"else": SPOKEN["u1"]}))
    with pytest.raises(DataError, match="one has only phones"):
        compare(a / "phones.ctm", a / "words.ctm")
    write_ctm(tmp_path / "x.ctm", [("u1", [])])
    with pytest.raises(UsageError, match="phones or words"):
        compare(a, tmp_path / "x.ctm")


def test_classes_of_phones():
    arpabet = manners(["AH0", "T_B", "DH", "CH", "NG_E", "spn", "XX"])
    assert arpabet == {
        "AH0": "vowel", "T_B": "stop", "DH": "fricative", "CH": "affricate", "NG_E": "nasal",
        "spn": "other", "XX": "other",
    }  # fmt: skip
    assert manners(["aa", "t", "sh"])["sh"] == "fricative"
    sampa = manners(["T", "D", "@", "tS", "r\\", "N", "p_h"])
    assert list(sampa[n] for n in ("T", "tS", "N")) == ["fricative", "affricate", "nasal"]
    ipa = manners(["ɔːɹ", "dʒ", "ŋ", "ɹ", "j", "ɡ", "θ", "ɑ̃"])
    assert set(ipa.values()) == {
        "vowel", "affricate", "nasal", "liquid", "glide", "stop", "fricative",
    }  # fmt: skip
    assert [plain(n) for n in ("AH0_I", "AH", "a1", "ˈa")] == ["AH", "AH", "a1", "a"]
