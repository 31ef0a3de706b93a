# SPDX-License-Identifier: Apache-2.0
"""Every shipped sweep and evidence file can be run: it parses, and each of its runs plans."""

from pathlib import Path

import pytest
import yaml

from espnet_ext.align.formats.jitter import folder_name
from espnet_ext.bl_just import options as bl_just
from espnet_ext.bl_just.schedule import make_schedule
from espnet_ext.dual_task import options as dual_task
from espnet_ext.ml_lmcl import options as ml_lmcl
from espnet_ext.plugin import config_check
from espnet_ext.recipe import config, evidence, experiments, stages, sweep
from espnet_ext.recipe.options import Options
from espnet_ext.recipe.stages import Context
from espnet_ext.recipe.steps import train
from espnet_ext.recipe.steps.train import training_config
from espnet_ext.weak_align.model import stream_of
from espnet_ext.weak_align.presets import resolve

ROOT = Path(__file__).resolve().parents[2]
METHODS = {"aux", "bl_just", "ml_lmcl", "dual_task", "multistage"}
SMALLEST_TRAINING_SET = 3867  # of those that the sweeps of ml_lmcl are for: ATIS
SWEEPS = sorted(ROOT.glob("egs2/*/*/conf/sweeps/*.yaml"))
EVIDENCE = sorted(p for name in ("evidence", "ablations")
                  for p in ROOT.glob(f"egs2/*/*/conf/{name}.yaml"))  # fmt: skip


def test_there_are_sweeps():
    assert len(SWEEPS) >= 10


@pytest.mark.parametrize("path", SWEEPS, ids=lambda p: str(p.relative_to(ROOT / "egs2")))
def test_each_run_of_a_sweep_plans(path, monkeypatch, tmp_path):
    head = path.read_text().partition("\nname:")[0].splitlines()
    assert all(line.startswith("# ") for line in head) and "?" in " ".join(head)
    recipe_dir = path.parents[2]
    monkeypatch.chdir(recipe_dir)
    (tmp_path / "config.json").write_text('{"num_hidden_layers": 6}')  # a sentence encoder
    monkeypatch.setenv("TEXT_ENCODER", str(tmp_path))
    grid = sweep.load(path)
    runs = sweep.expand(grid, path)
    sweep.check(grid, runs, path)
    assert grid.name == path.stem  # so that no two sweeps share their experiments
    assert f"# {len(runs)} runs of " in "\n".join(head)
    shared = set()
    for run in runs:
        recipe = config.load(Path("recipe.yaml"), list(run.overrides))
        ctx = Context(recipe, Options(ngpu=0))
        plans = {s.name: stages.plan(ctx, s) for s in stages.STAGES}
        assert not plans["score"].off
        # All runs read the same labels, text and tokens: nothing is made again between two runs,
        # unless it is the data that a sweep is about.
        made = ("prepare", "format", "align", "tokens")
        shared.add(yaml.safe_dump([plans[s].settings for s in made]))
        check_training(ctx)
    assert len(shared) == (len(grid.values) if grid.key == "data.train" else 1)


@pytest.mark.parametrize("path", [p for p in SWEEPS if "atis" in p.parts], ids=lambda p: p.stem)
def test_a_sweep_of_atis_runs_in_the_other_text_recipes(path, monkeypatch):
    grid = sweep.load(path)
    for name in ("trec6", "slurp"):
        monkeypatch.chdir(ROOT / "egs2" / name / "ml_lmcl1")
        sweep.check(grid, sweep.expand(grid, path), path)


@pytest.mark.parametrize("path", EVIDENCE, ids=lambda p: str(p.relative_to(ROOT / "egs2")))
def test_each_run_of_an_evidence_file_plans(path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    made = evidence.load(path)
    runs = evidence.expand(made, path, [*made.systems], [1])
    experiments.check(runs, path)
    assert len(made.seeds) >= 3 or path.stem == "ablations"
    assert {r.group for r in runs} == made.systems.keys()
    for run in runs:
        recipe = config.load(Path("recipe.yaml"), list(run.overrides))
        ctx = Context(recipe, Options(ngpu=0))
        assert not stages.plan(ctx, stages.find("score")).off
        check_training(ctx)


def test_there_is_evidence():
    assert len(EVIDENCE) >= 6


@pytest.mark.parametrize("key", ["gamma_max", "unsup_scale", "bn_update_from"])
def test_the_recipes_of_bl_just_differ_in_no_default(key):
    files = ROOT.glob("egs2/*/bl_just1/conf/train*.yaml")
    found = {p: yaml.safe_load(p.read_text())["bl_just"] for p in files}
    values = {p: getattr(bl_just.resolve(section), key) for p, section in found.items()}
    assert set(values.values()) == {getattr(bl_just.resolve({}), key)} and len(values) >= 5
    assert all("explore_ratio" in section for section in found.values())  # it is a choice


JUST = [p for p in EVIDENCE if p.parts[-3] == "bl_just1" and p.stem == "evidence"
        and p.parts[-4] != "TEMPLATE"]  # fmt: skip  # it has three of the systems


@pytest.mark.parametrize("path", JUST, ids=lambda p: p.parts[-4])
def test_evidence_of_bl_just_is_at_equal_labelled_updates(path, monkeypatch):
    monkeypatch.chdir(path.parents[1])
    made, totals, first = evidence.load(path), {}, {}
    for run in evidence.expand(made, path, [*made.systems], [1]):
        ctx = Context(config.load(Path("recipe.yaml"), list(run.overrides)), Options(ngpu=0))
        ctx.stage = stages.find("finetune")
        conf = bl_just.resolve(training_config(ctx)["bl_just"])
        totals[run.group] = make_schedule(conf, 40, 120).total
        first[conf.schedule, conf.explore_when] = run.group
    names = set(made.budget.equal)
    assert made.budget.unit == "labelled_batches" and len(names) == 6
    assert len({totals[name].labelled for name in names}) == 1
    bljust = totals["bljust"]
    both = [first["bljust", "each"], first["bljust", "first"], "pt_ft"]
    assert [totals[n].unlabelled for n in both] == pytest.approx([bljust.unlabelled] * 3, rel=0.01)
    assert totals["supervised_passes"].labelled == totals["supervised_passes"].passes
    assert totals["supervised_passes"].passes == bljust.passes


def check_training(ctx):
    ctx.stage = stages.find("finetune")
    settings = training_config(ctx)
    assert len(settings.keys() & METHODS) == 1
    if "aux" in settings:
        check_weak_align(ctx.recipe, settings)
    elif "ml_lmcl" in settings:
        conf = ml_lmcl.resolve(settings["ml_lmcl"])
        assert conf.train_samples is None or conf.train_samples < SMALLEST_TRAINING_SET
    elif "multistage" in settings:
        config_check(ctx.recipe.finetune.task)(settings)
    elif "dual_task" in settings:
        dual_task.check(dual_task.resolve(settings["dual_task"]), "finetune")
        assert train.init_params(ctx)  # no system learns to hear from nothing
    else:
        assert make_schedule(bl_just.resolve(settings["bl_just"]), 40, 120).total.labelled
        assert set(ctx.recipe.finetune.extra_data) == {"u"}


def check_weak_align(recipe, settings):
    """The auxiliary losses have their layer, their streams and their labels."""
    aux = resolve(settings["aux"])
    streams = {s.name for s in recipe.finetune.streams}
    for loss in aux.losses:
        assert loss.layer in ("middle", *range(1, settings["encoder_conf"]["num_blocks"] + 1))
        assert stream_of(loss, aux.unit) in streams
    passes = recipe.align["passes"]
    kept = set(recipe.align.get("keep", [])) & set(passes[:-1])
    jittered = {folder_name(ms) for ms in recipe.align.get("jitter_ms", [])}
    assert aux.label_source in {"aligned", "shuffled"} | kept | jittered
