# SPDX-License-Identifier: Apache-2.0
"""The manifest of tagged speech: what is wrong is told with file and line; no row gets lost."""

import numpy as np
import pytest
import soundfile as sf

from espnet_ext.data import slu_manifest, slu_sets
from espnet_ext.data.check import check_dir
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError, UsageError

HEADER = "id\taudio\tstart_s\tend_s\tspeaker\tlanguage\ttext\ttagged\tset\tmeaning"
ROWS = [
    "f1\ta.wav\t0\t1.0\ts1\tfr\tà Le Mans\tà <ville> Le Mans >\ttrain\tm1",
    "f2\ta.wav\t1.0\t2.01\ts1\tfr\toui\toui\ttrain\tm2",
    "i1\tb.wav\t\t\ts2\tit\ta Roma\t<ville> a Roma >\ttrain\tm1",
    "i2\tsub/a.wav\t\t\ts2\tit\t\t\ttrain\tm2",
    "f3\tb.wav\t0.5\t\ts3\tfr\tnon\t<response> non >\tdev\tm3",
]


@pytest.fixture
def folder(tmp_path):
    """A manifest and its audio: 2 s each, two files of one name."""
    (tmp_path / "sub").mkdir()
    wave = np.random.default_rng(0).integers(-99, 99, 16000).astype(np.int16)
    for name in ("a.wav", "b.wav", "sub/a.wav"):
        sf.write(tmp_path / name, wave, 8000)
    sf.write(tmp_path / "none.wav", wave[:0], 8000)
    (tmp_path / "empty.wav").touch()
    return tmp_path


def put(folder, rows, header=HEADER, name="manifest.tsv"):
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_sets_hold_each_row_once_and_the_others_are_listed(folder):
    put(folder, ROWS)
    sets = dict(map(slu_sets.parse_choice, ("train_fr_it=train:fr,it", "train_it=train:it", "dev")))
    report = slu_sets.write_sets(slu_manifest.read(folder), folder / "data", sets)
    assert (report.read, report.written, len(report.skipped)) == (5, 4, 1)
    assert [(s.where.rsplit(":")[-1], s.reason, s.detail) for s in report.skipped] == [
        ("5", "no words", "i2")
    ]
    both, it, dev = (folder / "data" / name for name in sets)
    assert read_table(both / "text")["f1"] == "à <ville> Le Mans >"
    assert read_table(both / "plain")["f1"] == "à Le Mans"
    assert read_table(both / "utt2lang") == {"f1": "fr", "f2": "fr", "i1": "it"}
    assert read_table(both / "meaning") == {"f1": "m1", "f2": "m2", "i1": "m1"}
    assert read_table(both / "segments") == {  # 2.01 s is rounding, i1 is a whole file
        "f1": "a 0.000 1.000", "f2": "a 1.000 2.000", "i1": "b 0.000 2.000"
    }  # fmt: skip
    assert not (it / "segments").exists() and list(read_table(it / "wav.scp")) == ["i1"]
    assert read_table(dev / "segments") == {"f3": "b 0.500 2.000"}
    assert report.sets["train_fr_it"]["concepts"] == 2 and report.sets["train_fr_it"]["tags"] == 1
    assert report.sets["train_fr_it"]["hours"] == pytest.approx(4 / 3600)
    for path in (both, it, dev):
        assert [f for f in check_dir(path) if f.level == "error"] == []


def test_a_set_written_again_has_nothing_of_the_old_one(folder):
    put(folder, ROWS)
    for name in ("train:fr", "train:it"):
        sets = dict([slu_sets.parse_choice(f"train={name}")])
        slu_sets.write_sets(slu_manifest.read(folder), folder / "data", sets)
    assert not (folder / "data/train/segments").exists()


def test_equal_file_names_are_two_recordings(folder):
    rows = [ROWS[0], ROWS[0].replace("f1", "f9").replace("a.wav", "sub/a.wav")]
    put(folder, rows)
    slu_sets.write_sets(
        slu_manifest.read(folder), folder / "data", slu_sets.default_sets(["train"])
    )
    scp = read_table(folder / "data/train/wav.scp")
    assert set(scp.values()) == {str(folder / "a.wav"), str(folder / "sub/a.wav")}


def test_what_is_written_reads_the_same(folder):
    put(folder, ROWS)
    rows = list(slu_manifest.read(folder))
    assert slu_manifest.write(folder / "again/manifest.tsv", rows) == 5
    again = list(slu_manifest.read(folder / "again"))
    assert [r._replace(where="") for r in again] == [r._replace(where="") for r in rows]
    with pytest.raises(DataError, match="holds a tab"):
        slu_manifest.write(folder / "m.tsv", [rows[0]._replace(speaker="a\tb")])
    assert not (folder / "m.tsv").exists()


def test_capitals_and_composed_letters_may_differ(folder):
    put(folder, [F1.replace("à <ville> Le Mans", "a\u0300 <ville> le mans")])
    (row,) = slu_manifest.read(folder)
    assert (row.text, row.tagged) == ("à Le Mans", "a\u0300 <ville> le mans >")


def test_a_file_for_each_set(folder):
    header = HEADER.removesuffix("\tset\tmeaning")
    for name, row in (("train", ROWS[0]), ("test", ROWS[2])):
        put(folder, [row.rsplit("\t", 2)[0]], header, f"{name}.tsv")
    assert [(r.id, r.set) for r in slu_manifest.read(folder)] == [("i1", "test"), ("f1", "train")]
    with pytest.raises(DataError, match="no column set"):
        list(slu_manifest.read(folder / "train.tsv"))


def test_columns_of_times_may_be_left_out(folder):
    put(folder, ["\t".join([*ROWS[2].split("\t")[:2], *ROWS[2].split("\t")[4:]])],
        HEADER.replace("start_s\tend_s\t", ""))  # fmt: skip
    (row,) = slu_manifest.read(folder)
    assert (row.start_s, row.end_s, row.speaker) == (None, 2.0, "s2")


def test_bom_crlf_blank_lines_and_spaces_are_forgiven(folder):
    text = "\ufeff" + HEADER + "\r\n\r\n" + ROWS[0].replace("Le Mans", " Le  Mans ") + "\r\n"
    (folder / "manifest.tsv").write_bytes(text.encode())
    (row,) = slu_manifest.read(folder)
    assert (row.text, row.where) == ("à Le Mans", f"{folder / 'manifest.tsv'}:3")


F1 = ROWS[0]
WRONG = {
    "no column language, text": (["x"], HEADER.replace("language\ttext\t", ""), 1),
    "column set stands twice": ([F1], HEADER.replace("meaning", "set"), 1),
    "the line has 9 columns": ([F1, F1.rsplit("\t", 1)[0]], HEADER, 3),
    "'f1' stands twice": ([F1, ROWS[2], F1], HEADER, 4),
    "speaker is '', not one word": ([F1.replace("s1", "")], HEADER, 2),
    "language is 'fr it'": ([F1.replace("\tfr\t", "\tfr it\t")], HEADER, 2),
    "set '../x' cannot be": ([F1.replace("train", "../x")], HEADER, 2),
    "text has '<i>'": ([F1.replace("\tà Le", "\tà <i> Le")], HEADER, 2),
    "<ville> is not closed": ([F1.replace(" >", "")], HEADER, 2),
    "stands within <ville>": ([F1.replace("Le Mans >", "Le <b> Mans > >")], HEADER, 2),
    "'a<b' has a '<'": ([F1.replace("\tà <", "\ta<b <")], HEADER, 2),
    "'la' and 'Le' (word 2)": ([F1.replace("> Le Mans", "> la mans")], HEADER, 2),
    "'la' and '(end)' (word 4)": ([F1.replace("Le Mans >", "Le Mans la >")], HEADER, 2),
    "'(end)' and 'Mans' (word 3)": ([F1.replace("> Le Mans", "> Le")], HEADER, 2),
    "starts at 1 s and ends at 0.5 s": ([F1.replace("0\t1.0", "1\t0.5")], HEADER, 2),
    "not inside the audio of 2.000 s": ([F1.replace("1.0", "2.03")], HEADER, 2),
    "[2, 2) s is not inside": ([F1.replace("0\t1.0", "2.0\t")], HEADER, 2),
    "start_s 'nan' is no time": ([F1.replace("0\t1.0", "nan\t1")], HEADER, 2),
    "audio file is missing": ([F1.replace("a.wav", "gone.wav")], HEADER, 2),
    "audio is empty": ([F1.replace("a.wav", "")], HEADER, 2),
    "the audio file is empty: ": ([F1.replace("a.wav", "empty.wav")], HEADER, 2),
    "no samples: ": ([F1.replace("a.wav", "none.wav")], HEADER, 2),
    "control character '\\x00'": ([F1, ROWS[2].replace("a Roma", "a\0Roma")], HEADER, 3),
    "control character '\\r'": ([], f"{HEADER}\r{F1}", 1),  # lines of an old Mac
    "lists no utterance": ([], HEADER, None),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_told_with_its_line(folder, what):
    rows, header, line = WRONG[what]
    path = put(folder, rows, header)
    with pytest.raises(DataError) as e:
        list(slu_manifest.read(path))
    assert what in str(e.value)
    assert f"{path}:{line}" in str(e.value) if line else str(path) in str(e.value)


def test_bytes_that_are_no_text_and_unknown_tags(folder):
    path = put(folder, ROWS)
    with pytest.raises(DataError, match=r"<response> is not in the list(.|\n)*tsv:6, column"):
        list(slu_manifest.read(path, known={"<ville>"}))
    path.write_bytes(HEADER.encode() + b"\nf1\t\xe0\n")
    with pytest.raises(DataError, match=r"not UTF-8(.|\n)*:2"):
        list(slu_manifest.read(path))


@pytest.mark.parametrize(
    ("rule", "what"),
    [
        ("x=train:aeb", "no language of set train 'aeb'; it has: fr, it"),
        ("x=dev:it", "no language of set dev 'it'; it has: fr"),
        ("x=tests", "no set 'tests'; it has: dev, train"),
    ],
)
def test_sets_that_the_manifest_lacks_are_named_before_anything_is_written(folder, rule, what):
    put(folder, ROWS)
    sets = dict([slu_sets.parse_choice("train"), slu_sets.parse_choice(rule)])
    with pytest.raises(DataError) as e:
        slu_sets.write_sets(slu_manifest.read(folder), folder / "data", sets, folder)
    assert what in str(e.value) and not (folder / "data").exists()


def test_a_manifest_whose_lines_name_no_set_is_refused(folder):
    put(folder, [row.replace("\ttrain\t", "\t\t") for row in ROWS[:2]])
    with pytest.raises(DataError, match="no line of the manifest names a set"):
        slu_sets.write_sets(slu_manifest.read(folder), folder / "data", {}, folder)


def test_meaning_of_some_rows_only_is_refused(folder):
    put(folder, [ROWS[0], ROWS[1].removesuffix("m2")])
    with pytest.raises(DataError, match=r"'f2' has no meaning(.|\n)*tsv:3"):
        slu_sets.write_sets(
            slu_manifest.read(folder), folder / "data", slu_sets.default_sets(["train"])
        )


@pytest.mark.parametrize("rule", ["", "=train", "x=", "x=train:", "x=train:,"])
def test_a_rule_of_another_form_is_refused(rule):
    with pytest.raises(UsageError):
        slu_sets.parse_choice(rule)
