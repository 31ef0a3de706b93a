# SPDX-License-Identifier: Apache-2.0
"""Alignment and training with it through run.sh: whole, again, changed, killed, swept, packed."""

import json
import os
import re

import numpy as np
import pytest
import torch
import yaml
from omniio import kaldi
from recipe_tree import decode_stock

from espnet_ext.cli import main as cli
from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
RAN = re.compile(r"^stage (\d+)/10 \w+: done", re.M)
UNKNOWN = "heater"  # stands in the transcripts, not in the lexicon
TINY = {
    "prepare.args": [
        "--train-minutes",
        "0.5",
        "--train-speakers",
        "2",
        "--dev-utts",
        "4",
        "--test-utts",
        "4",
    ],
    "format.speeds": [0.9, 1.0],
    "align.oov": "skip",  # the word that the lexicon lacks
    "align.mono": {"iterations": 6, "realign": [1, 3, 5], "gaussians": 150},
    "align.tri": {"iterations": 4, "realign": [2], "leaves": 60, "gaussians": 120},
    "align.hybrid": {"epochs": 3, "units": 16, "layers": 1},
    "finetune.args": {
        "max_epoch": 2,
        "batch_bins": 300000,
        "encoder_conf": {"num_blocks": 2, "output_size": 32, "linear_units": 32},
        "decoder_conf": {"linear_units": 32},
    },
}


def tiny(recipe):
    """Make the recipe small, and its lexicon lack a word."""
    recipe.edit(TINY)
    script = recipe.path / "local/data.sh"
    lines = script.read_text().replace("exec ", "")
    script.write_text(f"{lines}sed -i '/^{UNKNOWN}[[:space:]]/d' \"$1/lexicon.txt\"\n")
    return recipe


@pytest.fixture(scope="module")
def whole(recipe_copy, tmp_path_factory):
    """An uninterrupted run of all stages, and what it printed."""
    recipe = tiny(recipe_copy("synth/weak_align1", tmp_path_factory.mktemp("whole")))
    return recipe, recipe.finish("--nj", "1", fresh=True)


def labels(recipe, stream="train/align/targets"):
    cwd = os.getcwd()
    os.chdir(recipe.path)  # archives are named from there
    try:
        return {u: np.array(x) for u, x in kaldi.load_scp_sequential(f"dump/{stream}.scp")}
    finally:
        os.chdir(cwd)


def test_every_utterance_has_labels_of_its_length_and_training_takes_them(whole):
    recipe, out = whole
    assert RAN.findall(out) == ["1", "2", "3", "4", "7", "8", "9", "10"]
    assert "tri: after block 2 of 2, stride 4" in out
    assert re.search(r"stock ESPnet loads all \d+ parameter tensors and ignores 2 of ours", out)
    header = json.loads((recipe.path / "dump/train/align/header.json").read_text())
    for name in ("train", "dev"):
        samples = read_table(recipe.path / f"dump/{name}/utt2num_samples")
        ours = labels(recipe, f"{name}/align/targets")
        assert list(ours) == list(samples)
        assert all(abs(len(x) - int(samples[u]) / 160) <= 0.5 for u, x in ours.items())
        assert max(x.max() for x in ours.values()) < header["num_classes"]
    config = yaml.safe_load((recipe.path / "exp/base/finetune/config.yaml").read_text())
    assert config["aux"]["resolved"]["classes"] == {"tri": header["num_classes"]}


def test_what_cannot_be_aligned_trains_without_labels_and_is_listed(whole):
    recipe, out = whole
    text = read_table(recipe.path / "dump/train/text")
    lost = {u for u, words in text.items() if UNKNOWN in words.split()}
    assert lost and {u.removeprefix("sp0.9-") for u in lost} < lost  # an original and its copy
    assert {u for u, x in labels(recipe).items() if (x == -1).all()} == lost
    folder = recipe.path / "dump/train/align"
    listed = [x.split("\t")[0] for x in (folder / "unlabelled.tsv").read_text().splitlines()]
    assert set(listed) == lost and UNKNOWN in (folder / "skipped.tsv").read_text()
    assert f"train align: {len(text) - len(lost)} of {len(text)} utterances have labels" in out
    shapes = read_table(recipe.path / "exp/base/stats/finetune/train/speech_shape")
    assert lost <= shapes.keys()


def test_labels_of_a_speed_copy_are_those_of_its_original_at_the_rescaled_time(whole):
    ours = labels(whole[0])
    copies = [u for u in ours if u.startswith("sp0.9-")]
    assert len(copies) == len(ours) / 2
    for utt in copies:
        copy, original = ours[utt], ours[utt.removeprefix("sp0.9-")]
        centres = (np.arange(len(copy)) + 0.5) * 0.9
        expected = original[np.minimum(centres.astype(int), len(original) - 1)]
        assert (copy == expected).mean() > 0.98, utt  # a centre may lie between two frames
        assert abs(len(copy) * 0.9 - len(original)) <= 1


def test_a_second_run_does_nothing(whole):
    out = whole[0].run("--nj", "1")
    assert RAN.findall(out) == [] and out.count("up to date") == 8


def test_killed_while_aligning_and_training_it_ends_the_same(recipe_copy, whole, tmp_path):
    recipe = tiny(recipe_copy("synth/weak_align1", tmp_path))
    for moment in ("  tri: ", "  hybrid epoch 1/", "  epoch 1/"):
        recipe.kill_at(moment, "--nj", "1")
    out = recipe.finish("--nj", "1")
    assert RAN.findall(out) == ["7", "8", "9", "10"]
    clean = whole[0]
    for name in ("train", "dev"):
        ours, theirs = (labels(r, f"{name}/align/targets") for r in (recipe, clean))
        assert all(np.array_equal(x, theirs[u]) for u, x in ours.items())
    made = [r.path / "exp/base" for r in (recipe, clean)]
    models = [torch.load(p / "finetune/valid.cer_ctc.ave.pth", weights_only=True) for p in made]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(v, models[1][k]) for k, v in models[0].items())
    scores = [json.loads((p / "scores.json").read_text())["sets"] for p in made]
    for name, methods in scores[0].items():
        assert methods["greedy_ctc"]["metrics"] == scores[1][name]["greedy_ctc"]["metrics"]


def test_the_archive_decodes_with_stock_espnet_alone_and_without_the_head(whole, tmp_path):
    recipe, out = whole
    model = recipe.path / "exp/base/finetune/valid.cer_ctc.ave.pth"
    decode_stock(recipe, out, model, "aux", tmp_path)


def test_a_shipped_sweep_runs_and_draws_its_picture(whole, monkeypatch, capfd):
    """The one over alignments: stage 3 writes the labels of an earlier pass as well."""
    recipe, _ = whole
    monkeypatch.chdir(recipe.path)
    assert cli(["sweep", "conf/sweeps/alignment.yaml", "--nj", "1", "--ngpu", "0"]) == 0
    out = capfd.readouterr().out
    assert RAN.findall(out) == ["3", "7", "8", "9", "7", "8", "9"]
    assert re.search(r"\| mono \| .*\n\| aligned \| ", out)
    facts = {}
    for name in ("mono", "aligned"):
        config = (recipe.path / f"exp/sweep_alignment_{name}_s1/finetune/config.yaml").read_text()
        facts[name] = yaml.safe_load(config)["aux"]["resolved"]
    assert facts["mono"]["labels"].endswith("train/align/mono/targets.json")
    assert facts["mono"]["classes"] != facts["aligned"]["classes"]
    picture = recipe.path / "results/sweep_alignment.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_changed_option_of_the_aligner_reruns_it_and_what_depends_on_it(whole):
    recipe, _ = whole
    before = labels(recipe)
    option = "--align.hybrid={epochs: 3, units: 16, layers: 1, lr: 0.01}"
    out = recipe.run("--nj", "1", option, "--stop-stage", "8")
    after = labels(recipe)
    assert any(not np.array_equal(x, after[u]) for u, x in before.items())
    assert RAN.findall(out) == ["3", "7", "8"]
    assert "finetune.old1" in out
