# SPDX-License-Identifier: Apache-2.0
"""The embedded recipe through run.sh: whole, again, changed, and killed in every stage."""

import json
import os
import random
import re
import shutil
import signal
import time
import zipfile
from pathlib import Path

import pytest
import torch
import yaml
from recipe_tree import TINY
from warm import RECIPE, Warm, run_stock

from espnet_ext.cli import main as cli

pytestmark = pytest.mark.e2e
RAN = re.compile(r"^stage (\d+)/10 \w+: done", re.M)


@pytest.fixture(scope="module")
def whole(recipe_copy, tmp_path_factory):
    """An uninterrupted run of all stages, and what it printed."""
    recipe = recipe_copy("synth/asr1", tmp_path_factory.mktemp("whole"))
    return recipe, recipe.finish(*TINY, fresh=True)


@pytest.fixture(scope="module", autouse=True)
def undisturbed(whole):
    """What that run made, before other tests change anything."""
    return products(whole[0])


def products(recipe):
    """Everything that must not depend on how often a run was interrupted."""
    exp = recipe.path / "exp/base"
    model = torch.load(exp / "finetune/valid.cer_ctc.ave.pth", weights_only=True)
    files = [*recipe.path.glob("dump/*/text"), *recipe.path.glob("dump/*/wav.scp")]
    files += [*recipe.path.glob("dump/*/tokens.txt"), *exp.glob("decode/*/*/text")]
    texts = {str(p.relative_to(recipe.path)): p.read_text() for p in files}
    scores = json.loads((exp / "scores.json").read_text())["sets"]
    rates = {s: m["greedy_ctc"]["metrics"] for s, m in scores.items()}
    return {"texts": {k: v.replace(str(recipe.path), "") for k, v in texts.items()},
            "model": model, "wer": rates}  # fmt: skip


def test_all_stages_run_and_say_what_they_made(whole):
    recipe, out = whole
    assert RAN.findall(out) == ["1", "2", "4", "7", "8", "9", "10"]
    assert "stock ESPnet loads all" in out and "waiting for data" in out
    assert "Speech2Text.from_pretrained" in out
    page = (recipe.path / "RESULTS.md").read_text()
    assert "| base |" in page and "./run.sh" in page
    phase = json.loads((recipe.path / "results/base.json").read_text())["phases"]["finetune"]
    assert phase["chosen_by"] == "cer_ctc"
    assert len(phase["valid_cer_ctc"]) == len(phase["valid_updates"]) == phase["epochs"]


def test_a_model_that_recognises_nothing_is_said_and_packed_by_force_only(whole):
    recipe, out = whole
    archive = next((recipe.path / "exp/base").glob("*.zip"))
    kept = archive.rename(archive.with_suffix(".kept"))
    said = recipe.run(*TINY, "--stage", "pack", code=1)
    assert "the model is not packed" in said and "--stage pack --force" in said
    assert not archive.exists() and "WARNING: test" in out
    kept.rename(archive)
    recipe.run(*TINY, "--stage", "pack", "--force")
    assert archive.exists()


def test_a_diverged_training_says_what_where_how_and_how_to_rerun(whole):
    recipe, _ = whole
    wild = ["--name", "wild", "--finetune.args.optim_conf.lr=1.0e+8"]
    out = recipe.run(*TINY, *wild, code=1)
    assert "not finite" in out or "diverged" in out
    assert "stage 7 (finetune) failed" in out and "rerun: ./run.sh --stage 7" in out
    assert "Traceback" not in out
    assert not list((recipe.path / "exp/wild").glob("*.zip"))


def test_a_second_run_does_nothing(whole):
    recipe, _ = whole
    out = recipe.run(*TINY)
    assert RAN.findall(out) == [] and out.count("up to date") == 7


def test_a_published_folder_works_with_stock_espnet_alone_and_with_ours(whole, tmp_path):
    """By its files, by a name on the hub (a stand-in for it), and as a folder: the same words."""
    recipe, _ = whole
    out, wav = tmp_path / "hub", next((recipe.path / "data/wav").rglob("*.flac"))
    argv = ["publish", "base", "--licence", "cc0-1.0", "--corpus-licence", "of nobody"]
    code = f"""import soundfile
from espnet_ext import cli
from espnet_ext.espnet.speech2text import Speech2Text
from espnet_ext.recipe import doubts
doubts.lines = lambda ctx: []  # tiny models recognise nothing
assert cli.main([*{argv}, "--out", {str(out)!r}]) == 0
asr = Speech2Text.from_pretrained({str(out)!r}, ctc_weight=1.0, beam_size=1)
open({str(tmp_path / "ours")!r}, "w").write(asr(soundfile.read({str(wav)!r})[0])[0][0])
"""
    ours = Warm(RECIPE, code, recipe.path, {**os.environ})
    assert not ours.communicate(timeout=600)[0].count("Traceback") and ours.wait() == 0
    stock, files, _ = re.findall("```python\n(.*?)```", (out / "README.md").read_text(), re.S)
    code = f"""said = []
import espnet_model_zoo.downloader
espnet_model_zoo.downloader.snapshot_download = lambda *args, **options: "../copy"
{re.sub(r"print[(](.*)[)]", r"said.append(\1)", files + stock).replace("speech.wav", str(wav))}
open("../stock", "w").write(repr(said))
"""
    shutil.copytree(out, tmp_path / "copy")
    run_stock(code, out)
    assert (tmp_path / "stock").read_text() == repr(2 * [(tmp_path / "ours").read_text()])


def test_a_moved_recipe_goes_on_where_it_is(whole):
    recipe, _ = whole
    here, there = recipe.path.parents[2], recipe.path.parents[2].with_name("there")
    here.rename(there)
    recipe.path = there / recipe.path.relative_to(here)
    try:
        out = recipe.run(*TINY)
        assert RAN.findall(out) == [] and out.count("up to date") == 7
        recipe.run(*TINY, "--stage", "decode", "--stop-stage", "decode", "--force")
    finally:
        there.rename(here)
        recipe.path = here / recipe.path.relative_to(there)


def test_a_changed_learning_rate_reruns_only_what_depends_on_it(recipe_copy, whole):
    recipe, _ = whole
    out = recipe.run(*TINY, "--finetune.args.optim_conf.lr=0.001", "--stop-stage", "8")
    assert RAN.findall(out) == ["7", "8"]
    assert "finetune.old1" in out  # nothing is lost
    back = recipe.run(*TINY, "--stop-stage", "8")
    assert RAN.findall(back) == ["7", "8"]


def test_more_epochs_go_on_in_the_same_experiment(whole):
    recipe, _ = whole
    more = [x.replace("max_epoch=2", "max_epoch=3") for x in TINY]
    before = sorted(p.name for p in (recipe.path / "exp").iterdir())
    out = recipe.run(*more, "--stage", "finetune", "--stop-stage", "finetune")
    assert "going on after epoch 2" in out and "epoch 3/3" in out and "epoch 2/3" not in out
    assert sorted(p.name for p in (recipe.path / "exp").iterdir()) == before


def test_phases_hand_their_weights_on_and_may_have_a_second_stream(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/asr1", tmp_path)
    pretrain = [x.replace("finetune", "pretrain") for x in TINY if "finetune" in x]
    out = recipe.run(
        *TINY,
        *pretrain,
        "--pretrain.config=conf/train.yaml",
        "--pretrain.model=valid.cer_ctc.ave.pth",
        "--pretrain.extra_data={unlab: {set: dev}}",
        "--finetune.init=[pretrain:encoder:encoder]",
        "--finetune.args.optim_conf.lr=0.0",  # so that what was handed on can be recognised
        "--stop-stage=finetune",
    )
    assert RAN.findall(out) == ["1", "2", "4", "5", "7"]
    exp = recipe.path / "exp/base"
    given, kept = (
        torch.load(exp / phase / "valid.cer_ctc.ave.pth", weights_only=True)
        for phase in ("pretrain", "finetune")
    )
    same = {k: torch.equal(v, kept[k]) for k, v in given.items() if k.endswith(".weight")}
    assert all(v for k, v in same.items() if k.startswith("encoder."))
    assert not same["decoder.output_layer.weight"]  # new, as init says nothing of it


def test_killed_in_every_stage_and_started_again_it_ends_the_same(
    recipe_copy, undisturbed, tmp_path
):
    recipe = recipe_copy("synth/asr1", tmp_path / "killed")
    rng = random.Random(7)
    # (stage, latest moment of the shot in seconds); a short stage may be over before it.
    shots = ((1, 1.5), (2, 0.2), (4, 0.02), (7, 0.5), (7, 1.0), (8, 0.2), (9, 0.05), (10, 0.02))
    hits = []
    for stage, latest_s in shots:
        process = recipe.start(*TINY)
        for line in process.stdout:
            if line.startswith(f"stage {stage}/") and "(" in line:
                time.sleep(rng.uniform(0, latest_s))
                os.killpg(process.pid, signal.SIGKILL)
                break
        process.stdout.close()
        hits.append(process.wait() == -signal.SIGKILL)
    assert hits[0] and (hits[3] or hits[4]) and sum(hits) >= 4, hits
    recipe.finish(*TINY)
    ours, theirs = products(recipe), undisturbed
    assert ours["texts"] == theirs["texts"] and ours["wer"] == theirs["wer"]
    assert all(torch.equal(v, theirs["model"][k]) for k, v in ours["model"].items())


def test_the_archive_works_with_stock_espnet_alone(whole, tmp_path):
    """The three printed lines, in a process that cannot import this package."""
    recipe, out = whole
    lines = re.search(r"(import soundfile;.*)\n\s*(asr = .*)\n\s*(print.*)\n", out).groups()
    wav = next((recipe.path / "data/wav").rglob("*.flac"))
    run_stock("\n".join(lines).replace("speech.wav", str(wav)), tmp_path)


def test_a_language_model_joins_the_search_and_the_archive(whole, tmp_path):
    recipe, _ = whole
    exp, lm = recipe.path / "exp", (TINY[0], "--preset", "lm", "--stop-stage", "finetune")
    out = recipe.run(*lm, "--finetune.args.max_epoch=1")
    assert RAN.findall(out) == ["7"] and "stock ESPnet loads all" in out
    shutil.copytree(exp / "base/finetune", exp / "searched/finetune")
    search = (*TINY, "--preset", "with_lm", "--name", "searched", "--stage", "decode")
    decode = (*search, "--stop-stage", "decode", "--decode.args.beam_size=2")
    assert RAN.findall(recipe.run(*decode)) == ["8"]
    assert (exp / "searched/decode/beam_lm/test/text").exists()
    assert RAN.findall(recipe.run(*decode)) == []
    recipe.run(*lm, "--finetune.args.max_epoch=2")
    assert RAN.findall(recipe.run(*decode)) == ["8"], "by the new language model"
    out = recipe.run(*search, "--force", "--decode.args.beam_size=2")
    with zipfile.ZipFile(exp / "searched/synth_asr1_searched.zip") as z:
        meta = yaml.safe_load(z.read("meta.yaml"))
    named = {**meta["files"], **meta["yaml_files"]}
    assert named["lm_file"] == "exp/searched/search/lm_file.pth"
    lines = re.search(r"(import soundfile;.*)\n\s*(asr = .*)\n\s*(print.*)\n", out).groups()
    assert "lm_weight=0.3" in lines[1] and "lm_file" not in lines[1]
    wav = next((recipe.path / "data/wav").rglob("*.flac"))
    shutil.rmtree(exp / "lm")
    run_stock("\n".join(lines).replace("speech.wav", str(wav)), tmp_path)


def test_evidence_decodes_every_run_by_a_further_search_and_does_nothing_twice(
    whole, monkeypatch, capfd
):
    recipe, _ = whole
    monkeypatch.chdir(recipe.path)
    plan = {"seeds": [1], "systems": {"found": {}}, "searches": ["with_lm"]}
    Path("evidence.yaml").write_text(yaml.safe_dump(plan))
    presets = yaml.safe_load(Path("recipe.yaml").read_text())["presets"]
    presets["lm"]["finetune.args"] = {"max_epoch": 1}
    presets["with_lm"]["decode.args"]["beam_size"] = 2
    recipe.edit({f"presets.{name}": values for name, values in presets.items()})
    command = ["evidence", "evidence.yaml", *TINY]
    assert cli(command) == 0
    out = capfd.readouterr().out
    assert "by with_lm as well; before all: ./run.sh --preset lm" in out
    assert RAN.findall(out) == ["7", "7", "8", "9", "8", "9"]  # the language model comes first
    sets = json.loads(Path("results/found_s1.json").read_text())["sets"]
    assert sets["test"].keys() == {"greedy_ctc", "beam_lm"}
    assert cli([*command, "--dry-run"]) == 0
    assert re.search(r"^done .*\n1 runs, .* 0 to run here$", capfd.readouterr().out, re.M)
    assert cli(command) == 0
    assert set(RAN.findall(capfd.readouterr().out)) == {"9"}  # the page


def test_a_value_that_espnet_refuses_is_found_before_any_stage(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/asr1", tmp_path)
    out = recipe.run("--finetune.args.optim=adamm", code=2)
    assert "adamm" in out and not (recipe.path / "data").exists()


def test_an_unknown_training_option_is_found_before_any_stage(recipe_copy, tmp_path):
    recipe = recipe_copy("synth/asr1", tmp_path)
    out = recipe.run("--finetune.args.max_epochs=3", code=2)
    assert "did you mean 'max_epoch'?" in out and not (recipe.path / "data").exists()
