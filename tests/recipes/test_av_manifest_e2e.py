# SPDX-License-Identifier: Apache-2.0
"""The multi-stage recipe on a tiny manifest: all stages, and the plans of its presets."""

import json
import re

import numpy as np
import pytest
import soundfile as sf
from av_trees import Maker
from recipe_tree import run_stock_inference

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
VIDEO = {"size": 16, "patch": [2, 8, 8], "width": 16, "blocks": 1, "heads": 2,
         "decoder_width": 16, "decoder_heads": 2}  # fmt: skip
PHASES = ("pretrain", "midtrain", "finetune")
TINY = [
    f"--args.encoder_conf={json.dumps(SMALL)}",
    *(f"--pretrain.args.multistage.{key}={json.dumps(value)}" for key, value in VIDEO.items()),
    *(f"--{p}.args.decoder_conf={{num_blocks: 1, linear_units: 16}}" for p in PHASES[1:]),
    *(f"--{p}.args.max_epoch=1" for p in PHASES),
    *(f"--{p}.args.num_iters_per_epoch={n}" for p, n in zip(PHASES, (2, 40, 40), strict=True)),
    "--pretrain.args.batch_size=4", "--pretrain.args.num_workers=0",
    "--tokens.type=word", "--midtrain.tokens.type=word",
    "--decode.args.beam_size=1", "--decode.args.translation.beam_size=1",
    # Words are likely after so few updates, without CTC; the end is not found.
    *(f"--decode.args.{part}{key}" for part in ("", "translation.")
      for key in ("maxlenratio=-5", "ctc_weight=0")),
    "--ngpu=0", "--nj=1",
]  # fmt: skip
COUNTS = {"av_train": 8, "av_dev": 4, "st_train": 8, "st_dev": 4, "st_test": 2,
          "train": 8, "dev": 4, "test": 2}  # fmt: skip


def make_manifest(folder):
    """Real clips and noises with letters as text; the last set takes the sound of its clips."""
    clip, rng, rows = Maker(folder), np.random.default_rng(0), []
    for name, count in COUNTS.items():
        for i in range(count):
            row = {"set": name, "id": f"{name}{i}", "speaker": f"s{i % 2}"}
            if name.startswith("av_") or name == "test":
                row["video"] = clip(f"clips/{name}{i}.mp4").relative_to(folder).as_posix()
            else:
                row["audio"] = f"{name}{i}.wav"
                sound = 0.1 * rng.standard_normal(int(rng.integers(12000, 16000)))
                sf.write(folder / row["audio"], sound, 16000)
            if not name.startswith("av_"):
                row["text"] = " ".join(["ab", "ba", "cab"][i % 3 :])
            if name.startswith("st_"):
                row |= {"translation": " ".join(["è", "de", "fed"][i % 3 :]), "pair": "en-it"}
            rows.append(row)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
    (folder / "manifest.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "manifest.jsonl"


def check_texts(decoded):
    """Stock ESPnet has recognised and translated the same words as stage 8, and some in each."""
    stock = decoded / "stock"
    pairs = [(decoded / "beam" / s / "text", stock / s) for s in ("dev", "test")]
    for s in ("st_dev", "st_test"):
        pairs.append((decoded / "translation" / s / "translation", stock / "translation" / s))
    for ours, theirs in pairs:
        texts = read_table(ours)
        assert read_table(theirs / "1best_recog/text") == texts and all(texts.values()), texts


def test_from_a_manifest_to_a_packed_recogniser(recipe_copy, tmp_path):
    pytest.importorskip("av")
    env = {"MANIFEST": str(make_manifest(tmp_path))}
    recipe = recipe_copy("manifest/multistage1", tmp_path / "tree")
    out = recipe.finish(*TINY, env=env)
    assert "stock ESPnet loads all" in out and out.count("45 of 45 tensors came") == 2

    data = recipe.path / "data"
    assert {p.parent.name: len(read_table(p)) for p in data.glob("*/wav.scp")} == COUNTS
    words = [set(p.read_text().split()) for p in recipe.path.glob("dump/tokens*/tokens.txt")]
    assert len(words) == 2 and {"è" in found for found in words} == {True, False}
    sets = json.loads((recipe.path / "results/full.json").read_text())["sets"]
    assert sets.keys() == {"dev", "test", "st_dev", "st_test", "av_dev"}

    run_stock_inference(recipe, *TINY, env=env)
    check_texts(recipe.path / "exp/full/decode")

    for preset, phases in {"pre_only": {"pretrain"}, "mid_only": {"midtrain"}, "scratch": set(),
                           "without_clips": {"midtrain"}}.items():  # fmt: skip
        plan = recipe.run(*TINY[-2:], "--preset", preset, "--dry-run", env=env)
        trained = set(re.findall(rf"exp/{preset}/(\w+)/config\.yaml", plan))
        assert trained == phases | {"finetune"}, preset
