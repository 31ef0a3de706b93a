# SPDX-License-Identifier: Apache-2.0
"""Dictionaries in their formats, errors with file and line, and words the lexicon lacks."""

import math
import sys
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from espnet_ext.errors import DataError, SetupError, UsageError
from espnet_ext.lang.lexicon import Lexicon, spell
from espnet_ext.lang.phones import PhoneSet
from espnet_ext.lang.pronounce import Pronunciations, pronounce


@pytest.fixture
def write(tmp_path):
    def to_file(text, name="lexicon.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return to_file


@pytest.fixture
def no_g2p(monkeypatch):
    monkeypatch.setitem(sys.modules, "g2p_en", None)


@pytest.fixture
def no_espeak(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)


FORMATS = {
    "cmudict 0.7b": (
        ";;; old\nA  AH0\nA(1)  EY1\nB#  B IY1\n",
        {"A": ["AH", "EY"], "B#": ["B IY"]},
    ),
    "cmudict new": ("a AH0\na(2) EY1\nold OW1 # place\n", {"a": ["AH", "EY"], "old": ["OW"]}),
    "an4": ("A        AH\r\nA(2)\tEY\r\n\r\n", {"A": ["AH", "EY"]}),
    "kaldi": ("!SIL SIL\n<SIL> SIL\na AH0\na EY1\n# HH\n", {"a": ["AH", "EY"], "#": ["HH"]}),
    "position": ("!SIL SIL\na EY1_S\nbe B_B IY1_E\n", {"a": ["EY"], "be": ["B IY"]}),
    "tones": ("ma m a1\nmb m_B a2\n", {"ma": ["m a1"], "mb": ["m_B a2"]}),
}


@pytest.mark.parametrize("name", FORMATS)
def test_formats_are_told_apart(write, name):
    text, want = FORMATS[name]
    words = Lexicon.read(write(text)).words
    assert {w: [" ".join(ps) for ps, _ in vs] for w, vs in words.items()} == want


def test_probabilities_and_merged_variants(write):
    lexicon = Lexicon.read(write("a 1.0 EY1\na 0.25 AH0\na 0.5 AH1\n"))
    assert lexicon.words == {"a": [(("EY",), 0.0), (("AH",), math.log(0.5))]}
    kept = Lexicon.read(write("a EY1_S\n"), stress=True, positions=True)
    assert kept.words == {"a": [(("EY1_S",), 0.0)]}
    assert Lexicon.read(write("a(2) b\n"), "kaldi").words == {"a(2)": [(("b",), 0.0)]}


token = st.text("abcXYZ'-.é", min_size=1, max_size=5)
phone = st.sampled_from(["P", "T", "AA", "sil_x", "a5", "ʃ"])
entries = st.lists(
    st.tuples(token, st.lists(phone, min_size=1, max_size=4), st.floats(0.01, 1.0)),
    min_size=1,
    max_size=25,
    unique_by=lambda e: (e[0], tuple(e[1])),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(entries, st.sampled_from(["cmudict", "kaldi", "kaldi_prob"]))
def test_what_is_written_is_read(write, rows, kind):
    want, lines = {}, []
    for word, phones, p in rows:
        own = want.setdefault(word, [])
        own.append((tuple(phones), math.log(p) if kind == "kaldi_prob" else 0.0))
        shown = f"{word}({len(own)})" if kind == "cmudict" else word
        number = [repr(p)] if kind == "kaldi_prob" else []
        lines.append(" ".join([shown, *number, *phones]))
    got = Lexicon.read(write("\n".join(lines) + "\n"), kind if kind == "cmudict" else "auto")
    assert got.words == want


BAD = {
    "no phones": ("a b\n\nword\n", "auto", 3),
    "only a comment": ("a(2) b\nword # b\n", "auto", 2),
    "not utf-8": (b"a b\nd\xe9j\xe0 d\n", "auto", 2),
    "utf-16": ("a b\n".encode("utf-16-be"), "cmudict", 1),
    "too probable": ("a 0.5 b\nc 1.5 d\n", "auto", 2),
    "impossible": ("a 0.5 b\nc 0.0 d\n", "auto", 2),
    "no probability": ("a 0.5 b\nc d\n", "kaldi_prob", 2),
    "five numbers": ("a 0.5 0.3 1.1 1.0 0.2 b\n", "auto", 1),
    "negative factor": ("a 0.5 -0.3 1.1 1.0 b\n", "auto", 1),
    "a number that is no phone": ("a b\nc 0.5 d\n", "kaldi", 2),
    "phone or probability": ("a 0.5 b\nc 0.5 9 f\n", "auto", 2),
    "numbers only": ("a 0.5 b\nc 0.5\n", "auto", 2),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_name_the_line(write, name):
    text, kind, line = BAD[name]
    path = write(text)
    with pytest.raises(DataError) as e:
        Lexicon.read(path, kind)
    assert e.value.where == f"{path}:{line}"


NUMBERS = {
    # Dictionaries of the Montreal Forced Aligner mix lines with and without numbers.
    "mfa": "a\tx\nb\t0.5\t0.2\t1.1\t0.9\tx y\nb\t1\t0\t1\t1\tz\n",
    "mixed counts": "a x\nb 0.5 x y\nb 1 0.5 0.2 z\n",
    "after many without": "a x\n" * 30 + "b 0.5 x y\nb 1.0 z\n",
    "integers": "a 1 x\nb 1 x y\nb 1 z\n",
    "whole first": "a 1 0.5 1.0 1.0 x\nb 1 0.2 1 1 x y\nb 1 0 1 1 z\n",
    "cmudict": ";;; c\na  x\nb  0.5 x y\nb(2)  1.0 z\n",
}


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_before_the_phones_are_probabilities(write, name):
    lexicon = Lexicon.read(write(NUMBERS[name]))
    first = 0.0 if name in ("integers", "whole first") else math.log(0.5)
    assert lexicon.words == {"a": [(("x",), 0.0)], "b": [(("x", "y"), first), (("z",), 0.0)]}


@pytest.mark.parametrize(
    "text", ["un 9~\noeuf 9 f\nheureux 2 R 2\n", "one 1\ntwo 2\n", "la l a 1\nun 1 n\n"]
)
def test_phones_that_are_numbers_stay_phones(write, text):
    words = Lexicon.read(write(text)).words
    want = {line.split()[0]: tuple(line.split()[1:]) for line in text.splitlines()}
    assert words == {w: [(ps, 0.0)] for w, ps in want.items()}


def test_latin1_cmudict(write):
    assert "DÉJÀ" in Lexicon.read(write(b";;; \nD\xc9J\xc0  D EY2\nA  AH0\n")).words


def test_other_misuse(write, tmp_path):
    for path in (tmp_path / "none", write("<SIL> SIL\n")):
        with pytest.raises(DataError):
            Lexicon.read(path)
    with pytest.raises(UsageError, match="did you mean 'kaldi'"):
        Lexicon.read(write("a b\n"), "kaldy")


def test_spelling():
    assert spell("Don't-É") == tuple("donté")
    assert spell("E\u0301") == ("é",)  # composed and decomposed letters are one phone
    assert spell("किम्") == ("क", "\u093f", "म")  # a vowel sign stays, the virama goes
    assert spell("1984") == spell("mp3") == spell("--") == ()


def test_lookup_tries_cases(write):
    lexicon = Lexicon.read(write("Paul P\nPAUL AO\nit T\nÉ EH\n"))
    assert [lexicon.lookup(w)[0][0] for w in ("Paul", "paul", "IT", "e\u0301")] == [
        ("P",), ("AO",), ("T",), ("EH",),
    ]  # fmt: skip
    assert lexicon.lookup("none") == []


CMU = "one W AH1 N\n[NOISE] SPN\n"
WORDS = ["one", "zoo", "[NOISE]", "[COUGH]", "++UM++", "<unk>", "7"]


@pytest.mark.parametrize("policy", ["auto", "skip", "grapheme"])
def test_oov_without_g2p(write, no_g2p, no_espeak, policy):
    got = pronounce(WORDS, Lexicon.read(write(CMU)), policy)
    spelt = policy == "grapheme"
    assert got.variants("zoo") == ([(("letter:z", "letter:o", "letter:o"), 0.0)] if spelt else [])
    assert got.oov == dict.fromkeys(WORDS[3:], "skip") | {"zoo": "grapheme" if spelt else "skip"}
    assert got.variants("[NOISE]") == [(("SPN",), 0.0)]  # the lexicon has it
    assert set(got.words) == set(WORDS) and got.counts()["skip"] == len(got.oov) - spelt


def test_missing_g2p_is_an_error_where_it_is_asked_for(write, no_g2p):
    with pytest.raises(SetupError, match="g2p_en"):
        pronounce(["zoo"], Lexicon.read(write(CMU)), "g2p")


def test_missing_espeak_is_an_error_where_it_is_asked_for(write, no_espeak):
    with pytest.raises(SetupError, match=r"the OOV policy espeak needs espeak-ng .*not installed"):
        pronounce(["zoo"], Lexicon.read(write(CMU)), "espeak")


def test_espeak_solves_english_words(write, no_g2p):
    got = pronounce([*WORDS, "Media", "X", "MARY"], Lexicon.read(write(CMU)))
    names = {w: " ".join(vs[0][0]) for w, vs in got.words.items() if vs}
    assert names["zoo"] == "Z UW" and names["7"] == "S EH V AH N"
    assert names["Media"] == "M IY D IY AH" and names["X"] == "EH K S" and names["MARY"][0] == "M"
    letter = pronounce(["A", "b"], Lexicon.read(write(CMU)))
    assert {v[0] for v in letter.variants("A")} == {("EY",), ("AH",)}
    assert letter.variants("b") == [(("B", "IY"), 0.0)]
    assert got.oov["zoo"] == "espeak" and got.oov["++UM++"] == "skip"
    stressed = Lexicon.read(write(CMU), stress=True)
    assert pronounce(["seven"], stressed).variants("seven")[0][0][1] == "EH1"


def test_a_model_with_phones_of_cmudict_needs_no_lexicon(no_g2p):
    model = PhoneSet.of(["Z", "UW", "S", "EH", "V", "AH", "N"])
    got = pronounce(["zoo", "show"], None, phones=model)
    assert got.variants("zoo") == [(("Z", "UW"), 0.0)]
    assert got.oov == {"zoo": "espeak", "show": "unknown phone"}
    letters = PhoneSet.of("zoshw")
    assert pronounce(["zoo"], None, phones=letters).variants("zoo") == [(("z", "o", "o"), 0.0)]


@pytest.mark.parametrize(("stress", "last"), [(False, "UW"), (True, "UW1")])
def test_g2p_follows_the_lexicon(write, monkeypatch, stress, last):
    module = types.ModuleType("g2p_en")
    module.G2p = lambda: lambda word: ["Z", " ", "UW1", "!"]
    monkeypatch.setitem(sys.modules, "g2p_en", module)
    got = pronounce(WORDS[:4], Lexicon.read(write(CMU), stress=stress))
    assert got.variants("zoo") == [(("Z", last), 0.0)]
    assert got.oov == {"zoo": "g2p", "[COUGH]": "skip"}
    other = Lexicon.read(write("one w ʌ n\n"))
    assert pronounce(["zoo"], other).oov == {"zoo": "spn"}  # its phones are not those of g2p
    with pytest.raises(DataError):
        pronounce(["zoo"], other, "g2p")


@pytest.mark.parametrize(
    ("lexicon", "phone"),
    [("one w ʌ n\n", "SPN"), ("one w spn\n", "spn"), ("one w ʌ\n<UNK> GARBAGE\n", "GARBAGE")],
)
def test_a_word_without_pronunciation_is_spoken_noise(write, lexicon, phone):
    got = pronounce(["one", "zoo", "[COUGH]"], Lexicon.read(write(lexicon)))
    assert got.variants("zoo") == got.variants("[COUGH]") == [((phone,), 0.0)]
    assert got.oov == {"zoo": "spn", "[COUGH]": "spn"} and phone in got.phones
    assert any(
        "2 words are not in the lexicon, aligned as spoken noise" in x for x in got.summary()
    )
    left_out = pronounce(["one", "zoo"], Lexicon.read(write(lexicon)), "skip")
    assert left_out.variants("zoo") == [] and left_out.oov == {"zoo": "skip"}
    assert pronounce(["zoo"], Lexicon.read(write("one W AH N\n")), "spn").variants("zoo")


def test_special_phones_are_warned_of(write):
    text = "a sil x\nb #1 y\nc SIL\nd <eps> x\ne spn\n"
    lines = pronounce("abcde", Lexicon.read(write(text))).summary()
    told = [x for x in lines if "warning" in x]
    assert [x.split("'")[1] for x in told] == ["#1", "<eps>", "SIL", "sil"]
    assert "lexicon_disambig" in told[0] and "as in 'c'" in told[2]


def test_letters_without_a_lexicon():
    got = pronounce(["Cab", "bac", "[X]", "4"], None, "grapheme")
    assert got.phone_set().names == ("SIL", "a", "b", "c")
    assert got.ids("Cab") == [((3, 1, 2), 0.0)] and got.ids("[X]") == got.ids("other") == []
    assert got.oov == {"[X]": "skip", "4": "skip"}
    graphemic = Lexicon(source="letters")
    graphemic.add("ab", "ab")
    assert pronounce(["ba"], graphemic).variants("ba") == [(("b", "a"), 0.0)]
    with pytest.raises(UsageError):
        pronounce(["a"], None, "skip")
    with pytest.raises(UsageError, match="did you mean 'grapheme'"):
        pronounce(["a"], None, "graphem")


def test_phones_of_a_model_and_silence_words(tmp_path, write):
    model = PhoneSet(("SIL", "B", "A"))  # the model's order, not the alphabet's
    lexicon = Lexicon.read(write("x A\nx C\ny C\n[n] B\n"))
    got = pronounce(["x", "y", "[n]"], lexicon, "skip", phones=model, silence_words={"[n]"})
    assert got.ids("x") == [((2,), 0.0)] and got.ids("[n]") == [((0,), 0.0)]
    assert got.oov == {"y": "unknown phone", "[n]": "silence"}
    got.save(tmp_path / "p.json")
    again = Pronunciations.load(tmp_path / "p.json")
    assert again == got and again.phone_set() == model and again.to_json() == got.to_json()
    (tmp_path / "p.json").write_text('{"words": 3}')
    with pytest.raises(DataError):
        Pronunciations.load(tmp_path / "p.json")
