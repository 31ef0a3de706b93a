# SPDX-License-Identifier: Apache-2.0
"""The commands that ``--dry-run`` prints do the same with stock ESPnet alone, pasted in a shell."""

import os
import re
import zipfile
from pathlib import Path

import pytest
import yaml
from recipe_tree import reaches_python
from warm import run_stock

from espnet_ext.data.tables import read_table

pytestmark = pytest.mark.e2e
# BPE and global normalisation: files besides the model that the commands have to name.
OPTIONS = [
    "--prepare.args=[--train-minutes, '1', --dev-utts, '4', --test-utts, '4']",
    "--tokens.type=bpe",
    "--tokens.size=32",
    "--decode.sets=[test]",
    "--finetune.args.max_epoch=1",
    "--finetune.args.normalize=global_mvn",
    "--finetune.args.encoder_conf={num_blocks: 1, output_size: 32, linear_units: 32}",
    "--finetune.args.decoder_conf={linear_units: 32}",
]


@pytest.fixture
def stock_shell(recipe_copy, tmp_path):
    """A recipe with its data prepared, and a function that runs a command without this package."""
    recipe = recipe_copy("synth/asr1", tmp_path / "tree")
    recipe.run(*OPTIONS, "--stop-stage", "4", "--nj", "1")
    # A package that ESPnet needs and that is not available everywhere; --dry-run says so.
    distance = "from rapidfuzz.distance.Levenshtein import distance as eval\n"
    (tmp_path / "stands_in").mkdir()
    (tmp_path / "stands_in/editdistance.py").write_text(distance)
    found = f"import sys\nsys.path.insert(1, {str(tmp_path / 'stands_in')!r})\n"

    def run(command):
        code, cwd, env = reaches_python(["sh", "-c", command], recipe.path, {**os.environ})
        run_stock(found + until_exit(code), Path(cwd), env)

    return recipe, run


def until_exit(code):
    """Code that may end by ``sys.exit()``, but not by an exit code."""
    lines = "".join(f"    {line}\n" for line in code.splitlines())
    return f"try:\n{lines}except SystemExit as e:\n    assert not e.code, e.code\n"


def stock_commands(recipe, stage):
    """The commands of one stage, as a person reads them off the terminal."""
    out = recipe.run(*OPTIONS, "--dry-run", "--stage", stage, "--stop-stage", stage, "--ngpu", "0")
    return re.findall(r"^  stock: (.*)$", out, re.M)


def test_the_printed_commands_train_decode_and_pack_with_stock_espnet_alone(stock_shell):
    recipe, run = stock_shell
    commands = [c for stage in ("7", "8", "10") for c in stock_commands(recipe, stage)]
    assert [re.search(r"espnet2\.bin\.\w+", c)[0].rpartition(".")[2] for c in commands] == [
        "asr_train",
        "asr_train",
        "asr_inference",
        "pack",
    ]
    for command in commands:
        run(command)
    exp = recipe.path / "exp/base"
    config = yaml.safe_load((exp / "finetune/config.yaml").read_text())
    assert config["normalize"] == "global_mvn" and config["max_epoch"] == 1
    hyps = list((exp / "decode/stock/test").rglob("text"))
    assert [read_table(p).keys() for p in hyps] == [
        read_table(recipe.path / "dump/test/text").keys()
    ]
    names = zipfile.ZipFile(exp / "synth_asr1_base.zip").namelist()
    assert {"bpe.model", "feats_stats.npz"} <= {Path(n).name for n in names}


def test_the_token_list_of_the_printed_command_is_ours(stock_shell):
    recipe, run = stock_shell
    options = [x for x in OPTIONS if not x.startswith("--tokens.")]
    out = recipe.run(*options, "--stage", "4", "--stop-stage", "4", "--dry-run")
    command = re.search(r"^  stock: (.*)$", out, re.M)[1]
    recipe.run(*options, "--stage", "4", "--stop-stage", "4")
    tokens = recipe.path / "dump/tokens_char/tokens.txt"
    ours = tokens.read_bytes()
    tokens.unlink()
    run(command)
    assert tokens.read_bytes() == ours
