# SPDX-License-Identifier: Apache-2.0
"""The recipe on a manifest of two languages: letters aligned and learnt first, tags never.

It is one that ``espnet-ext new`` makes, whose values are those of manifest/dual_task1.
"""

import json

import pytest
import yaml

from espnet_ext.align.formats.directory import Header
from espnet_ext.data.synth.parallel import make_parallel
from espnet_ext.data.synth.parallel_sets import ParallelRequest
from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
REQUEST = ParallelRequest(
    pool=("fr", "it"), languages=("fr", "it"), joint=(), shares=(), minutes=0.4, pool_minutes=0.1,
    dev_utts=3, test_utts=2, pool_dev_utts=1,
)  # fmt: skip
SMALL = {"output_size": 16, "linear_units": 16, "num_blocks": 1, "attention_heads": 2}
SETS = [f"{part}_fr_it={part}:fr,it" for part in ("train", "dev", "test")]
ALIGN = {
    "mono": {"iterations": 2, "realign": [1], "gaussians": 140},
    "tri": {"iterations": 1, "realign": [], "leaves": 140},
}
PREPARE = ["--train-encoder", "train", "--encoder-steps", "2", "--set", *SETS]
TINY = [
    f"--prepare.args={json.dumps(PREPARE)}",
    "--data.train=train_fr_it", "--data.valid=dev_fr_it", "--data.test=[test_fr_it]",
    *(f"--align.{key}={json.dumps(value)}" for key, value in ALIGN.items()),
    f"--args.encoder_conf={json.dumps(SMALL)}",
    "--finetune.args.dual_task.blstm_cells=8",
    *(f"--{phase}.args.{key}" for phase in ("pretrain", "finetune")
      for key in ("max_epoch=1", "num_iters_per_epoch=4")),
    "--ngpu=0", "--nj=1",
]  # fmt: skip


def test_two_languages_from_a_manifest_to_concepts(new_recipe, tmp_path):
    pytest.importorskip("espeakng_loader")
    make_parallel(tmp_path / "spoken", REQUEST, lambda line: None)
    recipe = new_recipe("mycorpus/dual_task1", "--lang", "fr, it")
    env = {"MYCORPUS": str(tmp_path / "spoken")}
    out = recipe.run(*TINY, "--stop-stage=score", env=env)
    assert "pretrain: the model can be built" in out

    scores = json.loads((recipe.path / "results/dual.json").read_text())["sets"]["test_fr_it"]
    assert "concept" in str(scores)

    dump, exp = recipe.path / "dump", recipe.path / "exp/dual"
    tagged, plain = (read_table(dump / "train_fr_it" / name) for name in ("text", "plain"))
    assert any("<" in text for text in tagged.values())
    known = json.loads(dump.joinpath("align", "work", "train", "pronunciations.json").read_text())
    assert set(known["words"]) == {word for text in plain.values() for word in text.split()}
    header = Header.read(dump / "train_fr_it/align")
    letters = {c for word in known["words"] for c in word.lower() if c.isalpha()}
    assert set(header.phones[1:]) == letters and "é" in letters

    config = yaml.safe_load((exp / "pretrain/config.yaml").read_text())
    assert config["dual_task"]["resolved"]["phones"] == list(header.phones)
    tuned = yaml.safe_load((exp / "finetune/config.yaml").read_text())
    assert "exp/dual/pretrain/valid.loss.best.pth:encoder:encoder" in tuned["init_param"]

    # A system of its own without the pretraining needs no labels; nor does a given encoder.
    other = ["--name=plain", "--args.dual_task.pretrain=none", "--dry-run"]
    out = recipe.run(*TINY, *other, env=env)
    assert "no training of this configuration reads its labels" in out
    assert "exp/dual/pretrain" not in out
