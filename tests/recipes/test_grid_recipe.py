# SPDX-License-Identifier: Apache-2.0
"""The recipe of GRID: all stages on a small tree of real video files, and on real clips."""

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from av_trees import WORDS, make_grid, make_grid_release

from espnet_ext.data.tables import read_table

SETS = ("train", "dev", "test")
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
VIDEO = {"size": 32, "width": 16, "blocks": 1, "heads": 2, "decoder_width": 16, "decoder_heads": 2}
TINY = [
    f"--args.encoder_conf={json.dumps(SMALL)}",
    *(f"--pretrain.args.multistage.{key}={value}" for key, value in VIDEO.items()),
    *(f"--{p}.args.{key}" for p in ("pretrain", "finetune")
      for key in ("max_epoch=1", "num_iters_per_epoch=2", "num_workers=0")),
    "--ngpu=0",
    "--force",  # two updates recognise nothing, and are packed all the same
]  # fmt: skip


@pytest.fixture(autouse=True)
def video():
    pytest.importorskip("av")


def lists(folder, file="text"):
    return {s: read_table(folder / s / file) for s in SETS}


def test_grid_to_formatted_sets(recipe_copy, tmp_path):
    recipe = recipe_copy("grid/multistage1", tmp_path / "tree")
    recipe.run("--stop-stage", "format", env={"GRID": str(make_grid(tmp_path))})
    tables = lists(recipe.path / "dump")
    assert {name: len(t) for name, t in tables.items()} == {"train": 7, "dev": 1, "test": 2}
    assert {text for t in tables.values() for text in t.values()} == set(WORDS.values())
    assert read_table(recipe.path / "dump/dev/video.scp").keys() == tables["dev"].keys()


def losses(folder):
    """Return the names of what TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return set(events.Tags()["scalars"])


@pytest.mark.e2e
def test_from_clips_to_a_packed_recogniser(recipe_copy, tmp_path):
    recipe = recipe_copy("grid/multistage1", tmp_path / "tree")
    out = recipe.run(*TINY, env={"GRID": str(make_grid_release(tmp_path))})
    texts = lists(recipe.path / "dump")
    clips = {u: t for table in texts.values() for u, t in table.items()}
    bad = {f"s{n}_pgby5a" for n in (1, 2, 34)}
    assert clips == {f"{s}_{n}": WORDS[n] for s in ("s1", "s2", "s34") for n in WORDS
                     if f"{s}_{n}" not in bad}  # fmt: skip
    skipped = (recipe.path / "data/skipped.tsv").read_text().splitlines()[1:]
    assert sorted(line.split("\t")[2] for line in skipped) == [
        "cut off", "no sound", "sound and picture differ in length",
    ]  # fmt: skip
    speakers = [set(t.values()) for t in lists(recipe.path / "dump", "utt2spk").values()]
    assert [len(found) for found in speakers] == [1, 1, 1] and len(set.union(*speakers)) == 3
    assert "share" not in out and "stock ESPnet loads all" in out
    learnt_and_packed(recipe, texts)


def learnt_and_packed(recipe, texts):
    """Check what the stages of training left."""
    exp = recipe.path / "exp/full"
    before, after = (
        torch.load(exp / file, weights_only=True)
        for file in ("pretrain/valid.loss.best.pth", "finetune/valid.cer_ctc.best.pth")
    )
    encoder = [name for name in after if name.startswith("encoder.")]
    assert encoder and all(torch.equal(before[name], after[name]) for name in encoder)
    measured = json.loads((exp / "pretrain/measure/measure.json").read_text())
    assert measured["clips"] == len(texts["dev"]) and measured["short_videos"] == 0
    drawn = {path.stem for path in (exp / "pretrain/pictures").glob("*.png")}
    assert drawn <= texts["dev"].keys() and len(drawn) == min(3, len(texts["dev"]))
    for part in ("train", "valid"):
        shown = losses(exp / "pretrain/tensorboard" / part)
        assert {"loss", "mae_audio", "mae_video", "clr", "retrieval"} <= shown
    record = json.loads((recipe.path / "results/full.json").read_text())
    assert set(record["sets"]["dev"]["pretrain"]["metrics"]) == {
        "mae_audio", "mae_video", "audio_to_video", "video_to_audio",
    }  # fmt: skip
    decoded = read_table(exp / "decode/greedy_ctc/test/text")
    assert decoded.keys() == texts["test"].keys()
    assert zipfile.ZipFile(next(exp.glob("*.zip"))).testzip() is None


@pytest.mark.e2e
@pytest.mark.skipif(not os.environ.get("GRID"), reason="set GRID=/path to test on real clips")
def test_real_clips_to_a_packed_recogniser(recipe_copy, tmp_path):
    recipe = recipe_copy("grid/multistage1", tmp_path / "tree")
    recipe.run(*TINY, env={"GRID": str(Path(os.environ["GRID"]).resolve())})
    texts = lists(recipe.path / "dump")
    skipped = (recipe.path / "data/skipped.tsv").read_text().splitlines()[1:]
    found = [p for p in Path(os.environ["GRID"]).rglob("*") if p.suffix.lower() == ".mpg"]
    assert len(found) == len(skipped) + sum(map(len, texts.values()))
    assert all(len(t.split()) == 6 for table in texts.values() for t in table.values())
    learnt_and_packed(recipe, texts)
