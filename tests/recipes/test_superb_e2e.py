# SPDX-License-Identifier: Apache-2.0
"""SUPERB through run.sh: keywords first, other tasks later, from a small random encoder."""

import importlib.util
import json

import numpy as np
import pytest
import soundfile
from librispeech_tree import PARTS, make_librispeech
from tiny_encoder import make_model

from espnet_ext.data.tables import read_table
from espnet_ext.scoring.record import load_record

pytestmark = pytest.mark.e2e
WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed")
SMALL = "{updates: 60, rate: 0.03, batch: 12, width: 16, evaluations: 3}"
HEADS = ["--ngpu=0", *(f"--decode.args.{task}={SMALL}" for task in ("ks", "ic", "pr", "sd"))]


def tone(path, number, seconds=0.3):
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * 16000)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 250 * (number + 1) * t), 16000)


@pytest.fixture
def keywords(tmp_path):
    """Return the corpus as variables: a tone for each word."""
    root, test = tmp_path / "v1", tmp_path / "test_set"
    for i, word in enumerate(WORDS):
        for speaker in ("00000001", "00000003", "00000000"):  # by hash: train, train, dev
            tone(root / word / f"{speaker}_nohash_0.wav", i)
        tone(test / ("_unknown_" if word == "bed" else word) / "0000ffff_nohash_0.wav", i)
    tone(root / "_background_noise_" / "hum.wav", 20, 10.1)
    tone(test / "_silence_" / "1.wav", 20, 1.0)
    return {"SPEECH_COMMANDS": str(root), "SPEECH_COMMANDS_TEST": str(test)}


@pytest.fixture
def librispeech(tmp_path):
    corpus, lexicon = make_librispeech(tmp_path), tmp_path / "lexicon.txt"
    words = {w for part in PARTS.values() for texts in part.values() for t in texts
             for w in t.split()}  # fmt: skip
    lexicon.write_text("".join(f"{w} AA1 B\n" for w in sorted(words)))
    return {"LIBRISPEECH": str(corpus), "LIBRISPEECH_LEXICON": str(lexicon)}


@pytest.fixture
def intents(tmp_path):
    root = tmp_path / "fsc"
    (root / "data").mkdir(parents=True)
    for part in ("train", "valid", "test"):
        lines = [",path,speakerId,transcription,action,object,location"]
        for i, action in enumerate(("activate", "change language")):
            tone(root / f"wavs/{part}{i}.wav", 3 * i)
            lines.append(f"{i},wavs/{part}{i}.wav,s1,hey,{action},lamp,none")
        (root / f"data/{part}_data.csv").write_text("\n".join(lines) + "\n")
    return {"FLUENT_SPEECH_COMMANDS": str(root)}


@pytest.fixture
def mixtures(tmp_path):
    """Return nothing where the library that scores diarisation is not installed."""
    if importlib.util.find_spec("pyannote") is None:
        return {}
    root = tmp_path / "sd"
    for part in ("train", "dev", "test"):
        tone(root / part / "mix1.wav", 3, 2.0)
        (root / part / "wav.scp").write_text(f"mix1 {part}/mix1.wav\n")
        turn = "SPEAKER mix1 1 {} 1.00 <NA> <NA> {} <NA> <NA>\n"
        (root / part / "rttm").write_text(turn.format("0.00", "a") + turn.format("0.50", "b"))
    return {"LIBRI2MIX_DIARISATION": str(root)}


def test_probes_reach_the_results(
    recipe_copy, tmp_path, keywords, librispeech, intents, mixtures, monkeypatch
):
    for name in (*keywords, *librispeech, *intents, "LIBRI2MIX_DIARISATION"):
        monkeypatch.delenv(name, raising=False)
    recipe = recipe_copy("superb/multistage1", tmp_path / "tree")
    assert "no model is named" in recipe.run(*HEADS, env=keywords, code=2)
    assert not (recipe.path / "data").exists()
    options = [*HEADS, "--decode.args.model", str(make_model(tmp_path / "exp" / "pretrain"))]
    told = recipe.run(*options, env=keywords)
    assert "pr: skipped, LIBRISPEECH and LIBRISPEECH_LEXICON not set" in told
    folder = recipe.path / "exp/probe/decode/probe"
    before = (folder / "ks_test/prediction").stat().st_mtime_ns
    # Keywords are not given again: they are where they were, and their probe is kept.
    told = recipe.run(*options, env={**librispeech, **intents, **mixtures})
    assert "ks: its probe is there" in told
    assert (folder / "ks_test/prediction").stat().st_mtime_ns == before
    record = load_record(recipe.path / "results/probe.json")
    page = (recipe.path / "RESULTS.md").read_text()
    expected = [("ks", "label_accuracy", "Accuracy"), ("ic", "label_accuracy", "Accuracy"),
                ("pr", "per", "PER"), ("sd", "der", "DER")]  # fmt: skip
    assert [*record.sets] == sorted(f"{t}_test" for t, *_ in expected if t != "sd" or mixtures)
    for task, metric, title in expected[: len(record.sets)]:
        about = json.loads((folder / f"{task}_test/decode.json").read_text())
        scored = record.sets[f"{task}_test"]["probe"].metrics
        assert [*scored] == [metric]
        assert scored[metric].value == pytest.approx(about["score"], abs=0.1)
        assert f"{title} on {task}_test" in page
    assert "| System | ic_test | ks_test | pr_test (PER)" in page
    assert record.sets["ks_test"]["probe"].metrics["label_accuracy"].value > 50
    assert len(read_table(folder / "pr_test/phones")) == 2
    told = recipe.run(*options)
    assert "done: 0 stage(s) run" in told
