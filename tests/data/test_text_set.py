# SPDX-License-Identifier: Apache-2.0
"""Sets of texts without audio: what the doctor says of manual text, ASR text and labels."""

from pathlib import Path

import pytest

from espnet_ext.cli import main as cli

TEXTS = {
    "text_manual": ["u1 play a song", "u2 stop", "u3 go on", "u4 wake me", "u5 yes", "u6 no"],
    "text_asr": ["u1 play a son", "u2", "u3 go on", "u4 wake me", "u5 yes", "u6 no"],
    "label": ["u1 play", "u2 stop", "u3 play", "u4 alarm", "u5 yes", "u6 no"],
}


@pytest.fixture
def doctor(tmp_path, monkeypatch, capsys):
    """Return ``doctor(code, FILE=lines, ...) -> what it says``."""
    monkeypatch.chdir(tmp_path)

    def call(code, **changes):
        folder = Path("data/train")
        folder.mkdir(parents=True, exist_ok=True)
        for file, lines in {**TEXTS, **changes}.items():
            (folder / file).write_text("".join(f"{x}\n" for x in lines))
        assert cli(["doctor", "--data", str(folder)]) == code
        return capsys.readouterr().out

    return call


def test_an_empty_hypothesis_is_one(doctor):
    said = doctor(0)
    assert "text_asr:2: u2: has no value (1 of 6 lines have none)" in said
    assert "right if the recogniser heard no word" in said and "0 errors, 1 warning" in said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"label": [*TEXTS["label"][:5], "u6"]}, "label:6: u6: has no value"),
        ({"text_asr": TEXTS["text_asr"][:5]}, "text_manual:6: u6: is not in text_asr"),
        ({"text_asr": [*TEXTS["text_asr"], "u2 stop"]},
         "text_asr:7: u2: appears in line 2, too, with another value"),
    ],
)  # fmt: skip
def test_what_a_training_cannot_use_is_an_error(doctor, changes, words):
    said = doctor(3, **changes)
    assert words in said and "wav.scp" not in said


def test_hypotheses_that_look_like_no_recognisers_are_warned_of(doctor):
    assert "more than 20 %" in doctor(0, text_asr=["u1", "u2", *TEXTS["text_asr"][2:]])
    assert "the same as text_manual in every line" in doctor(0, text_asr=TEXTS["text_manual"])


def test_a_folder_of_audio_is_no_set_of_texts(doctor):
    assert "wav.scp: is missing" in doctor(3, text=["u1 a"])
