# SPDX-License-Identifier: Apache-2.0
"""The data preparation of Babel packs, on a small tree in the layout of the LDC's."""

import pytest
import soundfile
from babel_tree import make_babel
from recipe_tree import load_local
from tedlium2_tree import shorten

from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError
from espnet_ext.lang.lexicon import Lexicon

babel = load_local("babel")
Segment, SegmentedSet = babel.Segment, babel.SegmentedSet
DISK = "--prepare.disk_mb=10"


@pytest.fixture
def corpus(tmp_path):
    return make_babel(tmp_path / "pack")


@pytest.fixture
def prepare(run_local):
    return lambda path, out, *argv, code=0: run_local(
        babel, out, "--env", "PACK", *argv, code=code, PACK=path
    )


def test_from_the_pack_to_formatted_audio(recipe_copy, tmp_path, corpus):
    recipe = recipe_copy("babel_tagalog/weak_align1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", env={"BABEL_TAGALOG": str(corpus)})
    data = recipe.path / "data"
    assert (data / "train/text").read_text() == (
        "10001_A_20120101_120000_000050 ang bata <hes>\n"
        "10001_A_20120101_120000_000200 Maynila ka ang <spn> <spn>\n"
        "10001_B_20120101_120000_000020 bata\n"
        "10002_A_20120102_120000_000000 pag-ibig\n"
    )
    assert read_table(data / "dev/text") == {"10003_A_20120103_120000_000000": "ang ka"}
    assert read_table(data / "test/utt2spk") == {"20001_A_20120104_120000_000000": "20001_A"}
    stem = "BABEL_BP_106_10001_20120101_120000"
    assert list(read_table(data / "train/segments").values())[:3] == [
        f"{stem}_inLine 0.505 1.500",
        f"{stem}_inLine 2.000 3.999",
        f"{stem}_outLine 0.200 1.000",
    ]
    assert list(read_table(data / "train/spk2utt")) == ["10001_A", "10001_B", "10002_A"]
    assert "train: 7 segments read, 4 written" in out
    assert "3 skipped: 1 beyond the audio, 2 no words" in out
    assert len((data / "skipped.tsv").read_text().splitlines()) == 4
    wav = (
        recipe.path / read_table(recipe.path / "dump/dev/wav.scp")["10003_A_20120103_120000_000000"]
    )
    assert soundfile.info(wav).samplerate == 8000 and soundfile.info(wav).frames == 8000
    lexicon = (data / "lexicon.txt").read_text().splitlines()
    assert "pag-ibig p a g i b i g" in lexicon and "<hes> @ m" in lexicon
    assert [x for x in lexicon if x.startswith("bata ")] == ["bata b a t a", "bata b a t a ?"]
    aligner = Lexicon.read(data / "lexicon.txt")
    assert [p for p, _ in aligner.lookup("<spn>")] == [("SPN",)] and len(aligner.words) == 7


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("<no-speech> ka <click> <int> <lipsmack>", "ka"),
        ("~ ka ~", "ka"),
        ("(()) <overlap> <prompt>", ""),
        ("<hes>", "<hes>"),
        ("(()) ka", "<spn> ka"),
        ("*bagong* ka", "bagong ka"),  # mispronounced and unknown: as it is spelled
        ("bago- ka", "<spn> ka"),  # a fragment of nothing known
        ("-bago ka", "<spn> ka"),
        ("ka-", "ka"),
        ("pag-ibig", "pag-ibig"),
        ("<male-to-female>", ""),
    ],
)
def test_notation(line, words):
    lexicon = {"ka": [], "pag-ibig": [], "<hes>": []}
    assert babel.clean(line, lexicon) == words


@pytest.mark.parametrize(
    ("line", "options", "phones"),
    [
        ("兄妹\thing1mui2\th i: N _1 . m u:j _2", (True, False), [("h", "i:", "N", "m", "u:j")]),
        ("a\tr\tt _1 . k _2", (True, True), [("t_1", "k_2")]),
        ('a\t" t a . k\tt . " a', (False, True), [('t_"', 'a_"', "k"), ("t", 'a_"')]),
        ("a\tt . # k\tt k", (False, False), [("t", "k")]),
    ],
)
def test_pronunciations(line, options, phones, tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(line + "\n", encoding="utf-8")
    assert next(iter(babel.read_lexicon(path, *options).values())) == phones


@pytest.mark.parametrize("line", ["a", "a\tromanised", 'a\tr\t" .', "two words\tr\tt"])
def test_a_bad_lexicon_line_is_named(line, tmp_path):
    path = tmp_path / "lexicon.txt"
    path.write_text(f"ok\tr\tt a\n{line}\n")
    with pytest.raises(DataError, match=r"romanised<TAB>phones") as e:
        babel.read_lexicon(path, True, False)
    assert str(e.value.where).endswith("lexicon.txt:2")


def test_a_participant_is_in_one_set_with_both_lines():
    made = SegmentedSet("train")
    for code in range(100, 140):
        for side in "AB":
            utt = f"{code}_{side}_0"
            made.segments[utt] = Segment(utt, "r", f"{code}_{side}", 0, 1, "x")
    dev = babel.split_participants(made, 0.1)
    codes = [{u.split("_")[0] for u in s.segments} for s in (made, dev)]
    assert len(codes[0]) == 36 and len(codes[1]) == 4 and not codes[0] & codes[1]
    assert len(made.segments) + len(dev.segments) == 80


def test_missing_audio_is_listed_and_sub_train_takes_the_audio_of_training(
    tmp_path, corpus, prepare
):
    base = corpus / "IARPA_BABEL_BP_106/conversational"
    next(base.glob("training/audio/*10001*_outLine.sph")).unlink()
    (base / "training/transcription").rename(base / "sub")
    (base / "sub-train").mkdir()
    (base / "sub").rename(base / "sub-train/transcription")
    out = prepare(base.parent, tmp_path / "data", "--train", "sub-train")
    assert "train: 7 segments read, 3 written" in out and "1 recording without audio" in out


def replace_text(root, old, new):
    for path in root.rglob("*10001*inLine.txt"):
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))


MISUSE = {
    "time": (lambda r: replace_text(r, "[1.5]", "[1,5]"), ["not a time in brackets", ".txt:5"]),
    "back": (lambda r: replace_text(r, "[1.5]", "[0.1]"), ["time goes back", ".txt:5"]),
    "no start": (lambda r: replace_text(r, "[0.0]\n", ""), ["not a time in brackets", ".txt:1"]),
    "no end": (lambda r: replace_text(r, "[3.999]", ""), ["no end time", "inLine.txt"]),
    "name": (lambda r: next(r.rglob("*10002*.txt")).rename(next(r.rglob("*10002*.txt")).parent
             / "call.txt"), ["inLine, outLine or scripted", "call.txt"]),
    "shorten": (lambda r: shorten(next(r.rglob("*10002*.sph"))), ["with shorten", "sph2pipe"]),
    "lexicon": (lambda r: next(r.rglob("lexicon.txt")).unlink(), ["lexicon is missing"]),
    "part": (lambda r: next(r.rglob("dev/transcription/*")).unlink(), ["no transcription"]),
    "folder": (lambda r: r.joinpath("IARPA_BABEL_BP_106").rename(r / "x"), ["no Babel pack"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSE)
def test_what_is_wrong_is_named(case, tmp_path, corpus, prepare):
    damage, words = MISUSE[case]
    damage(corpus)
    out = prepare(corpus, tmp_path / "data", code=3)
    assert all(word in out for word in words), out


def test_without_the_pack_it_tells_where_to_get_it(recipe_copy, tmp_path):
    recipe = recipe_copy("babel_tagalog/weak_align1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", code=3, env={"BABEL_TAGALOG": ""})
    assert "LDC2016S13" in out and "stage 1" not in out
