# SPDX-License-Identifier: Apache-2.0
"""A sweep of a toy recipe, not run: a stand-in for the runner writes the records."""

import json
from pathlib import Path

import pytest
import yaml

from espnet_ext.recipe import config, experiments, runner
from espnet_ext.recipe.schema import Recipe

RECIPE = {
    "recipe": "toy/asr1",
    "finetune": {"config": "conf/train.yaml"},
    "decode": {},
    "score": {},
}
LR = {
    "name": "lr",
    "key": "finetune.args.optim_conf.lr",
    "values": [0.001, 0.002],
    "seeds": [1, 2],
}
WORDS = [4, 3, 5]


def record(recipe, set_name="dev", method="greedy_ctc", ref="ab" * 32):
    """A run record whose word errors grow with the learning rate and the seed."""
    lr = recipe.finetune.args.get("optim_conf", {}).get("lr", 0.0)
    errors = [int(lr * 1000), recipe.seed, recipe.finetune.args.get("blocks", 0)]
    wer = {"rate": 100 * sum(errors) / 12, "sub": sum(errors), "del": 0, "ins": 0, "ref": 12}
    cer = {"rate": 10.0 * recipe.seed, "sub": 6 * recipe.seed, "del": 0, "ins": 0, "ref": 60}
    per_utt = {"ids_sha256": "ef" * 32, "word_errors": errors, "word_ref": WORDS}
    decoded = {"utterances": 3, "ref_sha256": ref, "hyp_sha256": "cd" * 32, "decode_wall_s": 1.5}
    decoded |= {"audio_s": 6, "rtf": 0.25, "wer": wer, "cer": cer, "per_utt": per_utt}
    fields = {"schema": 1, "recipe": "toy/asr1", "title": "", "date": "2026-01-31"}
    fields |= {"name": recipe.name, "group": recipe.group, "seed": recipe.seed}
    fields |= {"commit": "unknown", "dirty": False, "command": "./run.sh", "device": "CPU"}
    fields |= {"config_sha256": "12" * 32, "versions": {}, "phases": {}}
    return fields | {"sets": {set_name: {method: decoded}}}


class FakeRunner:
    """Takes the place of ``runner.main``: reads its options as it does, writes a record."""

    def __init__(self):
        self.seen, self.codes, self.changes = [], {}, {}

    def __call__(self, argv):
        opts = runner.options.parse(argv, {*Recipe.__dataclass_fields__})
        recipe = config.load(Path("recipe.yaml"), opts.overrides)
        self.seen.append((recipe, opts))
        if code := self.codes.get(recipe.name, 0):
            return code
        path = Path("results") / f"{recipe.name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record(recipe, **self.changes.get(recipe.name, {}))))
        return 0


@pytest.fixture
def fake(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    fake = FakeRunner()
    monkeypatch.setattr(runner, "main", fake)
    monkeypatch.setattr(experiments, "build_all", lambda *args: None)
    return fake


def write(**changes):
    path = Path("grid.yaml")
    content = {k: v for k, v in {**LR, **changes}.items() if v is not None}
    path.write_text(yaml.safe_dump(content))
    return path


EVIDENCE = {
    "seeds": [7],
    "base": {"finetune.args.blocks": 3, "finetune.args.max_epoch": 5, LR["key"]: 9},
    "systems": {"method": {"finetune.args.max_epoch": 8}, "baseline": {}},
}
