# SPDX-License-Identifier: Apache-2.0
"""Presets of recipe.yaml, and phases that are switched off: what later phases start from."""

import re
from pathlib import Path

import pytest

from espnet_ext.errors import UsageError
from espnet_ext.recipe import config, evidence, presets, runner
from espnet_ext.recipe.stages import PHASES

ROOT = Path(__file__).resolve().parents[2]
WITH_PRESETS = sorted(ROOT.glob("egs2/*/multistage1/recipe.yaml"))
CHAIN = """
name: base
presets:
  full: {}
  scratch: {pretrain: null, midtrain: none, finetune.args.multistage.freeze: none}
  long: {finetune.args.max_epoch: 9, finetune.model: 3epoch.pth, name: longer}
pretrain: {config: a}
midtrain: {config: b, init: ["pretrain:encoder:encoder", "other/m.pth:decoder:decoder"]}
finetune: {config: c, init: ["midtrain:encoder:encoder"], args: {max_epoch: 3, seed: 1}}
"""


def load(folder, *overrides: tuple[str, str], text: str = CHAIN):
    return config.load(folder.write("recipe.yaml", text), list(overrides))


def test_a_preset_stands_between_file_and_command_line(folder):
    base, long = load(folder), load(folder, ("preset", "long"))
    assert base.name == "base" and not base.preset
    assert long.name == "longer" and long.finetune.model == "3epoch.pth"
    assert long.finetune.args == {"max_epoch": 9, "seed": 1}, "other options stay"
    over = load(folder, ("name", "mine"), ("preset", "long"), ("finetune.args.max_epoch", "7"))
    assert over.name == "mine" and over.finetune.args["max_epoch"] == 7, "whatever their order"
    assert load(folder, ("preset", "long"), ("preset", "full")).name == "full", "the last wins"


def test_a_preset_in_the_file_keeps_the_file_s_name(folder):
    recipe = load(folder, text=CHAIN.replace("name: base", "name: base\npreset: scratch"))
    assert recipe.name == "base" and recipe.pretrain is None
    assert load(folder, ("preset", "full")).name == "full"


@pytest.mark.parametrize(
    ("off", "phase", "init"),
    [
        (["pretrain"], "midtrain", ["other/m.pth:decoder:decoder"]),
        (["pretrain"], "finetune", ["midtrain:encoder:encoder"]),
        (["midtrain"], "finetune", ["pretrain:encoder:encoder", "other/m.pth:encoder:encoder"]),
        (["pretrain", "midtrain"], "finetune", ["other/m.pth:encoder:encoder"]),
    ],
)
def test_a_phase_that_is_off_is_left_out_of_the_chain(folder, off, phase, init):
    recipe = load(folder, *[(name, "none") for name in off])
    assert getattr(recipe, phase).init == init
    assert all(getattr(recipe, name) is None for name in off)
    assert any(note.startswith(f"{off[-1]} is off") for note in recipe.notes)


def test_what_the_user_names_to_start_from_stays(folder):
    given = ("finetune.init", "[x.pth:encoder:encoder]")
    assert load(folder, ("midtrain", "none"), given).finetune.init == ["x.pth:encoder:encoder"]
    assert not load(folder).notes


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        (CHAIN, "scrach", "no preset 'scrach'.*did you mean 'scratch'"),
        ("title: x", "full", "no preset 'full'.*this recipe has none"),
        ("presets: {a: {finetun.model: x}}", "", "presets.a.finetun.model.*finetune"),
        ("presets: {a: {format.fs: fast}}", "", "'format.fs' must be int"),
        ("presets: {a: {preset: b}, b: {}}", "a", "a preset cannot set 'preset'"),
        ("presets: {a: {extends: x.yaml}}", "", "a preset cannot set 'extends'"),
        ("presets: {a: 3}", "", "'presets.a' must be dict"),
        ("presets: [a]", "a", "'presets' must be key: value lines"),
    ],
)
def test_wrong_presets(folder, text, name, says):
    with pytest.raises(UsageError) as e:
        load(folder, *([("preset", name)] if name else []), text=text)
    assert re.search(says, str(e.value), re.S), str(e.value)


def test_an_option_cannot_write_presets(folder):
    with pytest.raises(UsageError, match="no option"):
        load(folder, ("presets.full.seed", "2"))


def test_evidence_takes_presets(folder):
    plan = folder.write("evidence.yaml", "seeds: [1]\nsystems: {a: {}, b: {preset: scratch}}\n")
    folder.write("recipe.yaml", CHAIN)
    runs = evidence.expand(evidence.load(plan), plan)
    recipes = evidence.experiments.check(runs, plan)
    assert [r.pretrain is None for r in recipes] == [False, True]
    assert "--preset scratch" in " ".join(runs[1].argv([]))


def test_list_and_help_name_them(folder, capfd):
    folder.write("recipe.yaml", CHAIN)
    for argv in (["--list"], ["--help"], ["--help", "preset"]):
        assert runner.main(argv) == 0
        assert "full, scratch, long" in capfd.readouterr().out
    assert runner.main(["--list", "--midtrain", "none"]) == 0
    assert "note: midtrain is off: finetune starts from pretrain" in capfd.readouterr().out


@pytest.mark.parametrize("path", WITH_PRESETS, ids=lambda p: p.parent.parent.name)
def test_presets_of_the_project(path):
    for name in presets.names(path):
        recipe = config.load(path, [("preset", name)])
        assert recipe.name == name
        for phase in filter(None, (getattr(recipe, p) for p in PHASES)):
            heads = {text.partition(":")[0] for text in phase.init} & {*PHASES}
            assert all(getattr(recipe, head) is not None for head in heads)
    if "presets" in path.read_text():
        scratch = config.load(path, [("preset", "scratch")]).finetune
        assert scratch.init == [] and scratch.args["multistage"] == {"freeze": None}
