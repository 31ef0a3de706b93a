# SPDX-License-Identifier: Apache-2.0
"""Classification of ASR text through run.sh: whole, again, a baseline, killed, packed, broken."""

import json
import random
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_ext.cli import main as cli
from espnet_ext.data.tables import read_table
from espnet_ext.ml_lmcl.classifier import IntentClassifier
from espnet_ext.recipe import runner

pytestmark = pytest.mark.e2e
RAN = re.compile(r"^stage (\d+)/10 \w+: done", re.M)
FILES = ("text_original.txt", "en.classification.txt", "labels.classification.txt")
PATTERNS = {
    "flight": "show me flights from {a} to {b}",
    "fare": "what does the trip from {a} to {b} cost",
    "weather": "is it raining in {a} or {b} today",
}
SLIPS = {"boston": "austin", "flights": "lights", "trip": "grip", "raining": "training"}
SMALL = {"optim_conf": {"lr": 0.003}, "max_epoch": 2, "batch_size": 8, "grad_clip": 5.0}
TINY = {
    "prepare.args": ["--simulate-from", "trec6", "--wer", "20"],
    "data.test": ["test", "test_wer20"],
    "tokens.args": {"vocab_size": 300, "hidden_size": 32, "layers": 1, "heads": 2},
    "pretrain.args": SMALL,
    "midtrain.args": SMALL,
    "finetune.args": {**SMALL, "max_epoch": 6},
    "decode.args": {"inference_model": "all"},
}


def write_corpus(root):
    """Write a made-up atis and trec6; every tenth ASR text is empty."""
    rng = random.Random(5)
    places = ["boston", "denver", "dallas", "atlanta", "chicago", "austin"]
    for name, split, count in (
        (n, s, c)
        for n in ("atis", "trec6")
        for s, c in (("train", 120), ("valid", 40), ("test", 40))
    ):
        rows = []
        for number in range(count):
            label, pattern = rng.choice(list(PATTERNS.items()))
            manual = pattern.format(a=rng.choice(places), b=rng.choice(places))
            asr = " ".join(SLIPS.get(w, w) if rng.random() < 0.5 else w for w in manual.split())
            rows.append((manual, asr if number % 10 else "", label))
        folder = root / name / split
        folder.mkdir(parents=True)
        for file, column in zip(FILES, zip(*rows, strict=True), strict=True):
            (folder / file).write_text("".join(f"{x}\n" for x in column))
    return root


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    root = write_corpus(tmp_path_factory.mktemp("corpus"))
    return {"PHONEME_BERT": str(root), "TEXT_ENCODER": "none"}


def tiny(recipe):
    recipe.edit(TINY)
    return recipe


@pytest.fixture(scope="module")
def whole(recipe_copy, tmp_path_factory, env):
    """An uninterrupted run of all stages, and what it printed."""
    recipe = tiny(recipe_copy("atis/ml_lmcl1", tmp_path_factory.mktemp("whole")))
    return recipe, recipe.run("--nj", "1", env=env, fresh=True)


def test_all_stages_run_and_learn(whole):
    recipe, out = whole
    assert RAN.findall(out) == ["1", "2", "4", "5", "6", "7", "8", "9", "10"]
    assert "a small encoder of our own" in out and "40 utterances" in out
    assert "12 empty ASR texts (kept)" in out
    record = json.loads((recipe.path / "results/ml_lmcl.json").read_text())
    assert list(record["phases"]) == ["finetune", "midtrain", "pretrain"]
    assert record["sets"].keys() == {"valid", "test", "test_wer20"}
    assert record["sets"]["test"].keys() == {"asr", "clean", "average"}
    accuracy = record["sets"]["test"]["asr"]["metrics"]["accuracy"]["totals"]
    found = read_table(recipe.path / "exp/ml_lmcl/decode/asr/test/prediction")
    labels = read_table(recipe.path / "data/test/label")
    right = sum(found[u] == labels[u] for u in labels)
    assert found.keys() == labels.keys() and accuracy["correct"] == right
    assert right > 30  # a third is chance
    assert f"accuracy {100 * right / 40:.2f} %" in out
    assert abs(record["sets"]["test_wer20"]["asr"]["intent"]["input_wer"]["rate"] - 20) < 3
    page = (recipe.path / "RESULTS.md").read_text()
    assert "Accuracy" in page and "WER group" in page
    assert {p.name for p in (recipe.path / "exp/ml_lmcl/images").rglob("*.png")}


def test_only_stage_2_is_trained_anew_when_only_it_changes(whole):
    """Without the variables, which a first run has told."""
    out = whole[0].run("--finetune.args.ml_lmcl.alpha", "0", "--stop-stage", "7")
    assert RAN.findall(out) == ["7"] and out.count("up to date") == 5


def test_baseline_has_no_stage_1_and_is_compared(whole, env):
    recipe, _ = whole
    out = recipe.run(
        "--name",
        "ce_asr",
        "--args.ml_lmcl.preset",
        "ce_asr",
        "--stop-stage",
        "9",
        env=env,
    )
    assert "stage 6/10 midtrain: off, stage1 is none (preset ce_asr)" in out
    init = yaml.safe_load((recipe.path / "exp/ce_asr/finetune/config.yaml").read_text())
    assert init["init_param"] == ["exp/ce_asr/pretrain/valid.loss.best.pth:encoder:"
                                  "models.asr.encoder"]  # fmt: skip
    page = (recipe.path / "RESULTS.md").read_text()
    assert "ce_asr" in page and "1 paired seed only" in page


def test_stage_1_of_another_experiment_is_counted(whole, env):
    recipe, _ = whole
    stage1 = "exp/ml_lmcl/midtrain/valid.loss.best.pth"
    recipe.run(
        "--name", "shared", "--midtrain", "none", "--pretrain", "none", "--finetune.init", stage1,
        "--finetune.args.max_epoch", "1", "--stop-stage", "9", env=env,
    )  # fmt: skip
    mine, other = (
        json.loads((recipe.path / f"results/{n}.json").read_text()) for n in ("shared", "ml_lmcl")
    )
    assert mine["phases"]["midtrain"] == other["phases"]["midtrain"]


def test_the_archive_classifies_elsewhere(whole, tmp_path, monkeypatch, capsys):
    """In another folder; that a clean process needs no ESPnet is a test of the archive's own."""
    recipe, _ = whole
    archive = recipe.path / "exp/ml_lmcl/atis_ml_lmcl1_ml_lmcl.zip"
    monkeypatch.chdir(tmp_path)
    Path("x.txt").write_text("show me lights from austin to denver\n\n")
    assert cli(["decode", "--model", str(archive), "x.txt"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 2 and rows[0][1] == "flight" and 0 < float(rows[0][2]) <= 1
    classify = IntentClassifier.from_pretrained(str(archive))
    assert classify("show me lights from austin to denver").labels == {"intent": "flight"}


def test_killed_in_stages_6_and_7_it_ends_the_same(recipe_copy, whole, tmp_path, env, monkeypatch):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    recipe = tiny(recipe_copy("atis/ml_lmcl1", tmp_path))
    recipe.kill_at("  epoch 1/2", "--nj", "1", "--stop-stage", "8")
    recipe.kill_at("  epoch 2/6", "--nj", "1", "--stop-stage", "8")
    out = recipe.run("--nj", "1", "--stop-stage", "8")
    assert "going on" in out
    for which in ("asr", "clean"):
        a, b = (r.path / f"exp/ml_lmcl/decode/{which}/test" for r in (whole[0], recipe))
        assert (a / "posterior.tsv").read_bytes() == (b / "posterior.tsv").read_bytes()
        assert np.array_equal(np.load(a / "vectors.npz")["asr"], np.load(b / "vectors.npz")["asr"])


@pytest.fixture
def here(recipe_copy, tmp_path, env, monkeypatch, capsys):
    """Return ``here(*argv, **variables) -> (exit code, what it printed)``, in this process."""
    recipe = tiny(recipe_copy("atis/ml_lmcl1", tmp_path / "recipe"))
    monkeypatch.chdir(recipe.path)

    def run(*argv, **variables):
        for name, value in {**env, **variables}.items():
            monkeypatch.setenv(name, value)
        code = runner.main(list(argv))
        return code, "".join(capsys.readouterr())

    return run


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--args.ml_lmcl.preset", "roberta_asr"), "write ce_asr"),
        (("--args.ml_lmcl.beta", "-1"), "0 or more"),
        (("--format.args.normalize", "upper"), "normalize' must be one of none, lower, words"),
        (("--tokens.args.hiden_size", "8"), "hidden_size"),
        (("--decode.code", "espnet_ext.ml_lmcl.stages.deco"), "decode.code"),
    ],
)
def test_bad_options_are_refused_before_stage_1(here, argv, words):
    code, out = here(*argv)
    assert code == 2 and words in out and not RAN.findall(out)


def test_bad_corpora_are_refused_before_training(here, tmp_path):
    root = write_corpus(tmp_path / "c")
    file = root / "atis/valid/en.classification.txt"
    file.write_text("".join(file.read_text().splitlines(True)[:-3]))
    code, out = here("--stop-stage", "2", PHONEME_BERT=str(root))
    assert code == 3 and "en.classification.txt" in out and "37" in out and "40" in out
    code, out = here("--stop-stage", "2", PHONEME_BERT=str(tmp_path / "nowhere"))
    assert code == 3 and "PHONEME_BERT" in out
    labels = root / "atis/test/labels.classification.txt"
    file.write_text(file.read_text() + "x\nx\nx\n")
    labels.write_text(labels.read_text().replace("weather", "hotel", 1))
    code, out = here("--stop-stage", "2", PHONEME_BERT=str(root))
    assert code == 3 and re.search(r"data/test/label:\d+", out) and "'hotel'" in out
    argv = ("--format.args.unseen_labels", "wrong", "--stop-stage", "2")
    code, out = here(*argv, PHONEME_BERT=str(root))
    kept = read_table("dump/test/label")
    assert code == 0 and len(kept) == 40 and list(kept.values()).count("hotel") == 1
