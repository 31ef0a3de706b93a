# SPDX-License-Identifier: Apache-2.0
"""The readers of SUPERB's corpora, on small trees in their layout."""

import hashlib

import numpy as np
import pytest
import soundfile
from librispeech_tree import PARTS, make_librispeech
from recipe_tree import load_local

from espnet_ext.data.audio import info
from espnet_ext.data.check import check_dir
from espnet_ext.data.tables import read_table
from espnet_ext.data.utterances import utterances

superb = load_local("superb")
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")


def sound(path, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(seconds * 16000))
    soundfile.write(path, noise, 16000)


@pytest.fixture
def commands(tmp_path):
    root, test = tmp_path / "v1", tmp_path / "test_set"
    for i in range(40):
        sound(root / "yes" / f"{i:08x}_nohash_0.wav", 0.9)
    for word in (*WORDS, "bed"):
        sound(root / word / "000000aa_nohash_1.wav")
        sound(test / ("_unknown_" if word == "bed" else word) / "0000ffff_nohash_0.wav")
    sound(root / "_background_noise_" / "pink.wav", 12.5)
    sound(test / "_silence_" / "1.wav")
    (root / "LICENSE").write_text("x")
    return {"SPEECH_COMMANDS": root, "SPEECH_COMMANDS_TEST": test}


def test_keywords(tmp_path, run_local, commands):
    run_local(superb, tmp_path / "data", **commands)
    sets = {n: read_table(tmp_path / "data" / f"ks_{n}" / "text") for n in ("train", "dev", "test")}
    skipped = (tmp_path / "data/skipped.tsv").read_text().count("the test part")
    silence = [u for n in ("train", "dev") for u, x in sets[n].items() if x == "_silence_"]
    assert len(silence) == 12  # 12.5 s of noise
    assert sum(x == "_silence_" for x in sets["dev"].values()) == 1
    assert len(sets["train"]) + len(sets["dev"]) + skipped == 40 + 11 + 12
    assert sorted(sets["test"].values()) == sorted([*WORDS, "_unknown_", "_silence_"])
    for i in range(40):
        speaker = f"{i:08x}"
        share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27 * 100 / (2**27 - 1)
        held = f"{speaker}-yes-{speaker}_nohash_0"
        assert (held in sets["dev"], held in sets["train"]) == (share < 10, share >= 20)
    for name in sets:
        assert [f for f in check_dir(tmp_path / "data" / f"ks_{name}") if f.level == "error"] == []
    found = {u.id: u for u in utterances(tmp_path / "data/ks_train")}
    cut = found["_silence_-pink-0003"]
    assert (cut.start_s, cut.end_s) == (3, 4)
    whole = next(u for u in found.values() if "yes" in u.id)
    assert whole.end_s == pytest.approx(info(whole.audio).duration_s, abs=1e-3)


def test_intents(tmp_path, run_local):
    root = tmp_path / "fsc"
    head = ",path,speakerId,transcription,action,object,location\n"
    for part in ("train", "valid", "test"):
        sound(root / f"wavs/speakers/s1/{part}.wav")
        row = f'0,wavs/speakers/s1/{part}.wav,s1,"Lamp, on",change language,none,none\n'
        (root / "data").mkdir(exist_ok=True)
        (root / f"data/{part}_data.csv").write_text(head + row)
    argv = [tmp_path / "data", "--tasks", "ic"]
    run_local(superb, *argv, FLUENT_SPEECH_COMMANDS=root)
    text = read_table(tmp_path / "data/ic_dev/text")
    assert text == {"s1-valid": "change language | none | none"}
    (root / "wavs/speakers/s1/test.wav").unlink()
    out = run_local(superb, *argv, code=3, FLUENT_SPEECH_COMMANDS=root)
    assert "the audio of 's1-test' is missing" in out and "test_data.csv:2" in out
    out = run_local(superb, *argv, code=3, FLUENT_SPEECH_COMMANDS=None)
    assert "FLUENT_SPEECH_COMMANDS is not set" in out


def test_phones(tmp_path, run_local):
    corpus, lexicon = make_librispeech(tmp_path), tmp_path / "lexicon.txt"
    words = {w for part in PARTS.values() for texts in part.values() for t in texts
             for w in t.split()} - {"YES"}  # fmt: skip
    lexicon.write_text("".join(f"{w} AA1 B\n" for w in sorted(words)))
    argv = [tmp_path / "data", "--tasks", "pr"]
    variables = {"LIBRISPEECH": corpus, "LIBRISPEECH_LEXICON": lexicon}
    out = run_local(superb, *argv, **variables)
    assert "1 words have no pronunciation: YES (1)" in out
    text = read_table(tmp_path / "data/pr_train/text")
    assert text["103-1240-0000"] == "AA B AA B"
    assert "26-495-0000" not in text
    assert "26-495-0000" in (tmp_path / "data/skipped.tsv").read_text()
    lexicon.write_text("OTHER AH\n")
    out = run_local(superb, *argv, code=3, **variables)
    assert "no utterance of train-clean-100 has all its words in the lexicon" in out
    out = run_local(superb, *argv, code=3, LIBRISPEECH=corpus, LIBRISPEECH_LEXICON=None)
    assert "LIBRISPEECH_LEXICON is not set" in out


def test_diarisation(tmp_path, run_local):
    root = tmp_path / "sd"
    for part in ("train", "dev", "test"):
        sound(root / part / "wav" / "mix1.wav", 2)
        (root / part / "wav.scp").write_text(
            f"lost {part}/wav/lost.wav\nmix1 {part}/wav/mix1.wav\n"
        )
        lines = "SPEAKER mix1 1 0.00 1.00 <NA> <NA> a <NA> <NA>\n"
        (root / part / "rttm").write_text(
            lines + lines.replace("1 0.00", "1 0.50").replace(" a ", " b ")
        )
    run_local(superb, tmp_path / "data", "--tasks", "sd", LIBRI2MIX_DIARISATION=root)
    made = tmp_path / "data/sd_test"
    assert len((made / "rttm").read_text().splitlines()) == 2
    assert not (made / "text").exists()
    assert [u.id for u in utterances(made)] == ["mix1"]
    assert (tmp_path / "data/skipped.tsv").read_text().count("not in rttm") == 3


def test_the_recipe_prepares_keywords(recipe_copy, tmp_path, commands):
    recipe = recipe_copy("superb/multistage1", tmp_path / "tree")
    env = {k: str(v) for k, v in commands.items()}
    recipe.run("--stop-stage=prepare", "--prepare.disk_mb=10", env=env)
    assert (recipe.path / "data/ks_test/text").is_file()


def test_tasks_whose_corpora_are_given(tmp_path, run_local, commands):
    every = {name: None for reader in superb.READERS.values() for name in reader.VARIABLES}
    out = run_local(superb, tmp_path / "none", code=3, **every)
    assert "no task has its corpora" in out and "ic: FLUENT_SPEECH_COMMANDS not set" in out
    out = run_local(superb, tmp_path / "data", **{**every, **commands, "LIBRISPEECH": tmp_path})
    assert "pr: skipped, LIBRISPEECH_LEXICON not set" in out
    assert read_table(tmp_path / "data/superb/tasks") == {"ks": "ks_train ks_dev ks_test"}
    skipped = (tmp_path / "data/skipped.tsv").read_text()
    assert "sd\t-\ttask\tLIBRI2MIX_DIARISATION not set" in skipped
