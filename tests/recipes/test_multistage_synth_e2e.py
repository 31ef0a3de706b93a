# SPDX-License-Identifier: Apache-2.0
"""The synthetic recipe of the multi-stage method, tiny: clips, translations, recognition, pack."""

import json
import zipfile

import pytest
import torch
import yaml
from children import equal

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
SIZES = {"av-minutes": 0.4, "st-minutes": 0.6, "minutes": 0.4}
UTTS = {"av-dev": 4, "st-dev": 4, "st-test": 3, "dev": 4, "test": 4}
PREPARE = [
    *(word for name, value in SIZES.items() for word in (f"--{name}", str(value))),
    *(word for name, value in UTTS.items() for word in (f"--{name}-utts", str(value))),
]
TINY = [
    f"--prepare.args={json.dumps(PREPARE)}",
    f"--args.encoder_conf={json.dumps(SMALL)}",
    *(f"--{p}.args.decoder_conf.num_blocks=1" for p in ("midtrain", "finetune")),
    *(f"--{p}.args.max_epoch=2" for p in ("pretrain", "midtrain", "finetune")),
    *(f"--{p}.args.num_iters_per_epoch=2" for p in ("pretrain", "midtrain", "finetune")),
    "--decode.args.beam_size=1",
    "--decode.args.translation.beam_size=1",
    *(
        f"--decode.args.{key}maxlenratio=-15" for key in ("", "translation.")
    ),  # an untrained decoder finds no end
    "--ngpu=0",
]

MODELS = ("pretrain/latest.pth", "midtrain/valid.acc.ave.pth", "finetune/valid.acc.ave.pth")


@pytest.fixture(scope="module")
def whole(recipe_copy, tmp_path_factory):
    """A run of all stages, undisturbed but for the preparation, and what it printed."""
    recipe = recipe_copy("synth/multistage1", tmp_path_factory.mktemp("whole"))
    recipe.kill_at("stage 1/10 prepare", *TINY)
    return recipe, recipe.finish(*TINY, fresh=True)


def encoder_of(folder, name):
    state = torch.load(folder / name, map_location="cpu", weights_only=True)
    return {key: value for key, value in state.items() if key.startswith("encoder.")}


def test_from_clips_over_translations_to_a_packed_recogniser(whole):
    recipe, out = whole
    lists = (recipe.path / "dump").glob("tokens*/tokens.txt")
    words = {p.parent.name: set(p.read_text().split()) for p in lists}
    assert len(words) == 2 and {"the" in found for found in words.values()} == {True, False}
    exp = recipe.path / "exp/full"
    stages = {
        phase: yaml.safe_load((exp / phase / "config.yaml").read_text())
        for phase in ("pretrain", "midtrain", "finetune")
    }
    assert "src_token_list" in stages["midtrain"] and stages["finetune"]["model"] == "espnet"
    encoders = [encoder_of(exp / phase, "latest.pth") for phase in stages]
    assert encoders[0].keys() == encoders[1].keys() == encoders[2].keys()
    moved = [k for k, v in encoders[1].items() if not torch.equal(v, encoders[0][k])]
    assert moved  # the translation trains it ...
    started = encoder_of(exp / "midtrain", "valid.acc.ave.pth")
    for key, value in encoders[2].items():  # ... and the recognition does not touch it
        assert torch.equal(value, started[key]), key
    record = json.loads((recipe.path / "results/full.json").read_text())
    assert set(record["sets"]) == {"dev", "test", "st_dev", "st_test", "av_dev"}
    assert set(record["sets"]["st_test"]["translation"]["metrics"]) == {"bleu", "slots"}
    learnt = record["sets"]["av_dev"]["pretrain"]
    assert set(learnt["metrics"]) == {"mae_audio", "mae_video", "audio_to_video", "video_to_audio"}
    assert learnt["utterances"] == UTTS["av-dev"]
    assert len(list((exp / "pretrain/pictures").glob("*.png"))) == 3
    assert "MAE of the sound on av_dev" in (recipe.path / "RESULTS.md").read_text()
    assert set(record["phases"]) == set(stages)
    decoded = next((exp / "decode").rglob("test/text"))
    assert len(read_table(decoded)) == UTTS["test"]
    translated = read_table(exp / "decode/translation/st_test/translation")
    assert translated.keys() == read_table(recipe.path / "data/st_test/text").keys()
    assert zipfile.ZipFile(next(exp.glob("*.zip"))).testzip() is None
    assert out.count("stock ESPnet loads all") == 2  # the translation's model and the recogniser


def learnt(exp):
    """All that must not depend on how often a run was interrupted."""
    models = {p: torch.load(exp / p, weights_only=True) for p in MODELS}
    measured = json.loads((exp / "pretrain/measure/measure.json").read_text())
    del measured["wall_s"], measured["model_sha256"]  # the file holds its archive's name, too
    sets = json.loads((exp / "scores.json").read_text())["sets"]
    rates = {
        s: {m: found["metrics"] for m, found in methods.items()} for s, methods in sets.items()
    }
    texts = {
        str(p.relative_to(exp)): p.read_text()
        for name in ("text", "translation")
        for p in (exp / "decode").rglob(name)
        if p.is_file()
    }
    return {"models": models, "measured": measured, "rates": rates, "texts": texts}


def test_killed_in_each_phase_and_in_translating_it_ends_the_same(whole):
    """In the same folder, so data and tokens are there."""
    recipe, _ = whole
    argv = [*TINY, "--name", "killed", "--stop-stage", "score"]
    for stage in ("5/10 pretrain", "6/10 midtrain", "7/10 finetune"):
        recipe.kill_at("  epoch 1/2", *argv, after=f"stage {stage}")
    recipe.kill_at("  st_dev: BLEU", *argv, after="stage 8/10 decode")
    out = recipe.run(*argv)
    assert "stage 7/10 finetune: up to date" in out and "stage 8/10 decode: done" in out
    ours, theirs = (learnt(recipe.path / "exp" / name) for name in ("killed", "full"))
    for kind in ("measured", "rates", "texts", "models"):
        assert equal(ours[kind], theirs[kind]), kind
    assert len(ours["texts"]) == 4
