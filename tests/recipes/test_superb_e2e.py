# SPDX-License-Identifier: Apache-2.0
"""SUPERB through run.sh: keywords first, phones later, from a small random encoder."""

import json

import numpy as np
import pytest
import soundfile
from librispeech_tree import PARTS, make_librispeech
from tiny_encoder import make_model

from espnet_ext.data.tables import read_table
from espnet_ext.scoring.record import load_record

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go", "bed")
SMALL = "{updates: 60, rate: 0.03, batch: 12, width: 16, evaluations: 3}"
HEADS = ["--ngpu=0", f"--decode.args.ks={SMALL}", f"--decode.args.pr={SMALL}"]


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


def test_probes_reach_the_results(recipe_copy, tmp_path, keywords, librispeech, monkeypatch):
    for name in (*keywords, *librispeech, "FLUENT_SPEECH_COMMANDS", "LIBRI2MIX_DIARISATION"):
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
    told = recipe.run(*options, env=librispeech)
    assert "ks: its probe is there" in told
    assert (folder / "ks_test/prediction").stat().st_mtime_ns == before
    record = load_record(recipe.path / "results/probe.json")
    page = (recipe.path / "RESULTS.md").read_text()
    for task, metric, title in (("ks", "label_accuracy", "Accuracy"), ("pr", "per", "PER")):
        about = json.loads((folder / f"{task}_test/decode.json").read_text())
        scored = record.sets[f"{task}_test"]["probe"].metrics
        assert [*scored] == [metric]
        assert scored[metric].value == pytest.approx(about["score"])
        assert f"{title} on {task}_test" in page
    assert record.sets["ks_test"]["probe"].metrics["label_accuracy"].value > 50
    assert len(read_table(folder / "pr_test/phones")) == 2
    told = recipe.run(*options)
    assert "done: 0 stage(s) run" in told
