# SPDX-License-Identifier: Apache-2.0
"""Every shipped training configuration is accepted by its task's parser and builds its model."""

import json
from pathlib import Path

import pytest
import yaml

from espnet_ext.align.formats.directory import Header
from espnet_ext.espnet import fastimport
from espnet_ext.recipe import config
from espnet_ext.recipe.stages import PHASES

ROOT = Path(__file__).resolve().parents[2]
SHARED = {ROOT / "conf/multistage": ROOT / "egs2/lrs3/multistage1"}  # and one of their recipes
FILES = [*ROOT.glob("egs2/*/*/conf/*.yaml"), *(p for f in SHARED for p in f.glob("*.yaml"))]
CONFIGS = sorted(p for p in FILES if "encoder" in yaml.safe_load(p.read_text()))


def test_there_are_configurations():
    assert len(CONFIGS) >= 2


def task_of(path):
    """The task of the phase with this configuration; one that no phase names is of the last."""
    folder = SHARED.get(path.parent, path.parents[1])
    recipe = config.load(folder / "recipe.yaml")
    phases = [p for name in PHASES if (p := getattr(recipe, name)) is not None]
    named = [p for p in phases if (folder / p.config).resolve() == path]
    return (named or phases[-1:])[0].task


@pytest.mark.parametrize(
    "path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT)).removeprefix("egs2/")
)
def test_configuration_builds(path, tmp_path):
    fastimport.enable()
    from espnet_ext.espnet.task import find_task

    task = find_task(task_of(path))
    tokens = tmp_path / "tokens.txt"
    tokens.write_text("<blank>\n<unk>\n" + "".join(f"t{i}\n" for i in range(28)) + "<sos/eos>\n")
    argv = ["--config", str(path), "--token_list", str(tokens), "--token_type", "char"]
    if "aux" in yaml.safe_load(path.read_text()):  # stage 3 makes the header before it trains
        header = Header("senone", 500, silence_ids=(0, 1, 2), phones=("SIL", "AH"))
        (tmp_path / "header.json").write_text(json.dumps(header.to_json()))
        argv += ["--aux", f"header={tmp_path / 'header.json'}"]
    args = task.get_parser().parse_args([*argv, "--output_dir", str(tmp_path)])
    if hasattr(task, "stand_in"):  # for what earlier stages make
        task.stand_in(args)
    model = task.build_model(args)
    assert sum(p.numel() for p in model.parameters()) > 100_000
