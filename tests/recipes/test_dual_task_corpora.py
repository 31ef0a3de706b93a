# SPDX-License-Identifier: Apache-2.0
"""The recipes of tagged corpora: their scripts run as stage 1 calls them, their settings agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from media_tree import make_media, make_pm_lang
from test_slu_manifest_local import HEADER, ROWS

from espnet_ext.data.check import check_dir
from espnet_ext.dual_task.options import check, resolve
from espnet_ext.recipe import stages
from espnet_ext.recipe.config import load
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context, find

ROOT = Path(__file__).resolve().parents[2]
CORPORA = ("media", "portmedia", "taric_slu", "manifest")


def taric(folder):
    make_media(folder / "unused")
    audio = "unused/S0272/MEDIA1FR_01/MEDIA1FR/BLOCK00/100.wav"
    rows = [row.replace("x.wav", audio) for row in [*ROWS[:3], ROWS[2].replace("dev", "test")]]
    rows[3] = rows[3].replace("c\t", "d\t", 1)
    (folder / "manifest.tsv").write_text("\n".join([HEADER, *rows]) + "\n")
    return folder


MAKE = {
    "media": ("MEDIA", make_media, []),
    "portmedia": (
        "PORTMEDIA",
        lambda root: make_pm_lang(root, ("08730_1", "08730_2", "08730_3")),
        ["--split", "1", "1", "1"],
    ),
    "taric_slu": ("TARIC_SLU", taric, []),
    "manifest": ("MANIFEST", taric, []),
}


@pytest.mark.parametrize("name", CORPORA)
def test_stage_1_makes_the_sets_that_the_recipe_names(name, recipe_copy, tmp_path):
    recipe = recipe_copy(f"{name}/dual_task1", tmp_path / "tree")
    variable, make, options = MAKE[name]
    (tmp_path / "corpus").mkdir()
    env = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(ROOT),
           variable: str(make(tmp_path / "corpus"))}  # fmt: skip
    command = ["bash", "local/data.sh", "data", *options]
    done = subprocess.run(command, cwd=recipe.path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    data = yaml.safe_load((recipe.path / "recipe.yaml").read_text())["data"]
    for part in (data["train"], data["valid"], *data["test"]):
        folder = recipe.path / "data" / part
        assert all((folder / file).is_file() for file in (*data["files"], "utt2lang"))
        assert [f for f in check_dir(folder) if f.level == "error"] == []


def phases(name):
    recipe = ROOT / f"egs2/{name}/dual_task1"
    for path in sorted(recipe.glob("conf/*.yaml")):
        role = next(r for r in ("pretrain", "midtrain", "finetune") if r in path.name)
        yield role, path, yaml.safe_load(path.read_text())


@pytest.mark.parametrize("name", CORPORA)
def test_each_configuration_has_what_its_phase_needs(name):
    for role, _, config in phases(name):
        check(resolve(config["dual_task"]), role)
        assert "encoder" in config or config["dual_task"]["speech_encoder"] == "dump/speech_encoder"


@pytest.mark.parametrize("name", CORPORA)
def test_labels_are_made_where_a_small_encoder_learns_them(name, monkeypatch):
    monkeypatch.chdir(ROOT / f"egs2/{name}/dual_task1")
    small, large = (("pretrain", "xlsr_pretrain") if name == "manifest"
                    else ("pretrain_cpu", "pretrain"))  # fmt: skip
    recipe = load(Path("recipe.yaml"))
    assert recipe.align["text"] == "plain"  # never the tags
    for file, learnt in ((small, True), (large, False)):
        recipe.pretrain.config = f"conf/{file}.yaml"
        plans = {s: stages.plan(Context(recipe, Options()), find(s)) for s in ("align", "pretrain")}
        assert bool(plans["align"].off) != learnt and not plans["pretrain"].off
        label = Path("dump/train/align/target_phones.scp")
        assert (label in plans["pretrain"].needs) == learnt


def test_the_papers_system_is_the_same_on_every_corpus():
    """Its values, with their provenance, stand in section 4 of the dossier."""
    systems = {name: {role: config for role, _, config in phases(name)
                      if "speech_encoder" in config["dual_task"]} for name in CORPORA}  # fmt: skip
    assert all(system == systems["media"] for system in systems.values())
    tuned = systems["media"]["finetune"]
    assert tuned["dual_task"] | {
        "lambda": 10, "samu_scale": 50, "samu_reduce": "sum", "blstm_layers": 3,
        "blstm_cells": 1024, "linear_blocks": 1, "linear_width": 1024, "sort": "ascending",
    } == tuned["dual_task"]  # fmt: skip
    assert (tuned["optim"], tuned["optim_conf"]) == ("adam", {"lr": 1e-4})
    assert (tuned["optim2"], tuned["optim2_conf"]) == (
        "adadelta", {"lr": 1.0, "rho": 0.95, "eps": 1e-8}
    )  # fmt: skip
    assert (tuned["scheduler_conf"], tuned["scheduler2_conf"]) == ({"factor": 0.9}, {"factor": 0.8})
    assert (tuned["batch_size"], tuned["valid_batch_size"], tuned["max_epoch"]) == (4, 2, 30)
    # sequential: half of the epochs each
    assert 2 * systems["media"]["midtrain"]["max_epoch"] == tuned["max_epoch"]


def test_a_small_model_can_start_from_the_encoder_of_the_synthetic_recipe():
    keys = ("frontend", "frontend_conf", "normalize", "encoder", "encoder_conf")
    trained = yaml.safe_load((ROOT / "egs2/synth/dual_task1/conf/pretrain.yaml").read_text())
    small = [config for name in CORPORA for _, path, config in phases(name) if "encoder" in config]
    assert len(small) == 9
    for config in small:
        assert [config[key] for key in keys] == [trained[key] for key in keys]
