# SPDX-License-Identifier: Apache-2.0
"""MEDIA and PortMEDIA on hand-made trees of their layouts: each known oddity, and nothing lost."""

import re

import numpy as np
import pytest
import soundfile as sf
from media_tree import CHANNELS, DATA, HEAD, make_media, make_pm_dom, make_pm_lang, put
from recipe_tree import load_local

from espnet_ext.data.slu_manifest import read
from espnet_ext.data.tables import read_table
from espnet_ext.errors import DataError

media, portmedia = load_local("media"), load_local("portmedia")
text, slu_xml = load_local("media_text"), load_local("slu_xml")


def tagged(folder, part):
    return {
        row.id: row.tagged for row in read(folder / "data", same_words=False) if row.set == part
    }


def skips(folder):
    lines = (folder / "data/skipped.tsv").read_text().splitlines()[1:]
    return sorted(line.split("\t")[1] for line in lines)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return make_media(tmp_path_factory.mktemp("MEDIA"))


def test_marks_and_tags_of_media(tree, run_local, tmp_path):
    told = run_local(media, "data", MEDIA=tree)
    assert tagged(tmp_path, "train") == {
        # each word once: the turn's own transcription is not read; "-reservation" has one hyphen
        "100-0001000-0005000": "<response> oui > je voudrais <nombre-chambre-reservation> deux "
        "chambres > à l' hôtel * dix sept l' ami",
        "100-0005500-0006500": "bonjour",
        # the mark at 8 s waits for the end of the concept; that at 9 s is void: words follow it
        "100-0006500-0008000": "alors <localisation-ville-hotel> à Mont-De-Marsan >",
        "100-0008000-0012000": "<temps-mois-relative-reservation> en mai >",
        "100-0029500-0030010": "merci",
        "200-0000500-0002000": "c'est d' un parking",
    }
    assert tagged(tmp_path, "dev") == {"300-0000000-0002000": "<response> non >"}
    assert tagged(tmp_path, "test") == {"400-0000000-0002000": "<response> d' accord >"}
    assert skips(tmp_path) == ["beyond the audio", "no annotation", "no duration", "no words"]
    assert "10 turns; 8 utterances written to manifest.tsv, 4 left out" in told
    assert "8 utterances read, 8 written, 0 skipped" in told
    assert set(read_table(tmp_path / "data/train/utt2spk").values()) == {
        "speaker_846",
        "speaker_37",
    }
    assert read_table(tmp_path / "data/train/plain")["100-0008000-0012000"] == "en mai"


def test_the_channel_is_the_callers(tree, run_local, tmp_path):
    run_local(media, "data", MEDIA=tree)
    by_turn = {p.name for p in (tmp_path / "downloads/callers").iterdir()}
    assert by_turn == {"100-L.wav", "200-R.wav", "300-R.wav", "400-L.wav"}
    for path in (tmp_path / "downloads/callers").iterdir():
        wave, rate = sf.read(path)
        assert (wave.ndim, rate) == (1, 8000) and np.abs(wave).max() > 0.4
    (tmp_path / "c.csv").write_text(CHANNELS.replace("L,400", "R,400"))
    told = run_local(media, "data", "--channels", "c.csv", MEDIA=tree)
    assert "1 dialogues: the turns name the channel" in told
    assert read_table(tmp_path / "data/test/wav.scp").popitem()[1].endswith("400-R.wav")


@pytest.mark.parametrize(
    ("lines", "what", "line"),
    [("L,1\nR,1\n", "both channels", 2), ("L,1\nX,2\n", "not 'L,dialogue'", 2), ("L\n", "not", 1)],
)
def test_a_faulty_table_of_channels(tmp_path, lines, what, line):
    (tmp_path / "c.csv").write_text(lines)
    with pytest.raises(DataError, match=what) as e:
        text.read_channels(tmp_path / "c.csv")
    assert f"c.csv:{line}" in str(e.value)


def test_turns_relaxed_tags_and_normalised_values(tree, run_local, tmp_path):
    run_local(media, "data", "--segmentation", "turn", "--tags", "relax", "--value", "normalised",
              MEDIA=tree)  # fmt: skip
    got = tagged(tmp_path, "train")
    assert got["100-0001000-0005000"].startswith(
        "<response> oui > je voudrais <nombre-chambre> 2 >"
    )
    assert got["100-0005000-0012000"] == (
        "bonjour alors <localisation-ville> > <temps-mois> >"  # no value is annotated there
    )
    plain = read_table(tmp_path / "data/train/plain")
    assert plain["100-0005000-0012000"] == "bonjour alors à Mont-De-Marsan en mai"


def test_the_second_test_set(tree, run_local, tmp_path):
    (tmp_path / "channels.csv").write_text(CHANNELS)
    run_local(media, "data", "--test2", "--channels", "channels.csv", MEDIA=tree)
    assert tagged(tmp_path, "test2") == {
        "70-0001000-0003000": "je pars de <localisation-ville-hotel> Nîmes >",
        "70-0003000-0006000": "demain <temps-date-reservation> le deux juin >",
        "70-0006000-0009000": "voilà",
        "70-0320000-0321000": "merci",  # 344.408 in the file
    }
    run_local(media, "data", "--test2", "--tags", "relax", "--channels", "channels.csv", MEDIA=tree)
    joined = " ".join(tagged(tmp_path, "test2").values())
    assert "<localisation-ville> " in joined and "<temps-date> " in joined
    told = run_local(media, "data", "--test2", MEDIA=tree, code=3)
    assert "nothing tells the caller's channel of 70.wav" in told and "70_HC.xml:7" in told


def test_what_is_missing_is_told(tree, run_local, tmp_path):
    assert "MEDIA is not set" in run_local(media, "data", MEDIA=None, code=3)
    (tmp_path / "empty").mkdir()
    assert "media_lot1.xml" in run_local(media, "data", MEDIA="empty", code=3)
    broken = make_media(tmp_path / "broken")
    (broken / "S0272/MEDIA1FR_01/MEDIA1FR/BLOCK00/300.wav").unlink()
    told = run_local(media, "data", MEDIA=broken, code=3)
    assert "audio of dialogue 300" in told and "media_testHC_a_blanc.xml:4" in told
    put(broken / DATA / "media_lot3.xml", f"{HEAD}<corpus>\n<dialogue>\n</corpus>")
    assert "media_lot3.xml:4" in run_local(media, "data", MEDIA=broken, code=3)


def test_entities_are_refused_and_encodings_guessed(tmp_path):
    path = tmp_path / "a.xml"
    path.write_text('<!DOCTYPE a [\n<!ENTITY x SYSTEM "/etc/hostname">\n]><a>&x;</a>')
    with pytest.raises(DataError, match=r"declares the entity 'x'(.|\n)*a.xml:2"):
        slu_xml.parse(path)
    declared = '<?xml version="1.0" encoding="ISO-8859-1"?><a>é</a>'.encode("latin-1")
    for data in ("<a>é</a>".encode("latin-1"), "\ufeff<a>é</a>".encode(), declared):
        path.write_bytes(data)
        assert slu_xml.parse(path).text() == "é"


def test_relaxed_names_are_those_of_a_table(tmp_path):
    assert text.relaxed("temps-date", text.RELAX) == "temps-date"
    assert (
        text.relaxed("nombre-chambre-disponible-hotel", text.RELAX) == "nombre-chambre-disponible"
    )
    assert text.relaxed("nombre-chambre-autre", text.RELAX) == "nombre-chambre-autre"
    assert len(text.RELAX) == 37 and len({full for full, _ in text.RELAX}) == 37
    (tmp_path / "c.csv").write_text("a-*,x\na-b,y\n")
    rules = text.read_rules(tmp_path / "c.csv")
    assert (text.relaxed("a-b", rules), text.relaxed("a", rules)) == ("x", "a")


def test_italian_numbers():
    expected = {0: "zero", 3: "tre", 8: "otto", 16: "sedici", 21: "ventuno", 23: "ventitré",
                28: "ventotto", 90: "novanta", 100: "cento", 145: "centoquarantacinque",
                303: "trecentotré", 1000: "mille", 2026: "duemilaventisei",
                31_000: "trentunomila"}  # fmt: skip
    assert {n: text.italian_number(n) for n in expected} == expected
    made = [text.italian_number(n) for n in range(10_000)]
    assert len(set(made)) == len(made) and all(re.fullmatch("[a-zé]+", word) for word in made)


NAMES = ("08730_100", "08730_305", "08730_675", "08730_700")


def test_pm_lang(run_local, tmp_path):
    root = make_pm_lang(tmp_path / "S0371", NAMES)
    told = run_local(portmedia, "data", "--split", 2, 1, 1, PORTMEDIA=root)
    # sorted by block: 100 and 675 are in BLOCK00, 305 and 700 in BLOCK01
    assert [(row.set, row.id) for row in read(tmp_path / "data") if "0001000" in row.id] == [
        ("train", "08730_100-0001000-0003000"), ("train", "08730_675-0001000-0003000"),
        ("dev", "08730_305-0001000-0003000"), ("test", "08730_700-0001000-0003000"),
    ]  # fmt: skip
    assert tagged(tmp_path, "dev") == {
        "08730_305-0001000-0003000": "vorrei ehm <nombre-chambre> ventitré camere > grazie",
        "08730_305-0003000-0004000": "certo",  # the second wizard's: as in ESPnet's reader
    }
    assert "4 dialogues name several wizards" in told
    assert skips(tmp_path) == ["no duration"] * 4 + ["no words"] * 4
    assert "16 turns; 8 utterances" in told and "8 left out" in told
    told = run_local(portmedia, "data", PORTMEDIA=root, code=3)
    assert "4 dialogues, not 604" in told


def test_pm_dom_has_no_number_rule_and_one_unusable_dialogue(run_local, tmp_path):
    root = make_pm_dom(tmp_path / "S0371", ("08730_1", "08730_2", "08730_887", "08730_9"))
    run_local(portmedia, "data", "--part", "dom", "--split", 1, 1, 2, "--value", "normalised",
              PORTMEDIA=root)  # fmt: skip
    assert tagged(tmp_path, "test")["08730_9-0001000-0003000"] == (
        "vorrei ehm <nombre-chambre> 23 > grazie"
    )
    assert read_table(tmp_path / "data/test/utt2lang").popitem()[1] == "fr"
    assert "the annotation is that of other audio" in skips(tmp_path)
    assert "choose the other --part" in run_local(portmedia, "data", PORTMEDIA=root, code=3)
