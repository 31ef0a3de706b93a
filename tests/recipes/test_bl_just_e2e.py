# SPDX-License-Identifier: Apache-2.0
"""Labelled and unlabelled data through run.sh: whole, again, a baseline, killed, packed, broken."""

import json
import re

import pytest
import torch
import yaml
from recipe_tree import decode_stock

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
RAN = re.compile(r"^stage (\d+)/10 \w+: done", re.M)
CORPUS = ["--labelled-fraction", "0.5", "--train-minutes", "0.6", "--train-speakers", "2"]
CORPUS += ["--dev-utts", "4", "--test-utts", "4"]
TINY = {
    "prepare.args": CORPUS,
    "finetune.args": {
        "bl_just": {"epochs": 2, "final_steps": 2, "explore_steps": 3, "joint_steps": 2},
        "batch_bins": 300000,
        "encoder_conf": {"num_blocks": 1, "output_size": 32, "linear_units": 32},
        "decoder_conf": {"linear_units": 32},
    },
    "results.planned": {"system": "bljust", "against": "supervised"},
}


def tiny(recipe):
    recipe.edit(TINY)
    return recipe


def experiment(recipe):
    return recipe.path / "exp" / yaml.safe_load((recipe.path / "recipe.yaml").read_text())["name"]


@pytest.fixture(scope="module")
def whole(recipe_copy, tmp_path_factory):
    """An uninterrupted run of all stages, and what it printed."""
    recipe = tiny(recipe_copy("synth/bl_just1", tmp_path_factory.mktemp("whole")))
    return recipe, recipe.finish("--nj", "1", fresh=True)


def test_all_stages_run_and_tell_their_budget(whole):
    recipe, out = whole
    assert RAN.findall(out) == ["1", "2", "4", "7", "8", "9", "10"]
    sets = [read_table(recipe.path / f"dump/{x}/utt2spk") for x in ("labelled", "unlabelled")]
    assert sets[0] and sets[1] and not sets[0].keys() & sets[1].keys()
    assert not (recipe.path / "dump/unlabelled/text").exists()
    for epoch, told in enumerate(
        ("3 explore + 2 joint: ", "3 explore + 2 joint, gamma", "2 final")
    ):
        assert re.search(rf"epoch {epoch + 1}/3: .*\[{re.escape(told)}", out), told
    # gamma is 0 in the first epoch: 3 + 2, 3 + 2 * 2, 2.
    assert "14 forward-backward passes: 6 labelled and 8 unlabelled batches" in out
    assert re.search(r"stock ESPnet loads all \d+ parameter tensors and ignores \d+ of ours", out)
    records = [json.loads(p.read_text()) for p in (recipe.path / "results").glob("*.json")]
    budget = {"updates": 12, "labelled_batches": 6, "unlabelled_batches": 8, "passes": 14}
    assert [r["budget"] for r in records] == [budget]


def test_a_second_run_does_nothing(whole):
    out = whole[0].run("--nj", "1")
    assert RAN.findall(out) == [] and out.count("up to date") == 7


def test_the_archive_decodes_with_stock_espnet_alone_and_without_the_head(whole, tmp_path):
    recipe, out = whole
    model = experiment(recipe) / "finetune/valid.cer_ctc.ave.pth"
    decode_stock(recipe, out, model, "unsup", tmp_path)


def test_killed_in_training_it_ends_the_same(recipe_copy, whole, tmp_path):
    """At the end of the first epoch and of the second."""
    recipe = tiny(recipe_copy("synth/bl_just1", tmp_path))
    for moment in ("  epoch 1/", "  epoch 2/"):
        recipe.kill_at(moment, "--nj", "1", "--stop-stage", "8")
    out = recipe.run("--nj", "1", "--stop-stage", "8")
    assert RAN.findall(out) == ["7", "8"]
    assert re.search("going on after epoch [12] from", out)  # the line comes before the checkpoint
    folders = [experiment(r) / "finetune" for r in (recipe, whole[0])]
    models = [torch.load(p / "valid.cer_ctc.ave.pth", weights_only=True) for p in folders]
    assert models[0].keys() == models[1].keys()
    assert all(torch.equal(v, models[1][k]) for k, v in models[0].items())
    spent = [json.loads((p / "phase.json").read_text()) for p in folders]
    for key in ("updates", "labelled_batches", "unlabelled_batches", "passes"):
        assert spent[0][key] == spent[1][key]


def test_a_baseline_of_another_budget_is_compared_with_its_budget_told(whole):
    recipe, _ = whole
    options = ["--name", "supervised_s1", "--group", "supervised"]
    options += ["--finetune.args.bl_just.schedule", "supervised", "--stop-stage", "9"]
    out = recipe.run("--nj", "1", *options)
    assert RAN.findall(out) == ["7", "8", "9"]
    page = (recipe.path / "RESULTS.md").read_text()
    row = next(x for x in page.splitlines() if "| bljust | supervised |" in x)
    assert "| 2.33x |" in row and "1 paired seed only" in row
    header = next(line for line in page.splitlines() if "Unlabelled batches" in line)
    rows = [x.strip() for x in header.split("|")]
    columns = [rows.index(x) for x in ("Labelled batches", "Unlabelled batches", "Passes")]
    cells = [line.split("|") for line in page.splitlines() if line.count("|") == len(rows) - 1]
    found = {tuple(c[i].strip() for i in columns) for c in cells}
    assert {("6", "8", "14"), ("6", "0", "6")} <= found


def test_damaged_unlabelled_data_are_told_before_training(whole):
    recipe, _ = whole
    folder = recipe.path / "data/unlabelled"
    text = folder / "text"
    text.write_text("".join(f"{u} secret\n" for u in read_table(folder / "wav.scp")))
    options = ["--nj", "1", "--stop-stage", "7", "--name", "damaged"]
    out = recipe.run(*options, code=3)
    assert "has text" in out and "unlabelled" in out and "  epoch" not in out
    text.unlink()
    scp = folder / "wav.scp"
    rows = read_table(scp)
    lost = list(rows)[1]
    scp.write_text("".join(f"{u} {p if u != lost else 'gone.flac'}\n" for u, p in rows.items()))
    out = recipe.run("--nj", "1", "--stop-stage", "2")
    assert "unlabelled: 7 read, 6 written, 1 dropped: 1 unreadable audio" in out
    dropped = (recipe.path / "dump/unlabelled/dropped.tsv").read_text().splitlines()[1:]
    assert len(dropped) == 1 and dropped[0].startswith(lost) and "gone.flac" in dropped[0]
