# SPDX-License-Identifier: Apache-2.0
"""The recipes of the multi-stage method: what they share, and their first two stages on trees."""

import dataclasses
import shlex
from pathlib import Path

import pytest
import yaml
from av_trees import make_lrs3
from librispeech_tree import make_librispeech
from must_c_tree import make_must_c

from espnet_ext.data.tables import read_table
from espnet_ext.recipe import config, stages
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import PHASES, Context

ROOT = Path(__file__).resolve().parents[2]
CORPORA = {"lrs3": "LRS3", "voxceleb2": "VOXCELEB2", "kinetics600": "KINETICS600"}
OWN = {"extends", "recipe", "title", "expect", "corpus", "prepare"}


def load(name):
    return config.load(ROOT / f"egs2/{name}/multistage1/recipe.yaml")


def trainings(name):
    recipe, folder = load(name), ROOT / f"egs2/{name}/multistage1"
    phases = {p: getattr(recipe, p) for p in PHASES if getattr(recipe, p) is not None}
    return {p: yaml.safe_load((folder / x.config).read_text()) for p, x in phases.items()}


def test_three_corpora_are_data_of_one_recipe():
    recipes = {name: dataclasses.asdict(load(name)) for name in CORPORA}
    for name, recipe in recipes.items():
        like = yaml.safe_load(yaml.safe_dump(recipe).replace(name, "lrs3"))  # also in presets
        assert {k: v for k, v in like.items() if k not in OWN} == {
            k: v for k, v in recipes["lrs3"].items() if k not in OWN
        }
        assert recipe["corpus"]["env"] == CORPORA[name]
        assert recipe["prepare"]["args"][:2] == ["--clips", name]


@pytest.mark.parametrize("name", ["lrs3", "grid", "manifest"])
def test_all_phases_have_one_front_end_and_one_encoder(name):
    configs = trainings(name)
    for key in ("frontend", "frontend_conf", "normalize", "normalize_conf", "encoder_conf"):
        assert len({str(c[key]) for c in configs.values()}) == 1, key
    frontend, encoder = configs["finetune"]["frontend_conf"], configs["finetune"]["encoder_conf"]
    assert frontend["hop_length"] == 160  # 10 ms; ESPnet's default is 8
    # The normalisation of an utterance is the same whatever the corpus.
    assert configs["pretrain"]["normalize"] == "utterance_mvn"
    # Tokens are left out in stage 1, and positions must not be relative then.
    assert encoder["pos_enc_layer_type"] == "abs_pos"
    assert encoder["selfattention_layer_type"] == "selfattn"


def test_the_papers_sizes():
    """Values with their provenance stand in section 4 of the specification."""
    configs = trainings("lrs3")
    encoder, stage_1 = configs["pretrain"]["encoder_conf"], configs["pretrain"]["multistage"]
    assert (encoder["num_blocks"], encoder["attention_heads"], encoder["cnn_module_kernel"]) == (
        16, 4, 31,
    )  # fmt: skip
    assert (stage_1["blocks"], stage_1["width"], stage_1["mask_ratio"]) == (12, 768, 0.6)
    assert configs["finetune"]["multistage"] == {"freeze": "encoder"}
    phases = load("lrs3")
    assert (phases.midtrain.tokens.size, phases.tokens.size) == (8000, 10000)
    assert phases.finetune.init == ["midtrain:encoder:encoder"]


def test_a_dry_run_tells_how_stock_espnet_translates(monkeypatch):
    monkeypatch.chdir(ROOT / "egs2/synth/multistage1")
    found = {}
    for options in ([], [("midtrain", "none")]):
        ctx = Context(config.load(Path("recipe.yaml"), options), Options(ngpu=0))
        plan = stages.plan(ctx, stages.find("decode"))
        commands = [shlex.split(c) for c in plan.stock if "espnet2.bin.st_inference" in c]
        found[bool(options)] = commands, plan.does
    (commands, does), without = found[False], found[True]
    assert "translation of st_dev, st_test by the model of midtrain" in does
    assert len(commands) == 2 and without == ([], "")
    given = dict(zip(commands[1][3::2], commands[1][4::2], strict=True))
    assert given["--st_model_file"] == "exp/full/midtrain/valid.acc.ave.pth"
    assert given["--data_path_and_name_and_type"] == "dump/st_test/wav.scp,speech,sound"
    assert given["--beam_size"] == "3" and given["--ctc_weight"] == "0.5"
    outs = [c[c.index("--output_dir") + 1] for c in map(shlex.split, plan.stock)]
    assert not {given["--output_dir"]} & {*outs}  # beside those of the recogniser


def test_from_the_corpora_to_formatted_sets(recipe_copy, tmp_path):
    pytest.importorskip("av")
    recipe = recipe_copy("lrs3/multistage1", tmp_path / "tree")
    env = {"MUSTC": str(make_must_c(tmp_path, language="it")), "LRS3": str(make_lrs3(tmp_path)),
           "LIBRISPEECH": str(make_librispeech(tmp_path))}  # fmt: skip
    out = recipe.run("--stop-stage", "format", "--prepare.disk_mb=1", env=env)
    dump, content = recipe.path / "dump", load("lrs3").data
    sets = [content.train, content.valid, *content.test, *content.also]
    assert sorted(p.name for p in dump.iterdir()) == sorted(sets)
    for part in ("av_train", "av_dev"):
        wavs, videos = (read_table(dump / part / f) for f in ("wav.scp", "video.scp"))
        assert wavs.keys() == videos.keys() and all(Path(p).is_file() for p in videos.values())
    assert read_table(dump / "st_train/text")["ted_00023_0001000_0002250"] == "Es ist spät."
    assert (dump / "train/text").is_file() and "done: 2 stage(s)" in out
