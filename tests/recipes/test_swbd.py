# SPDX-License-Identifier: Apache-2.0
"""The data preparation of Switchboard-1 and Hub5e_00, on small trees in the LDC's layout."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from recipe_tree import load_local
from swbd_tree import LOUD, SOFT, call_audio, make_swbd, write_sph
from tedlium2_tree import shorten

from espnet_ext.data.tables import read_table
from espnet_ext.installation import install

swbd, words = load_local("swbd"), load_local("swbd_text")
DISK = "--prepare.disk_mb=10"


@pytest.fixture
def corpora(tmp_path):
    return make_swbd(tmp_path / "ldc")


VARIABLES = ("SWBD", "SWBD_TRANSCRIPTS", "EVAL2000", "EVAL2000_TRANSCRIPTS")


@pytest.fixture
def prepare(run_local):
    return lambda corpora, out, *argv, code=0: run_local(
        swbd, out, *argv, code=code, **{name: corpora.get(name) for name in VARIABLES}
    )


def calls_of(folder):
    return {utt[2:7] for utt in read_table(folder / "utt2spk")}


def loudness(path, start_s, end_s):
    audio, rate = soundfile.read(path)
    return np.abs(audio[int(start_s * rate) : int(end_s * rate)]).max()


def test_from_the_corpora_to_formatted_audio(recipe_copy, tmp_path, corpora):
    recipe = recipe_copy("swbd/bl_just1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", env=corpora)
    data, dump = recipe.path / "data", recipe.path / "dump"
    # The first call is dev; its second segment has words, times and id of Kaldi's form.
    assert dict(read_table(data / "dev/text")) == {
        "sw02001-A_000098-000250": "hi yeah i'd like to talk",
        "sw02001-A_000450-000820": "uh-huh them it'n yuppiedom ok",
        "sw02001-B_000000-000300": "yeah",
        "sw02001-B_000300-000700": "yeah",
    }
    segments = read_table(data / "dev/segments")
    assert segments["sw02001-A_000098-000250"] == "sw02001-A 0.978 2.500"
    assert segments["sw02001-A_000450-000820"] == "sw02001-A 4.500 8.000"  # cut at the audio's end
    # A call is in one set with both sides, a third of the four other calls is labelled: one.
    parts = [calls_of(data / s) for s in ("dev", "labelled", "unlabelled")]
    assert [len(p) for p in parts] == [1, 1, 3]
    assert set.union(*parts) == {"02001", "02005", "02006", "03010", "04940"}
    assert not (data / "unlabelled/text").exists()
    for utt, wav in read_table(dump / "dev/wav.scp").items():
        wav = dump.parent / wav
        loud = loudness(wav, 0, 2)
        assert abs(loud - (LOUD if "-A_" in utt else SOFT)) < 0.05 * loud
        assert soundfile.info(wav).samplerate == 8000 and soundfile.info(wav).channels == 1
    assert read_table(data / "eval2000_swbd/text") == {
        "sw_4390-A_000050-000200": "i'm here", "sw_4390-B_000225-000400": "gonna go now",
    }  # fmt: skip
    assert read_table(data / "eval2000_callhome/text") == {
        "en_4156-A_000010-000210": "oh yeah right"
    }
    assert "1 beyond the audio, 3 no words" in out and "calls: 1 labelled, 3 unlabelled" in out
    reasons = [x.split("\t")[2] for x in (data / "skipped.tsv").read_text().splitlines()[1:]]
    assert sorted(reasons) == ["beyond the audio", *["no words"] * 4, "not to be scored"]


@pytest.mark.parametrize(
    ("text", "kept", "without"),
    [
        ("[laughter-yeah] [laughter-i'm]-", "yeah", None),
        ("th[e]- -[a]bout w[ent] -[40]1k well-", "", None),
        ("[it'n/isn't] {yuppiedom} them_1 the_2 word[1]", "it'n yuppiedom them the word", None),
        ("[noise] [vocalized-noise] [silence] <b_aside> <e_aside> [skip]", "", None),
        ("UH-HUH um-hum Uh so", "uh-huh um-hum uh so", "uh-huh um-hum so"),
    ],
)
def test_notation(text, kept, without):
    assert words.clean(text, hesitations=True) == kept
    assert words.clean(text) == (kept if without is None else without)


def test_reference_notation():
    text = (
        "(%hesitation) <contraction e_form=\"[we=>we]['ve=>have]\">We've { @ / a } {b /c d} ((e))"
    )
    assert words.clean_stm(text) == "we've b e"
    assert words.clean_stm(text, hesitations=True) == "uh we've b e"


def test_options_change_what_is_trained_on_and_sides_are_made_once(tmp_path, corpora, prepare):
    options = ("--no-eval2000", "--max-repeats", "1", "--labelled-fraction", "0.75")
    out = prepare(corpora, tmp_path / "data", *options, "--keep-hesitations", "--window-s", "3")
    assert sorted(read_table(tmp_path / "data/labelled/text").values()).count("yeah") == 1
    assert "2 repeated text" in out and not (tmp_path / "data/eval2000_swbd").exists()
    # Windows cover both sides of the hidden call, 8 s in 2 windows each.
    spans = [v.split()[1:] for v in read_table(tmp_path / "data/unlabelled/segments").values()]
    assert spans == [["0.000", "4.000"], ["4.000", "8.000"]] * 2
    sides = {p: p.stat().st_mtime_ns for p in (tmp_path / "downloads/sides").iterdir()}
    assert len(sides) == 10
    source = next(Path(corpora["SWBD"]).rglob("sw02001.sph"))
    samples, made = soundfile.read(source, dtype="int16")[0], tmp_path / "downloads/sides"
    got = [soundfile.read(made / f"sw02001-{s}.wav", dtype="int16")[0] for s in "AB"]
    assert np.array_equal(np.stack(got, axis=1), samples)  # mu-law again, nothing is lost
    (made / "sw02001-B.wav").unlink()  # as an interrupted run leaves it
    prepare(corpora, tmp_path / "data2", *options)
    again = {p: p.stat().st_mtime_ns for p in (tmp_path / "downloads/sides").iterdir()}
    changed = {p.name for p in sides if again[p] != sides[p]}
    assert changed == {"sw02001-A.wav", "sw02001-B.wav"}


def test_labelled_calls_are_nested_and_found_without_their_variable(tmp_path, corpora, prepare):
    os.rename(corpora.pop("SWBD_TRANSCRIPTS"), Path(corpora["SWBD"]) / "texts")
    chosen = []
    for share in ("0.25", "0.5", "0.75"):
        prepare(corpora, tmp_path / share, "--no-eval2000", "--labelled-fraction", share)
        chosen.append(calls_of(tmp_path / share / "labelled"))
    assert [len(c) for c in chosen] == [1, 2, 3] and chosen[0] < chosen[1] < chosen[2]


def test_calls_without_their_other_half_are_listed(tmp_path, corpora, prepare):
    next(Path(corpora["SWBD"]).rglob("sw03010.sph")).unlink()
    for path in Path(corpora["SWBD_TRANSCRIPTS"]).rglob("sw4940?-ms98-a-trans.text"):
        path.unlink()
    out = prepare(corpora, tmp_path / "data", "--no-eval2000", "--labelled-fraction", "0.5")
    assert "1 call without audio, 1 call without transcript" in out
    skipped = (tmp_path / "data/skipped.tsv").read_text()
    assert "sw3010A-ms98-a-trans.text\tcall without audio" in skipped
    assert "sw04940.sph\tcall without transcript" in skipped


def sph(corpora, name="sw02005.sph"):
    return next(p for v in ("SWBD", "EVAL2000") for p in Path(corpora[v]).rglob(name))


def edit(folder, name, old, new):
    path = next(Path(folder).rglob(name))
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def text_edit(old, new):
    return lambda c: edit(c["SWBD_TRANSCRIPTS"], "sw2005B-ms98-a-trans.text", old, new)


def stm_edit(old, new):
    return lambda c: edit(c["EVAL2000_TRANSCRIPTS"], "*.stm", old, new)


MISUSE = {
    "time": (text_edit("5.0 yeah", "5,0 yeah"), ["sw2005B-ms98-a-NUMBER", "trans.text:1"]),
    "side": (text_edit("sw2005B-ms98-a-0002", "sw2005A-ms98-a-0002"), ["trans.text:2"]),
    "order": (text_edit("6.0 7.0 um", "7.0 6.0 so"), ["before its start", "trans.text:2"]),
    "one side": (lambda c: next(Path(c["SWBD_TRANSCRIPTS"]).rglob("sw2006B*trans*")).unlink(),
                 ["the other side is missing", "sw2006A"]),
    "shorten": (lambda c: shorten(sph(c)),
                ["compressed with shorten", install("desphere"), "sw02005.sph"]),
    "cut off": (lambda c: sph(c).write_bytes(sph(c).read_bytes()[:9000]),
                ["truncated", "sw02005.sph"]),
    "mono": (lambda c: write_sph(sph(c), call_audio()[:, :1]), ["1 channel(s)", "sw02005.sph"]),
    "stm line": (stm_edit("0.50 2.00", "0.50 x"), ["speaker start end", "000405.stm:3"]),
    "stm file": (stm_edit("en_4156 B", "xx_4156 B"), ["sw_NNNN|en_NNNN", "000405.stm:7"]),
    "no eval audio": (lambda c: sph(c, "en_4156.sph").unlink(), ["en_4156", "LDC2002S09"]),
    "no stm": (lambda c: c.pop("EVAL2000_TRANSCRIPTS"), ["EVAL2000_TRANSCRIPTS", "LDC2002T43"]),
    "no eval": (lambda c: c.pop("EVAL2000"), ["EVAL2000", "--no-eval2000"]),
    "no texts": (lambda c: c.pop("SWBD_TRANSCRIPTS"), ["SWBD_TRANSCRIPTS", "openslr.org/5"]),
    "no calls": (lambda c: c.update(SWBD=c["EVAL2000"]), ["not Switchboard-1", "sw02001.sph"]),
    "no folder": (lambda c: c.update(SWBD="/no/such"), ["SWBD is not a folder"]),
}  # fmt: skip


@pytest.mark.parametrize("case", MISUSE)
def test_what_is_wrong_is_named(case, tmp_path, corpora, prepare):
    damage, expected = MISUSE[case]
    damage(corpora)
    out = prepare(corpora, tmp_path / "data", code=3)
    assert all(word in out for word in expected), out


def test_a_converted_copy_is_taken_in_place_of_what_cannot_be_read(tmp_path, corpora, prepare):
    path = sph(corpora)
    soundfile.write(path.with_suffix(".wav"), call_audio(), 8000, subtype="PCM_16")
    shorten(path)
    prepare(corpora, tmp_path / "data", "--no-eval2000")
    assert soundfile.info(tmp_path / "downloads/sides/sw02005-A.wav").subtype == "PCM_16"


@pytest.mark.parametrize("share", ["0", "1", "1.5"])
def test_a_share_that_leaves_a_set_empty_is_refused(share, tmp_path, corpora, prepare):
    code = 3 if share == "1" else 2
    options = ("--no-eval2000", "--labelled-fraction", share)
    out = prepare(corpora, tmp_path / "data", *options, code=code)
    assert "labelled" in out


def test_without_the_corpus_it_tells_where_to_get_it(recipe_copy, tmp_path):
    recipe = recipe_copy("swbd/bl_just1", tmp_path / "tree")
    out = recipe.run(DISK, "--stop-stage", "2", code=3, env={"SWBD": ""})
    assert "LDC97S62" in out and "stage 1" not in out
